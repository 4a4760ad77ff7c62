#!/bin/sh
# Our part of the Debian Installer on alpha: run once it has read preseed.cfg.
set -eu
umask 022
root=
mkdir -p "$root"/tmp/rhizome
(umask 077; : >"$root"/tmp/rhizome/rhizome.conf)
cat >"$root"/tmp/rhizome/rhizome.conf <<'RHIZOME-PART-END'
# What rhizome-installer goes by: see there.
report https://192.168.1.2:7443/v1/report
report https://192.168.1.3:7443/v1/report
serial S5XX NX0R
min 100000000000
RHIZOME-PART-END
chmod 0644 "$root"/tmp/rhizome/rhizome.conf
(umask 077; : >"$root"/tmp/rhizome/ca.pem)
cat >"$root"/tmp/rhizome/ca.pem <<'RHIZOME-PART-END'
-----BEGIN CERTIFICATE-----
ZXhhbXBsZSBvZiBhIGNlcnRpZmljYXRl
-----END CERTIFICATE-----
RHIZOME-PART-END
chmod 0644 "$root"/tmp/rhizome/ca.pem
(umask 077; : >"$root"/tmp/rhizome/claim)
cat >"$root"/tmp/rhizome/claim <<'RHIZOME-PART-END'
Authorization: Bearer example-claim
RHIZOME-PART-END
chmod 0600 "$root"/tmp/rhizome/claim
(umask 077; : >"$root"/tmp/rhizome/rhizome-installer)
cat >"$root"/tmp/rhizome/rhizome-installer <<'RHIZOME-PART-END'
#!/bin/sh
# What a distribution's own installer does for Rhizome: chooses the disk by the
# Node's spec.disk, and tells the PXE service over HTTPS how far it is.
#
#   rhizome-installer disk            prints the path of the one disk to install on,
#                                     once the PXE service has acknowledged it
#   rhizome-installer report STEP MESSAGE
#   rhizome-installer installed       until it is acknowledged, for half an hour
#   rhizome-installer failed MESSAGE
#
# Beside this file lie
#   rhizome.conf   one order a line: report URL; path, serial, wwn, min or max VALUE
#   ca.pem         the authority that vouches for the PXE service
#   claim          the claim of this installation, as a header line
#
# It needs a POSIX shell, sysfs, and curl or GNU wget. No secret is ever an argument
# of a program or part of the output. RHIZOME_ROOT is put before /sys and /proc;
# RHIZOME_PAUSE is the seconds between two looks, RHIZOME_TRIES how many (for tests).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${RHIZOME_ROOT:-}
pause=${RHIZOME_PAUSE:-3}
hint_path=
hint_serial=
hint_wwn=
hint_min=0
hint_max=0
reports=

while read -r order value; do
    case $order in
    report) reports="$reports $value" ;;
    path) hint_path=$value ;;
    serial) hint_serial=$value ;;
    wwn) hint_wwn=$value ;;
    min) hint_min=$value ;;
    max) hint_max=$value ;;
    esac
done <"$here/rhizome.conf"

say() { printf 'rhizome: %s\n' "$*" >&2; }

# --- Telling the PXE service

# plain TEXT: in one line, without what JSON reads as its own.
# shellcheck disable=SC1003 # the last one is a backslash for tr
plain() { printf '%s' "$1" | tr '\n\t"\\' "  '/" | LC_ALL=C tr -cd ' -~' | cut -c 1-3000; }

