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
