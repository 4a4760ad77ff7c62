#!/bin/sh
# Makes OUTDIR/loader/*: the boot loaders that machines load, from the
# distribution's packages (packages.txt).
#
#   build.sh OUTDIR
#
# GRUB for arm64 is made from the package of that architecture, which is fetched
# from the system's own apt sources and kept in the cache directory. Where it
# cannot be had, it is left out, and arm64 machines get no answer. So it is with
# what Secure Boot accepts (signed/): shim and the distribution's GRUB. Their packages
# are not installed, since they mean to boot the machine that they are installed on.
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

# fetch_signed PACKAGE puts the package's files into a directory of the cache and
# prints it.
fetch_signed() {
  version=$(apt-cache policy "$1:amd64" | awk '$1 == "Candidate:" { print $2 }')
  [ -n "$version" ] && [ "$version" != "(none)" ] || return 1
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/loader/$1-$version
  if [ ! -d "$cache" ]; then
    mkdir -p "$work/$1" "$(dirname "$cache")"
    (cd "$work/$1" && apt-get -qq -o APT::Sandbox::User=root download "$1:amd64=$version" >&2) || return 1
    dpkg-deb -x "$work/$1"/*.deb "$work/$1/files" || return 1
    dpkg-deb -f "$work/$1"/*.deb Built-Using >"$work/$1/files/BUILT-USING"
    mv "$work/$1/files" "$cache" 2>/dev/null || [ -d "$cache" ] # another build was faster
  fi
  echo "$cache"
}

signed_sources=
if shim=$(fetch_signed shim-signed) && signed=$(fetch_signed grub-efi-amd64-signed); then
  mkdir -p "$out/signed"
  install -m 644 "$shim/usr/lib/shim/shimx64.efi.signed" "$out/signed/shimx64.efi"
  install -m 644 "$signed/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed" "$out/signed/grubx64.efi"
  # Its first config: what the other images have within them, but that it speaks TFTP
  # alone, with the server that this very config came from.
  { sed '/^set prefix=/,$d' "$here/embedded.cfg"
    printf 'set rhizome_files=$root\n'
    sed 's|(http,$rhizome_server)|($rhizome_files)|; s|http://$rhizome_server|$rhizome_files|' "$here/start.cfg"
  } >"$work/signed.cfg"
  [ "$(grep -c '($rhizome_files)/boot/' "$work/signed.cfg")" = 1 ] || { echo "build.sh: start.cfg asks for no config by HTTP" >&2; exit 1; }
  install -m 644 "$work/signed.cfg" "$out/signed/grub.cfg"
  for dir in "$shim" "$signed"; do
    signed_sources="$signed_sources${dir##*/}: source $(cat "$dir/BUILT-USING")
"
  done
else
  rm -rf "$out/signed"
  echo "build.sh: WARNING: signed/ is left out: the packages shim-signed and grub-efi-amd64-signed cannot be fetched" >&2
fi

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
  printf '%s' "$signed_sources"
  echo
  echo "snponly.efi, undionly.kpxe: iPXE, GPL-2.0-or-later, some files under the UBDL"
  echo "grubx64.efi, grubaa64.efi: GRUB, GPL-3.0-or-later, with this embedded config:"
  sed 's/^/    /' "$here/embedded.cfg" "$here/start.cfg"
  echo "signed/shimx64.efi: shim, BSD-2-Clause, with OpenSSL's licence for parts of it"
  echo "signed/grubx64.efi: GRUB, GPL-3.0-or-later, as the distribution signed it"
} >"$out/LICENSES.txt"
ls -l "$out"
