#!/bin/sh
# Builds the in-memory installer's boot files out of the distribution's own
# kernel package.
#
# usage: build.sh OUTDIR [ARCH]
#
# OUTDIR/installer/ARCH gets vmlinuz (the kernel as the distribution signed it),
# initrd.img (our program and the kernel's modules) and SOURCE (where the kernel
# comes from). ARCH is amd64, the default, or arm64. The kernel package is downloaded by
# apt from the machine's own sources and unpacked; nothing is installed.
#
# KERNEL_DEB names a kernel package file to use in place of the download.
# RHIZOME_CACHE is where packages and results are kept (default:
# ${XDG_CACHE_HOME:-$HOME/.cache}/rhizome).
set -eu

out=${1:?usage: build.sh OUTDIR [ARCH]}
arch=${2:-amd64}
here=$(cd "$(dirname "$0")" && pwd)
cache=${RHIZOME_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rhizome}/installer
umask 022

say() { printf 'installer: %s\n' "$*"; }
fail() { printf 'installer: %s\n' "$*" >&2; exit 1; }

PATH=$PATH:/usr/sbin:/sbin
for tool in go apt-get apt-cache dpkg-deb depmod zstd sha256sum; do
	command -v "$tool" >/dev/null || fail "$tool is missing: install the packages in $here/packages.txt (and Go)"
done

case $arch in
amd64 | arm64) metapackage=linux-image-$arch ;;
*) fail "no kernel package is known for the architecture $arch" ;;
esac

mkdir -p "$cache/debs"
# A foreign architecture's packages are known to the system's apt only after
# dpkg --add-architecture, which changes the system: so apt gets a state of its own, in
# the cache, whose lists are fetched once a day.
apt() { "$@"; }
if ! { dpkg --print-architecture; dpkg --print-foreign-architectures; } | grep -qx "$arch" && [ -z "${KERNEL_DEB:-}" ]; then
	state=$cache/apt-$arch
	apt() {
		tool=$1
		shift
		"$tool" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$state" \
			-o Dir::State::status=/dev/null -o Dir::Cache="$state" -o APT::Sandbox::User=root "$@"
	}
	mkdir -p "$state/lists/partial" "$state/archives/partial"
	if [ -z "$(find "$state/fresh" -mmin -1440 2>/dev/null)" ]; then
		apt apt-get -qq update || fail "apt cannot fetch the lists of packages for $arch"
		touch "$state/fresh"
	fi
fi
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT INT TERM

# --- the kernel package -------------------------------------------------------

if [ -n "${KERNEL_DEB:-}" ]; then
	deb=$KERNEL_DEB
