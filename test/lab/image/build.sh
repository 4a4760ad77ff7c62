#!/bin/sh
# Builds the lab's operating system image: a generic Debian 12 cloud image for
# x86-64 that boots on UEFI and BIOS and is configured by cloud-init (NoCloud).
#
# usage: build.sh [DIR]
#
# Without DIR the image is built into the lab's cache, unless it is there, and
# its path is printed.
#
# DIR gets os.raw.zst (GPT disk image), os.raw.zst.sha256, os.raw.size (bytes
# unpacked), vmlinuz and packages (what is in it, with versions). The work is
# done without loop devices and without mounts outside mmdebstrap.
#
# The packages come from the machine's own Debian 12 apt sources;
# LAB_APT_SOURCES names a sources file to use in their place.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 0 ]; then
	cd "$here/.." && exec go run ./cmd/lab image
fi
out=$1
suite=bookworm
label=cloudimg-rootfs
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT INT TERM

say() { printf 'lab image: %s\n' "$*"; }

for tool in mmdebstrap mke2fs mkfs.vfat mcopy sgdisk grub-mkimage zstd; do
	command -v "$tool" >/dev/null || { say "$tool is missing: install the packages in test/lab/packages.txt" >&2; exit 1; }
done

# --- where the packages come from -------------------------------------------

sources=$work/sources.list
if [ -n "${LAB_APT_SOURCES:-}" ]; then
	sources=$LAB_APT_SOURCES
else
	apt-get indextargets \
		--format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' |
		awk -F'|' -v s="$suite" '$1 == "Debian" && ($2 == s || index($2, s "-") == 1) && $3 == "main" { print $4 }' |
		sort -u >"$sources"
	[ -s "$sources" ] || {
		say "this machine's apt has no Debian $suite sources (is 'apt-get update' needed?); name a sources file in LAB_APT_SOURCES" >&2
		exit 1
	}
fi

# --- root file system --------------------------------------------------------

# The machine's own exceptions from apt's date checks apply to the image too.
date_check=$(apt-config dump --format '%f %v%n' Acquire::Check-Date | awk '{print $2}')
valid_until=$(apt-config dump --format '%f %v%n' Acquire::Check-Valid-Until | awk '{print $2}')
packages=$(sed 's/#.*//' "$here/guest-packages.txt" | tr -s '[:space:]' ',' | sed 's/^,//; s/,$//')
root=$work/root

say "installing packages"
mmdebstrap --quiet --mode=root --variant=apt --format=directory \
	--aptopt="Acquire::Check-Date \"${date_check:-true}\"" \
	--aptopt="Acquire::Check-Valid-Until \"${valid_until:-true}\"" \
	--aptopt='Acquire::Languages "none"' \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--essential-hook='copy-in '"$here"'/root/etc /' \
	--include="$packages" \
	"$suite" "$root" "$sources"

say "configuring"
cp -r "$here/root/." "$root/"
chroot "$root" dpkg-query -W >"$work/packages"

# One image, many machines: what makes a machine itself is made at first boot.
: >"$root/etc/machine-id"
rm -f "$root/etc/ssh/ssh_host_"* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
echo localhost >"$root/etc/hostname"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
cat >"$root/etc/fstab" <<EOF
LABEL=$label / ext4 defaults,noatime,errors=remount-ro 0 1
EOF

# Periodic chores and consoles that nobody looks at cost more in an emulated
# machine than the whole of cloud-init.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	systemd-pstore.service getty@tty1.service systemd-binfmt.service \
	proc-sys-fs-binfmt_misc.automount systemd-network-generator.service \
	cloud-init-hotplugd.socket cloud-config.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl --quiet enable systemd-networkd.service
# Kubernetes distributions bring or configure their own containerd; the package
# is there for its programs.
chroot "$root" systemctl --quiet disable containerd.service