# post STAGE STEP MESSAGE [DISK] asks one PXE service after the other; its output is
# the HTTP status of the last answer, 000 if there was none.
post() (
    umask 077
    work=$(mktemp -d "$here/report.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    printf '{"stage":"%s","step":"%s","message":"%s","disk":"%s"}\n' \
        "$1" "$(plain "$2")" "$(plain "$3")" "$(plain "${4:-}")" >"$work/body"
    code=000
    for url in $reports; do
        if command -v curl >/dev/null; then
            code=$(curl --silent --output /dev/null --write-out '%{http_code}' --connect-timeout 10 --max-time 30 \
                --cacert "$here/ca.pem" --header @"$here/claim" --header 'Content-Type: application/json' \
                --data @"$work/body" --url "$url") || code=000
        else
            # The directory is empty, so that no other authority vouches.
            mkdir -p "$work/none"
            {
                echo "ca_certificate = $here/ca.pem"
                echo "ca_directory = $work/none"
                echo "header = $(cat "$here/claim")"
                echo 'header = Content-Type: application/json'
                echo 'timeout = 30'
                echo 'tries = 1'
                echo 'server_response = on'
            } >"$work/wgetrc"
            WGETRC=$work/wgetrc wget -O /dev/null --post-file="$work/body" "$url" >"$work/log" 2>&1 || :
            code=$(sed -n 's|^ *HTTP/[0-9.]* *\([0-9][0-9][0-9]\).*|\1|p' "$work/log" | tail -n 1)
            code=${code:-000}
        fi
        [ "$code" = 000 ] || break
    done
    echo "$code"
)

# acknowledged TRIES STAGE STEP MESSAGE [DISK] asks until the answer is a yes. A
# refusal ends it: the claim is not good for that any more.
acknowledged() {
    left=$1
    shift
    while :; do
        code=$(post "$@")
        case $code in
        204) return 0 ;;
        401 | 403 | 404)
            say "the PXE service refuses (HTTP status $code): look at the Node's conditions"
            return 1
            ;;
        esac
        left=$((left - 1))
        if [ "$left" -le 0 ]; then
            say "the PXE service does not acknowledge (HTTP status $code)"
            return 1
        fi
        sleep "$pause"
    done
}

# --- Choosing the disk, by the same rules as the installer of disk images does

# first FILE...: the text of the first that has one, with single blanks.
first() (
    set -f
    for file in "$@"; do
        if [ -r "$file" ]; then
            text=
            read -r text <"$file" || :
            # shellcheck disable=SC2086 # its words
            set -- $text
            if [ "$#" -gt 0 ]; then
                printf '%s' "$*"
                return
            fi
        fi
    done 2>/dev/null
)

# field FILE OFFSET LENGTH: text out of an ATA identity, whose bytes are swapped. Two at
# a time, since busybox swaps none of a single byte.
field() { dd if="$1" bs=2 skip="$(($2 / 2))" count="$(($3 / 2))" conv=swab 2>/dev/null | LC_ALL=C tr -c ' -~' ' ' | tr -s ' ' | sed 's/^ //; s/ $//'; }

serial_of() {
    serial=$(first "$1/serial" "$1/device/serial")
    if [ -z "$serial" ] && [ -r "$1/device/vpd_pg80" ]; then
        # SPC-5 section 7.7.18: four bytes of header, then the number.
        serial=$(tail -c +5 "$1/device/vpd_pg80" | LC_ALL=C tr -c ' -~' ' ' | tr -s ' ' | sed 's/^ //; s/ $//')
    fi
    # SAT-4 section 12.4.2: the IDENTIFY DEVICE data begin at byte 60.
    page=$1/device/vpd_pg89
    if [ -r "$page" ] && [ "$(wc -c <"$page")" -ge 572 ] && [ -n "$(field "$page" 114 40)" ]; then
        identity=$(field "$page" 80 20)
        serial=${identity:-$serial}
    fi
    if [ -z "$serial" ] && is_usb "$1"; then
        above=$(readlink -f "$1")
        while [ "${#above}" -gt 1 ]; do
            if [ -n "$(first "$above/idVendor")" ]; then
                serial=$(first "$above/serial")
                break
            fi
            above=${above%/*}
        done
    fi
    printf '%s' "$serial"
}

# lower TEXT: without capitals, with single blanks. Ranges, since the Debian Installer's tr
# knows no classes.
# shellcheck disable=SC2018,SC2019 # these are ASCII
lower() { printf '%s' "$1" | tr -s ' \t' ' ' | sed 's/^ //; s/ $//' | LC_ALL=C tr 'A-Z' 'a-z'; }

bare_wwn() { lower "$1" | sed 's/^wwn-//; s/^nvme-//; s/^naa[.]//; s/^eui[.]//; s/^uuid[.]//; s/^t10[.]//; s/^0x//'; }

is_usb() {
    case $(cd -P "$1" && pwd) in */usb*) return 0 ;; esac
    return 1
}

