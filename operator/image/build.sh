#!/bin/sh
# Builds the operator's image as an OCI archive, with neither Docker nor a daemon.
#
#   build.sh ARCHIVE [BOOT]
#
# BOOT (dist/boot) holds the boot files, see pxe/loader/build.sh and
# pxe/installer/build.sh. Set by the environment:
#
#   VERSION            tag of the image and version of the binary (v0.1.0-dev)
#   IMAGE              name of the image (ghcr.io/rhizome-dev/rhizome)
#   GOARCH             architecture (this machine's)
#   SOURCE_DATE_EPOCH  time of everything within (that of the last commit)
#   REVISION           commit that it was built from (the current one)
#   CONTEXT            where the image's files are laid out (dist/image)
#
# The same inputs give the same archive, byte for byte.
set -eu

cd "$(dirname "$0")/../.."
archive=${1:?usage: build.sh ARCHIVE [BOOT]}
boot=${2:-dist/boot}
version=${VERSION:-v0.1.0-dev}
image=${IMAGE:-ghcr.io/rhizome-dev/rhizome}
arch=${GOARCH:-$(go env GOARCH)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
revision=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
source=https://github.com/rhizome-dev/rhizome

fail() { echo "image: $*" >&2; exit 1; }
for tool in buildah jq; do
	command -v "$tool" >/dev/null || fail "$tool is missing: install the packages in operator/image/packages.txt"
done
[ -d "$boot/loader" ] || fail "$boot/loader is missing: run 'make boot-files' first"

umask 022
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT INT TERM

context=${CONTEXT:-dist/image}
rm -rf "$context"
mkdir -p "$context"
CGO_ENABLED=0 GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$context/rhizome" .
cp -R "$boot" "$context/boot"
cp LICENSE "$context/LICENSE"
# Modes do not depend on who made the files.
chmod -R u=rwX,go=rX "$context"

# A store of its own, that vanishes with the work directory. Nothing is pulled, so
# no signature is ever asked for.
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
buildah_() { buildah --storage-driver vfs --root "$work/root" --runroot "$work/run" "$@"; }

buildah_ build --quiet --isolation chroot --format oci --platform "linux/$arch" \
	--signature-policy "$work/policy.json" --timestamp "$epoch" --identity-label=false \
	--annotation "org.opencontainers.image.title=Rhizome" \
	--annotation "org.opencontainers.image.description=Turns blank machines into a Kubernetes cluster that grows and heals itself" \
	--annotation "org.opencontainers.image.source=$source" \
	--annotation "org.opencontainers.image.licenses=Apache-2.0" \
	--annotation "org.opencontainers.image.version=$version" \
	--annotation "org.opencontainers.image.revision=$revision" \
	--label "org.opencontainers.image.source=$source" \
	--label "org.opencontainers.image.licenses=Apache-2.0" \
	--label "org.opencontainers.image.version=$version" \
	--tag "$image:$version" --file Dockerfile "$context" >"$work/id"
buildah_ push --quiet --signature-policy "$work/policy.json" "$image:$version" "oci:$work/oci:$image:$version"

# containerd names what it imports by this annotation of its own, and by the
# standard one only as a tag of a name it is given.
jq -c --arg name "$image:$version" \
	'.manifests[].annotations += {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": $name}' \
	"$work/oci/index.json" >"$work/index.json"
mv "$work/index.json" "$work/oci/index.json"

mkdir -p "$(dirname "$archive")"
tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	-C "$work/oci" -cf "$archive.new" blobs index.json oci-layout
mv "$archive.new" "$archive"
echo "$image:$version: $archive ($(du -h "$archive" | cut -f1))"