else
	kernel=$(apt apt-cache depends "$metapackage:$arch" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { sub(/:.*/, "", $2); print $2; exit }')
	[ -n "$kernel" ] || fail "apt knows no package $metapackage: run 'apt-get update'"
	uri=$(apt apt-get download --print-uris "$kernel:$arch" 2>/dev/null | awk '{ print $2; exit }')
	[ -n "$uri" ] || fail "apt cannot tell where $kernel comes from: run 'apt-get update'"
	deb=$cache/debs/$uri
	if [ ! -s "$deb" ]; then
		say "downloading $kernel"
		# As root, apt would like to read as another user, who may not enter here.
		(cd "$work" && apt apt-get -qq -o APT::Sandbox::User=root download "$kernel:$arch")
		mv "$work"/*.deb "$deb"
	fi
fi
version=$(dpkg-deb -f "$deb" Version)

# --- the kernel and its modules -------------------------------------------------

# What goes into the ramdisk is two archives, each built when what it is made of
# changes: the kernel package's takes long to pack, the program's does not.
sources() {
	cd "$here/../.."
	GOOS=$2 GOARCH=$3 CGO_ENABLED=0 go list -deps -f '{{if not .Standard}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{end}}' "$1" | sort -u | xargs sha256sum | awk '{ print $1 }'
	go version
}
key() { sha256sum | cut -c1-32; }
# pack FROM TO: small archives pay on every boot, and this is packed once.
pack() { zstd -q -17 -T0 "$1" -o "$2"; }
# keep DIR AS: a build that fails leaves nothing, the directory appears complete.
keep() { mv "$1" "$2" 2>/dev/null || [ -d "$2" ]; }

kernel_key=$({
	sources ./pxe/installer/initramfs/mkinitramfs "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)"
	sha256sum <"$here/initramfs/modules.list"
	sha256sum <"$deb"
	sha256sum <"$here/build.sh"
} | key)
kernel_built=$cache/kernel-$arch-$kernel_key
if [ ! -d "$kernel_built" ]; then
	say "unpacking $(dpkg-deb -f "$deb" Package) $version"
	dpkg-deb -x "$deb" "$work/kernel"
	modules=$(echo "$work"/kernel/lib/modules/*)
	[ -d "$modules" ] || modules=$(echo "$work"/kernel/usr/lib/modules/*)
	release=$(basename "$modules")
	grep -qx CONFIG_RD_ZSTD=y "$work/kernel/boot/config-$release" ||
		fail "the kernel $release cannot read an initrd packed with zstd"
	depmod -b "${modules%/lib/modules/*}" "$release"

	say "packing the kernel modules"
	mkdir "$work/kernel-result"
	cp "$work/kernel/boot/vmlinuz-$release" "$work/kernel-result/vmlinuz"
	(cd "$here/../.." && go run ./pxe/installer/initramfs/mkinitramfs \
		-modules "$modules" -list "$here/initramfs/modules.list") >"$work/modules.cpio"
	pack "$work/modules.cpio" "$work/kernel-result/modules.zst"
	cat >"$work/kernel-result/SOURCE" <<SOURCE
vmlinuz and the kernel modules (*.ko) in initrd.img are taken unchanged from the
Debian package
  $(dpkg-deb -f "$deb" Package) $version ($arch)
whose source is the Debian source package
  $(dpkg-deb -f "$deb" Source), built from: $(dpkg-deb -f "$deb" Built-Using)
to be had with: apt-get source $(dpkg-deb -f "$deb" Built-Using | sed 's/ (= \(.*\))/=\1/')
The Linux kernel is under the GNU General Public License, version 2; see
/usr/share/doc/$(dpkg-deb -f "$deb" Package)/copyright of that package.
Firmware files are not included.
/init in initrd.img is Rhizome's own program (Apache-2.0), pxe/installer.
SOURCE
	keep "$work/kernel-result" "$kernel_built"
fi

# --- the program ----------------------------------------------------------------

program_key=$({
	sources ./pxe/installer linux "$arch"
	sources ./pxe/installer/initramfs/mkinitramfs "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)"
	sha256sum <"$here/build.sh"
} | key)
program_built=$cache/program-$arch-$program_key
if [ ! -d "$program_built" ]; then
	say "building the program"
	mkdir "$work/program-result"
	(cd "$here/../.." && GOOS=linux GOARCH=$arch CGO_ENABLED=0 \
		go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$work/init" ./pxe/installer)
	(cd "$here/../.." && go run ./pxe/installer/initramfs/mkinitramfs -init "$work/init") >"$work/program.cpio"
	pack "$work/program.cpio" "$work/program-result/program.zst"
	keep "$work/program-result" "$program_built"
fi

# --- together -------------------------------------------------------------------

# place FROM TO: a server may be reading TO, and its time is part of its ETag.
place() {
	cmp -s "$1" "$2" && return
	cp "$1" "$2.new.$$"
	mv "$2.new.$$" "$2"
}
cat "$kernel_built/modules.zst" "$program_built/program.zst" >"$work/initrd.img"
mkdir -p "$out/installer/$arch"
place "$kernel_built/vmlinuz" "$out/installer/$arch/vmlinuz"
place "$kernel_built/SOURCE" "$out/installer/$arch/SOURCE"
place "$work/initrd.img" "$out/installer/$arch/initrd.img"
say "$out/installer/$arch: kernel $version, vmlinuz $(stat -c %s "$out/installer/$arch/vmlinuz") bytes, initrd.img $(stat -c %s "$out/installer/$arch/initrd.img") bytes"