# in_use DIRECTORY NAME: what holds the disk or a partition of it.
in_use() {
    for holder in "$1"/holders/* "$1/$2"*/holders/*; do
        if [ -e "$holder" ] || [ -L "$holder" ]; then
            echo "${holder##*/}"
            return
        fi
    done
    case $2 in *[0-9]) parts="p" ;; *) parts= ;; esac
    for table in self/mounts swaps; do
        [ -r "$root/proc/$table" ] || continue
        while read -r device place _; do
            case $device in
            "/dev/$2") ;;
            "/dev/$2$parts"*)
                case ${device#"/dev/$2$parts"} in '' | *[!0-9]*) continue ;; esac
                ;;
            *) continue ;;
            esac
            [ "$table" = swaps ] && echo swap || echo "the file system mounted at $place"
            return
        done <"$root/proc/$table"
    done
}

# against DIRECTORY NAME: the first reason not to choose a disk, nothing if none.
against() {
    named=$hint_path$hint_serial$hint_wwn
    size=$(($(first "$1/size") * 512))
    type=$(first "$1/device/type")
    if [ -n "$hint_path" ] && [ "$hint_path" != "/dev/$2" ] && [ "$(readlink -f "$hint_path")" != "/dev/$2" ]; then
        echo "its path is not $hint_path"
    elif [ -n "$hint_serial" ] && [ "$(lower "$hint_serial")" != "$(lower "$(serial_of "$1")")" ]; then
        echo "its serial is not $hint_serial"
    elif [ -n "$hint_wwn" ] && [ "$(bare_wwn "$hint_wwn")" != "$(bare_wwn "$(first "$1/wwid" "$1/device/wwid")")" ]; then
        echo "its WWN is not $hint_wwn"
    elif is_cd "$2" "$type"; then
        echo 'it is a CD drive'
    elif [ ! -e "$1/device" ]; then
        echo 'it is made by the kernel, not hardware'
    elif is_firmware "$2"; then
        echo "it is an eMMC's own boot partition"
    elif [ "$size" -le 0 ]; then
        echo 'it has no medium'
    elif [ "$(first "$1/ro")" = 1 ]; then
        echo 'it is read-only'
    elif [ -n "$(in_use "$1" "$2")" ]; then
        echo "it is in use by $(in_use "$1" "$2")"
    elif [ -z "$named" ] && is_usb "$1"; then
        echo 'it is a USB disk: choose it by path, serial or WWN'
    elif [ -z "$named" ] && { [ "$(first "$1/removable")" = 1 ] || [ "$type" = SD ]; }; then
        echo 'it is removable: choose it by path, serial or WWN'
    elif [ "$size" -lt "$hint_min" ]; then
        echo "it is smaller than $hint_min bytes"
    elif [ "$hint_max" -gt 0 ] && [ "$size" -gt "$hint_max" ]; then
        echo "it is larger than $hint_max bytes"
    fi
}

is_cd() {
    case $1 in
    sr[0-9]* | fd[0-9]*) return 0 ;;
    sd*) [ "$2" != 0 ] ;;
    *) return 1 ;;
    esac
}

is_firmware() {
    case $1 in mmcblk*boot[0-9]* | mmcblk*rpmb | mmcblk*gp[0-9]*) return 0 ;; esac
    return 1
}

# look fills chosen, count and seen (every disk with the reason against it).
look() {
    chosen=
    count=0
    seen=
    for dir in "$root"/sys/block/*; do
        [ -n "$(first "$dir/size")" ] || continue
        [ "$(first "$dir/hidden")" != 1 ] || continue
        # Slashes of device names are exclamation marks in sysfs.
        name=${dir##*/}
        case $name in *!*) name=${name%%!*}/${name#*!} ;; esac
        if [ ! -e "$dir/device" ] && [ -z "$hint_path$hint_serial$hint_wwn" ]; then
            continue
        fi
        why=$(against "$dir" "$name")
        if [ -z "$why" ]; then
            count=$((count + 1))
            chosen=/dev/$name
            text="$chosen, $(first "$dir/device/model" "$dir/device/name"), serial $(serial_of "$dir"), $(first "$dir/size") sectors"
        fi
        seen="$seen; /dev/$name (serial $(serial_of "$dir"), $(first "$dir/size") sectors): ${why:-matches}"
    done
}

