#!/bin/sh
# Builds the unmodified Gitea, with SQLite, into a cache outside the checkout,
# unless it is there, and prints the program's path as the last line. Beside it:
#   static        link to Gitea's templates and options in the module cache
# The first build takes some minutes on two cores, and a C compiler.
set -eu

cd "$(dirname "$0")"
export CGO_ENABLED=1 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"
tags="sqlite sqlite_unlock_notify"
gitea=$(sed -n 's/^[[:space:]]*code.gitea.io\/gitea \(v[0-9.]*\).*/\1/p' go.mod | head -n 1)

key=$({
	go env GOARCH GOVERSION
	for f in build.sh go.mod go.sum; do echo "$f"; cat "$f"; done
} | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/gitea
dir=$cache/$key

mkdir -p "$cache"
exec 9>"$cache/lock"
if [ ! -x "$dir/gitea" ] || [ ! -d "$dir/static/templates" ]; then
	flock 9
fi
if [ ! -x "$dir/gitea" ]; then
	echo "building Gitea ($gitea) into $dir" >&2
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	go build -trimpath -tags "$tags" -ldflags "-s -w -X main.Version=${gitea#v} -X 'main.Tags=$tags'" -o "$new/gitea" code.gitea.io/gitea >&2
	chmod 755 "$new"
	rm -rf "$dir"
	mv "$new" "$dir"
	trap - EXIT
	# Builds of earlier sources are of no use to anyone after a while.
	find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 ! -name "$key" -exec rm -rf {} +
fi
# The module cache may have been cleaned, or be another, since the build.
if [ ! -d "$dir/static/templates" ]; then
	ln -sfn "$(go mod download -json code.gitea.io/gitea | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')" "$dir/static"
fi
touch "$dir"
echo "$dir/gitea"
