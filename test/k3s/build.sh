#!/bin/sh
# Builds the stand-in for the k3s binary and its airgap archive into a cache
# outside the checkout, unless they are there, and prints the binary's path as
# the last line. Beside the binary:
#   k3s-airgap-images-<arch>.tar.zst  the pause image, for agent/images
#   kube-apiserver, etcd              links, for controller-runtime's envtest
# With an argument, the binary is also copied there.
# The first build takes some ten minutes on two cores.
set -eu

cd "$(dirname "$0")"
arch=$(go env GOARCH)
kubernetes=$(sed -n 's/^[[:space:]]*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod | head -n 1)
minor=$(echo "$kubernetes" | cut -d. -f2)

key=$({
	echo "$arch"
	go env GOVERSION
	find . -type f \( -name '*.go' -o -name '*.yaml' -o -name go.mod -o -name go.sum -o -name build.sh \) \
		! -name '*_test.go' | LC_ALL=C sort | while read -r f; do echo "$f"; cat "$f"; done
} | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/k3s-standin
dir=$cache/$key
archive=k3s-airgap-images-$arch.tar.zst

mkdir -p "$cache"
exec 9>"$cache/lock"
if [ ! -x "$dir/k3s" ]; then
	flock 9
fi
if [ ! -x "$dir/k3s" ]; then
	echo "building the stand-in for k3s ($kubernetes) into $dir" >&2
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	flags="-s -w"
	for p in k8s.io/client-go/pkg/version k8s.io/component-base/version; do
		flags="$flags -X $p.gitVersion=$kubernetes -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean"
	done
	export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"
	go build -trimpath -ldflags "$flags" -o "$new/k3s" . >&2
	go build -trimpath -ldflags "-s -w" -o "$new/pause" ./pause >&2
	go run ./airgap -pause "$new/pause" -arch "$arch" -out "$new/$archive" >&2
	rm "$new/pause"
	ln -s k3s "$new/kube-apiserver"
	ln -s k3s "$new/etcd"
	chmod 755 "$new"
	rm -rf "$dir"
	mv "$new" "$dir"
	trap - EXIT
	# Builds of earlier sources are of no use to anyone after a while.
	find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 ! -name "$key" -exec rm -rf {} +
fi
touch "$dir"
if [ $# -gt 0 ]; then
	cp "$dir/k3s" "$1"
fi
echo "$dir/k3s"