# choose looks until the same has been seen twice in a row, and for a minute if no
# disk matches: disks turn up one by one.
choose() {
    tries=${RHIZOME_TRIES:-20}
    before=none
    while :; do
        look
        if [ "$before" = "$seen" ] && [ "$count" -gt 0 ]; then
            break
        fi
        before=$seen
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || break
        sleep "$pause"
    done
    if [ "$count" -eq 1 ]; then
        return 0
    fi
    rule=DiskNoMatch
    if [ "$count" -gt 1 ]; then
        rule=DiskAmbiguous
    elif [ -z "$seen" ]; then
        rule=DiskNone
    fi
    reason="$rule: $count disks of this machine match the Node's spec.disk, and exactly one must: nothing was written${seen}"
    return 1
}

case ${1:-} in
disk)
    if ! choose; then
        say "$reason"
        # What follows reads the reason from here.
        printf '%s\n' "$reason" >"$here/reason"
        exit 1
    fi
    say "installing on $text"
    # Nothing is written before the PXE service knows where.
    if ! acknowledged 100 Installing disk "installing on $text" "$text"; then
        echo 'the choice of the disk was not acknowledged: nothing was written' >"$here/reason"
        exit 1
    fi
    echo "$chosen"
    ;;
report)
    say "$2: $3"
    # What counts is done whether or not somebody watches.
    post Installing "$2" "$3" >/dev/null || :
    ;;
installed)
    acknowledged 600 Installed 'done' 'the installer has ended' || :
    ;;
failed)
    say "the installation failed: $2"
    acknowledged 40 Failed install "$2" || :
    ;;
*)
    say 'want disk, report, installed or failed'
    exit 2
    ;;
esac
RHIZOME-PART-END
chmod 0755 "$root"/tmp/rhizome/rhizome-installer
(umask 077; : >"$root"/tmp/rhizome/disk.sh)
cat >"$root"/tmp/rhizome/disk.sh <<'RHIZOME-PART-END'
# shellcheck shell=sh
# Chooses the disk before the partitioner looks at any.
here=${RHIZOME_DIR:-/tmp/rhizome}
if disk=$("$here/rhizome-installer" disk); then
    debconf-set partman-auto/disk "$disk"
    debconf-set grub-installer/bootdev "$disk"
    exit 0
fi
"$here/rhizome-installer" failed "$(cat "$here/reason")"
sleep 60
reboot
# The partitioner, left alone, would take the only disk that there is.
while :; do
    sleep 60
done
RHIZOME-PART-END
chmod 0644 "$root"/tmp/rhizome/disk.sh
(umask 077; : >"$root"/tmp/rhizome/watch.sh)
cat >"$root"/tmp/rhizome/watch.sh <<'RHIZOME-PART-END'
# shellcheck shell=sh
# Tells the PXE service where the Debian Installer is, by its log, and when it has
# failed or waits for somebody.
here=${RHIZOME_DIR:-/tmp/rhizome}
log=${RHIZOME_LOG:-/var/log/syslog}
pause=${RHIZOME_PAUSE:-5}
seen=
size=0
quiet=0

give_up() {
    "$here/rhizome-installer" failed "$1"
    sleep 60
    reboot
    exit 1
}

while [ ! -e "$here/over" ]; do
    failed=$(sed -n "s/.*main-menu.*Menu item '\([^']*\)' failed.*/\1/p" "$log" | tail -n 1)
    if [ -n "$failed" ]; then
        give_up "the Debian Installer's step $failed failed: $(grep -v main-menu "$log" | tail -n 5)"
    fi
    step=$(sed -n "s/.*main-menu.*Menu item '\([^']*\)' selected.*/\1/p" "$log" | tail -n 1)
    if [ "$step" != "$seen" ]; then
        seen=$step
        "$here/rhizome-installer" report "$step" "the Debian Installer is at $step" 2>/dev/null
    fi
    # It would wait at its console for another mirror.
    if grep -q 'choose-mirror.*does not support the specified release' "$log"; then
        give_up "the Debian Installer finds no release at the mirror, which is packages in the OperatingSystem's spec.media: $(grep choose-mirror "$log" | grep -v DEBUG | tail -n 2)"
    fi
    before=$size
    size=$(wc -c <"$log")
    quiet=$((quiet + 1))
    if [ "$size" != "$before" ]; then
        quiet=0
    fi
    if [ "$quiet" -ge 360 ]; then
        give_up "the Debian Installer has said nothing for half an hour at $step: it may wait for an answer on its console"
    fi
    sleep "$pause"
