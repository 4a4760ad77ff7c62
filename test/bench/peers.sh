#!/bin/sh
# Unpacks the packages of peers.txt, with what they need and this machine lacks,
# into a cache outside the checkout, and prints its directory as the last line. A
# package that is installed already is not unpacked: its programs are in PATH.
set -eu

cd "$(dirname "$0")"
key=$(sha256sum peers.txt peers.sh | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/peers
dir=$cache/$key

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$dir" ]; then
	packages=$(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' peers.txt)
	echo "unpacking Debian packages into $dir" >&2
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	mkdir -p "$new/archives/partial" "$new/root"
	# apt fetches as a user of its own.
	chmod 755 "$cache" "$new" "$new/archives"
	chown _apt "$new/archives/partial"
	apt-get update -qq >&2
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y -qq --no-install-recommends --download-only \
		-o Dir::Cache::archives="$new/archives" $packages >&2
	for package in "$new"/archives/*.deb; do
		[ -e "$package" ] || continue
		dpkg-deb -x "$package" "$new/root"
	done
	chmod 755 "$new/root"
	mv "$new/root" "$dir"
fi
echo "$dir"
