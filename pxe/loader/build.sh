#!/bin/sh
# Makes OUTDIR/loader/*: the boot loaders that machines load, from the
# distribution's packages (packages.txt).
#
#   build.sh OUTDIR
#
# GRUB for arm64 is made from the package of that architecture, which is fetched
# from the system's own apt sources and kept in the cache directory. Where it
# cannot be had, it is left out, and arm64 machines get no answer.
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
modules="normal configfile echo test true sleep search search_fs_file
  net efinet http tftp linux chain boot minicmd reboot halt
  part_gpt part_msdos fat ext2 memdisk tar"

mkdir "$work/memdisk"
cp "$here/start.cfg" "$work/memdisk/start.cfg"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/memdisk" -cf "$work/memdisk.tar" start.cfg

grub() { # TARGET MODULES-DIRECTORY FILE
  # shellcheck disable=SC2086 # the modules are words
  grub-mkimage -O "$1" -d "$2" -o "$work/$3" -p '(memdisk)' -c "$here/embedded.cfg" -m "$work/memdisk.tar" $modules
  n=$(grep -o -a '@RHIZOME-SERVER-ADDRESS@' "$work/$3" | wc -l)
  [ "$n" = 1 ] || { echo "build.sh: $3 has the placeholder $n times, want once" >&2; exit 1; }
  install -m 644 "$work/$3" "$out/$3"
}

# fetch_arm64 puts the arm64 package's files into a directory of the cache and
# prints it. apt works on a state of its own: the system's is not touched.
fetch_arm64() {
  version=$(dpkg-query -W -f '${Version}' grub-efi-amd64-bin)
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/loader/grub-efi-arm64-bin-$version
  if [ ! -d "$cache" ]; then
    mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$(dirname "$cache")"
    apt_arm64() {
      apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$work/apt" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt" -o APT::Sandbox::User=root "$@" >&2
    }
    apt_arm64 update || return 1
    (cd "$work/apt" && apt_arm64 download "grub-efi-arm64-bin=$version") || return 1
    dpkg-deb -x "$work"/apt/grub-efi-arm64-bin_*.deb "$work/arm64" || return 1
    mv "$work/arm64" "$cache" 2>/dev/null || [ -d "$cache" ] # another build was faster
  fi
  echo "$cache/usr/lib/grub/arm64-efi"
}

grub x86_64-efi /usr/lib/grub/x86_64-efi grubx64.efi
if arm64=$(fetch_arm64); then
  grub arm64-efi "$arm64" grubaa64.efi
  arm64_source="grub-efi-arm64-bin $(dpkg-query -W -f '${Version}: source package ${source:Package} ${source:Version}' grub-efi-amd64-bin)"
else
  arm64_source=
  echo "build.sh: WARNING: grubaa64.efi is left out: the package grub-efi-arm64-bin cannot be fetched" >&2
fi

{
  echo "These boot loaders are separate programs, taken from the distribution unchanged"
  echo "or put together from its modules. Their source is the distribution's:"
  echo
  while read -r p; do
    dpkg-query -W -f '${Package} ${Version}: source package ${source:Package} ${source:Version}\n' "$p"
  done <"$here/packages.txt"
  [ -z "$arm64_source" ] || echo "$arm64_source"
  echo
  echo "snponly.efi, undionly.kpxe: iPXE, GPL-2.0-or-later, some files under the UBDL"
  echo "grubx64.efi, grubaa64.efi: GRUB, GPL-3.0-or-later, with this embedded config:"
  sed 's/^/    /' "$here/embedded.cfg" "$here/start.cfg"
} >"$out/LICENSES.txt"
ls -l "$out"