done
RHIZOME-PART-END
chmod 0644 "$root"/tmp/rhizome/watch.sh
(umask 077; : >"$root"/tmp/rhizome/late.sh)
cat >"$root"/tmp/rhizome/late.sh <<'RHIZOME-PART-END'
# What makes the installed system what it is to be, before the installer reboots.
set -eu
umask 022
root=/target
mkdir -p "$root"/etc/example
(umask 077; : >"$root"/etc/example/plain.conf)
cat >"$root"/etc/example/plain.conf <<'RHIZOME-END'
# readable: as it is
key = "value"
RHIZOME-END
chmod 0644 "$root"/etc/example/plain.conf
(umask 077; : >"$root"/etc/example/secret)
base64 -d >"$root"/etc/example/secret <<'RHIZOME-END'
bm8gbmV3bGluZSBhdCB0aGUgZW5k
RHIZOME-END
chmod 0600 "$root"/etc/example/secret
(umask 077; : >"$root"/etc/example/binary)
base64 -d >"$root"/etc/example/binary <<'RHIZOME-END'
AAEC/w==
RHIZOME-END
chmod 0400 "$root"/etc/example/binary
(umask 077; : >"$root"/etc/example/empty)
chmod 0644 "$root"/etc/example/empty
mkdir -p "$root"/etc/systemd/system
(umask 077; : >"$root"/etc/systemd/system/swap.target)
chmod 0644 "$root"/etc/systemd/system/swap.target
(umask 077; : >"$root"/etc/systemd/system/firewalld.service)
chmod 0644 "$root"/etc/systemd/system/firewalld.service
(umask 077; : >"$root"/etc/systemd/system/ufw.service)
chmod 0644 "$root"/etc/systemd/system/ufw.service
(umask 077; : >"$root"/etc/systemd/system/nm-cloud-setup.service)
chmod 0644 "$root"/etc/systemd/system/nm-cloud-setup.service
(umask 077; : >"$root"/etc/systemd/system/nm-cloud-setup.timer)
chmod 0644 "$root"/etc/systemd/system/nm-cloud-setup.timer
mkdir -p "$root"/etc/systemd
(umask 077; : >"$root"/etc/systemd/zram-generator.conf)
chmod 0644 "$root"/etc/systemd/zram-generator.conf
mkdir -p "$root"/usr/local/sbin
(umask 077; : >"$root"/usr/local/sbin/rhizome-wake-on-lan)
cat >"$root"/usr/local/sbin/rhizome-wake-on-lan <<'RHIZOME-END'
#!/bin/sh
# Turns waking by magic packet on for the interface with this machine's declared
# MAC. Hardware that cannot be woken is not an error: it is turned on by hand.
set -eu
mac=52:54:00:12:34:56
net=${RHIZOME_ROOT:-}/sys/class/net

for interface in "$net"/*; do
    name=${interface##*/}
    if [ ! -e "$interface/address" ] || [ "$(cat "$interface/address")" != "$mac" ]; then
        continue
    fi
    # A bridge or bond has its port's address: only hardware has a device.
    if [ ! -e "$interface/device" ]; then
        continue
    fi
    if ! command -v ethtool >/dev/null; then
        echo "rhizome: ethtool is not installed: cannot make sure that $name wakes by magic packet"
        exit 0
    fi
    if ethtool -s "$name" wol g; then
        echo "rhizome: $name wakes by magic packet"
    else
        echo "rhizome: $name cannot be woken by magic packet"
    fi
    exit 0
done
echo "rhizome: no interface has the address $mac"
RHIZOME-END
chmod 0755 "$root"/usr/local/sbin/rhizome-wake-on-lan
(umask 077; : >"$root"/etc/systemd/system/example.service)
cat >"$root"/etc/systemd/system/example.service <<'RHIZOME-END'
[Service]
ExecStart=/bin/true
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/example.service
mkdir -p "$root"/etc/systemd/system/multi-user.target.d
(umask 077; : >"$root"/etc/systemd/system/multi-user.target.d/example.service.conf)
cat >"$root"/etc/systemd/system/multi-user.target.d/example.service.conf <<'RHIZOME-END'
[Unit]
Wants=example.service
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/multi-user.target.d/example.service.conf
(umask 077; : >"$root"/etc/systemd/system/later.service)
cat >"$root"/etc/systemd/system/later.service <<'RHIZOME-END'
[Service]
ExecStart=/bin/true
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/later.service
(umask 077; : >"$root"/etc/systemd/system/rhizome-wake-on-lan.service)
cat >"$root"/etc/systemd/system/rhizome-wake-on-lan.service <<'RHIZOME-END'
[Unit]
Description=Let this machine be woken by a magic packet (Rhizome)
After=network.target

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/rhizome-wake-on-lan

