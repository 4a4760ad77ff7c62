#!/bin/sh
# Makes OUTDIR/loader/*: the boot loaders that machines load, from the
# distribution's packages (packages.txt).
#
#   build.sh OUTDIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUTDIR}/loader
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for f in snponly.efi undionly.kpxe; do
  [ -f "/usr/lib/ipxe/$f" ] || { echo "build.sh: /usr/lib/ipxe/$f is missing: install the package ipxe" >&2; exit 1; }
  install -m 644 "/usr/lib/ipxe/$f" "$out/$f"
done

# What GRUB needs to read its config over HTTP, start Linux or a disk's own
# loader, and nothing more: the image goes over TFTP.
modules="normal configfile echo test sleep search search_fs_file
  net efinet http tftp linux chain boot minicmd reboot halt
  part_gpt part_msdos fat ext2 memdisk tar"

mkdir "$work/memdisk"
cp "$here/start.cfg" "$work/memdisk/start.cfg"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/memdisk" -cf "$work/memdisk.tar" start.cfg

grub() { # TARGET FILE
  [ -d "/usr/lib/grub/$1" ] || { echo "build.sh: no GRUB for $1 here: $2 is left out" >&2; return 0; }
  # shellcheck disable=SC2086 # the modules are words
  grub-mkimage -O "$1" -o "$work/$2" -p '(memdisk)' -c "$here/embedded.cfg" -m "$work/memdisk.tar" $modules
  n=$(grep -c -a '@RHIZOME-SERVER-ADDRESS@' "$work/$2") || true
  [ "$n" = 1 ] || { echo "build.sh: $2 has the placeholder on $n lines, want 1" >&2; exit 1; }
  install -m 644 "$work/$2" "$out/$2"
}
grub x86_64-efi grubx64.efi
grub arm64-efi grubaa64.efi

{
  echo "These boot loaders are separate programs, taken from the distribution unchanged"
  echo "or put together from its modules. Their source is the distribution's:"
  echo
  for p in $(cat "$here/packages.txt"); do
    dpkg-query -W -f '${Package} ${Version}: source package ${source:Package} ${source:Version}\n' "$p"
  done
  echo
  echo "snponly.efi, undionly.kpxe: iPXE, GPL-2.0-or-later, some files under the UBDL"
  echo "grubx64.efi, grubaa64.efi: GRUB, GPL-3.0-or-later, with this embedded config:"
  sed 's/^/    /' "$here/embedded.cfg" "$here/start.cfg"
} >"$out/LICENSES.txt"
ls -l "$out"