kernel=$(basename "$root"/lib/modules/*)
chroot "$root" update-initramfs -c -k "$kernel" >/dev/null
mv "$root/boot/vmlinuz-$kernel" "$root/boot/vmlinuz"
mv "$root/boot/initrd.img-$kernel" "$root/boot/initrd.img"
rm -f "$root"/boot/System.map-* "$root"/vmlinuz* "$root"/initrd.img*
cp "$root/boot/vmlinuz" "$work/vmlinuz"

# tsc=reliable: a kernel with several emulated processors calls their counters
# unsynchronized, although all are the host's, and takes the HPET for a clock. Each look
# at that one is an access to an emulated device, under one lock for all processors.
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<EOF
set timeout=0
linux /boot/vmlinuz root=LABEL=$label ro console=tty0 console=ttyS0,115200n8 quiet mitigations=off tsc=reliable systemd.show_status=1
initrd /boot/initrd.img
boot
EOF

# --- partitions --------------------------------------------------------------

# Root is last: it is the one that grows.
sector=512
mib=2048 # sectors
bios_start=$((1 * mib)) bios_len=$((1 * mib))
esp_start=$((bios_start + bios_len)) esp_len=$((16 * mib))
root_start=$((esp_start + esp_len))

say "making the root file system"
used_kib=$(du -sk --apparent-size "$root" | cut -f1)
root_mib=$((used_kib * 115 / 100 / 1024 + 96))
truncate -s "${root_mib}M" "$work/root.ext4"
mke2fs -q -F -t ext4 -L "$label" -m 1 -E lazy_itable_init=1,lazy_journal_init=1 \
	-J size=32 -d "$root" "$work/root.ext4"

disk=$work/os.raw
truncate -s "$(((root_start + root_mib * mib + mib) * sector))" "$disk"
sgdisk --clear \
	--new=1:$bios_start:$((bios_start + bios_len - 1)) --typecode=1:ef02 --change-name=1:bios \
	--new=2:$esp_start:$((esp_start + esp_len - 1)) --typecode=2:ef00 --change-name=2:esp \
	--new=3:$root_start:$((root_start + root_mib * mib - 1)) --typecode=3:8304 --change-name=3:root \
	"$disk" >/dev/null
dd if="$work/root.ext4" of="$disk" bs=1M seek=$((root_start / mib)) conv=notrunc,sparse status=none

# --- boot loaders -------------------------------------------------------------

modules="part_gpt ext2 normal linux configfile test"

say "installing the boot loaders"
grub-mkimage -O x86_64-efi -p '(,gpt3)/boot/grub' -o "$work/bootx64.efi" $modules fat
truncate -s "$((esp_len * sector))" "$work/esp"
mkfs.vfat -F 16 -n ESP "$work/esp" >/dev/null
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT
mcopy -i "$work/esp" "$work/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
dd if="$work/esp" of="$disk" bs=1M seek=$((esp_start / mib)) conv=notrunc,sparse status=none

# What grub-bios-setup does, for a disk that is a file: the boot sector and the
# first sector of the core image each hold the sector number of what they load
# (offsets 0x5c and 0x1f4, both 64-bit little-endian).
le64() {
	n=$1
	for _ in 1 2 3 4 5 6 7 8; do
		printf "\\$(printf %03o $((n & 255)))"
		n=$((n >> 8))
	done
}
poke() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

grub-mkimage -O i386-pc -p '(,gpt3)/boot/grub' -o "$work/core.img" $modules biosdisk
[ "$(stat -c %s "$work/core.img")" -le $((bios_len * sector)) ] || { say "GRUB's core image does not fit its partition" >&2; exit 1; }
cp /usr/lib/grub/i386-pc/boot.img "$work/boot.img"
le64 $bios_start | poke "$work/boot.img" $((0x5c))
printf '\220\220' | poke "$work/boot.img" $((0x66)) # trust the BIOS's drive number
le64 $((bios_start + 1)) | poke "$work/core.img" $((0x1f4))
dd if="$work/boot.img" of="$disk" bs=1 count=440 conv=notrunc status=none
dd if="$work/core.img" of="$disk" bs=512 seek=$bios_start conv=notrunc status=none

# --- result --------------------------------------------------------------------

say "compressing"
stat -c %s "$disk" >"$work/os.raw.size"
zstd -q -T0 -8 "$disk" -o "$work/os.raw.zst"
(cd "$work" && sha256sum os.raw.zst >os.raw.zst.sha256)
mv "$work/vmlinuz" "$work/packages" "$work/os.raw.size" "$work/os.raw.zst.sha256" "$work/os.raw.zst" "$out/"
say "done: $(stat -c %s "$out/os.raw.zst") bytes, $(cat "$out/os.raw.size") unpacked"