[Install]
WantedBy=multi-user.target
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/rhizome-wake-on-lan.service
(umask 077; : >"$root"/etc/systemd/system/multi-user.target.d/rhizome-wake-on-lan.service.conf)
cat >"$root"/etc/systemd/system/multi-user.target.d/rhizome-wake-on-lan.service.conf <<'RHIZOME-END'
[Unit]
Wants=rhizome-wake-on-lan.service
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/multi-user.target.d/rhizome-wake-on-lan.service.conf
(umask 077; : >"$root"/usr/local/sbin/rhizome-first-boot)
cat >"$root"/usr/local/sbin/rhizome-first-boot <<'RHIZOME-END'
#!/bin/sh
# What Rhizome runs at the first boot, once.
/bin/echo 'two words' '$not expanded'
mkdir -p /var/lib/rhizome
: >/var/lib/rhizome/first-boot
RHIZOME-END
chmod 0755 "$root"/usr/local/sbin/rhizome-first-boot
(umask 077; : >"$root"/etc/systemd/system/rhizome-first-boot.service)
cat >"$root"/etc/systemd/system/rhizome-first-boot.service <<'RHIZOME-END'
[Unit]
Description=What is to be done at the first boot (Rhizome)
ConditionPathExists=!/var/lib/rhizome/first-boot
Before=example.service rhizome-wake-on-lan.service

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/rhizome-first-boot

[Install]
WantedBy=multi-user.target
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/rhizome-first-boot.service
(umask 077; : >"$root"/etc/systemd/system/multi-user.target.d/rhizome-first-boot.service.conf)
cat >"$root"/etc/systemd/system/multi-user.target.d/rhizome-first-boot.service.conf <<'RHIZOME-END'
[Unit]
Wants=rhizome-first-boot.service
RHIZOME-END
chmod 0644 "$root"/etc/systemd/system/multi-user.target.d/rhizome-first-boot.service.conf
mkdir -p "$root"/root/.ssh
(umask 077; : >"$root"/root/.ssh/authorized_keys)
cat >"$root"/root/.ssh/authorized_keys <<'RHIZOME-END'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExamp you@home
RHIZOME-END
chmod 0600 "$root"/root/.ssh/authorized_keys
mkdir -p "$root"/etc
(umask 077; : >"$root"/etc/hostname)
cat >"$root"/etc/hostname <<'RHIZOME-END'
alpha
RHIZOME-END
chmod 0644 "$root"/etc/hostname
mkdir -p "$root"/etc/ssh/sshd_config.d
(umask 077; : >"$root"/etc/ssh/sshd_config.d/10-rhizome.conf)
cat >"$root"/etc/ssh/sshd_config.d/10-rhizome.conf <<'RHIZOME-END'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
RHIZOME-END
chmod 0600 "$root"/etc/ssh/sshd_config.d/10-rhizome.conf
chmod 0700 "$root"/root/.ssh

: >/target/etc/resolv.conf
echo nameserver 192.168.1.1 >>/target/etc/resolv.conf
echo nameserver 9.9.9.9 >>/target/etc/resolv.conf
# Upgrades of the loader leave the firmware's boot order alone, as the installer did.
printf '%s grub2/update_nvram boolean false\n' grub-efi-amd64 grub-efi-arm64 | chroot /target debconf-set-selections || :
: >/tmp/rhizome/over
/tmp/rhizome/rhizome-installer installed
RHIZOME-PART-END
chmod 0644 "$root"/tmp/rhizome/late.sh
# It reads nothing and writes nothing that the installer would wait for.
sh /tmp/rhizome/watch.sh </dev/null >/dev/null 2>&1 3>&- &
