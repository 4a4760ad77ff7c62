#!/bin/sh
# Prints the bin directory of a Go toolchain that is new enough for this
# repository, fetching one when the machine has none.
#
# The toolchain comes through the Go module proxy, as any Go since 1.21 does it
# by itself; here Debian's older Go makes the first step.
set -eu

# What go.mod asks for will do; what is fetched is a release with its repairs.
release=1.26.8

cd "$(dirname "$0")/../.."
want=$(sed -n 's/^go //p' go.mod)

newest() { printf '%s\n%s\n' "$1" "$2" | sort -V | tail -n 1; }

for go in "$(command -v go || true)" /usr/local/go/bin/go; do
	[ -x "$go" ] || continue
	have=$(cd / && "$go" env GOVERSION 2>/dev/null | sed 's/^go//')
	# From 1.21 on the go command fetches what go.mod asks for, unless told not to.
	if [ "$(newest "$have" "$want")" = "$have" ] ||
		{ [ "$(newest "$have" 1.21)" = "$have" ] && [ "$("$go" env GOTOOLCHAIN)" != local ]; }; then
		dirname "$go"
		exit 0
	fi
done

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) echo "go.sh: there is no Go toolchain for $(uname -m) here: install Go $want by hand" >&2; exit 1 ;;
esac

list=$(mktemp)
trap 'rm -f "$list"' EXIT
echo golang-go >"$list"
test/setup/apt.sh "$list"
release=$(newest "$release" "$want")
module=golang.org/toolchain@v0.0.1-go$release.linux-$arch
echo "fetching Go $release" >&2
dir=$(cd / && go mod download -json "$module" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
[ -d "$dir" ] || { echo "go.sh: cannot fetch $module" >&2; exit 1; }
# An older Go unpacks modules without their execute bits.
chmod -R u+w "$dir/bin" "$dir/pkg/tool"
find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod 755 {} +
echo "$dir/bin"
