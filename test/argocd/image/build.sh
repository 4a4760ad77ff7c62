#!/bin/sh
# Builds an OCI image with the programs of Argo CD, those that its repo-server calls,
# and Redis, as an archive that k3s imports, without Docker, into a cache outside the
# checkout, unless it is there. Prints the archive's path as the last line. Beside it:
#   name       the image's name, with its tag
#   manifests  link to Argo CD's manifests in the module cache
#
# It stands in for the images quay.io/argoproj/argocd and docker.io/redis, which are
# not to be had without internet: the programs are the same, built from the same
# sources; git, tini and Redis are Debian's.
#
# The packages come from the machine's own Debian 12 apt sources.
set -eu

cd "$(dirname "$0")"
suite=bookworm
program=$(../program/build.sh | tail -n 1)
programs=$(dirname "$program")
version=$(sed -n 's/^[[:space:]]*github.com\/argoproj\/argo-cd\/v2 \(v[0-9.]*\).*/\1/p' ../program/go.mod | head -n 1)
image=rhizome.test/argocd:$version

key=$({
	basename "$programs"
	for f in build.sh guest-packages.txt; do echo "$f"; cat "$f"; done
} | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/argocd-image
dir=$cache/$key
archive=argocd-images-amd64.tar.zst

say() { echo "argocd image: $*" >&2; }

mkdir -p "$cache"
exec 9>"$cache/lock"
[ -f "$dir/$archive" ] || flock 9
if [ ! -f "$dir/$archive" ]; then
	for tool in buildah mmdebstrap zstd; do
		command -v "$tool" >/dev/null || { say "$tool is missing: install the packages in test/argocd/image/packages.txt"; exit 1; }
	done
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf --one-file-system "$new"' EXIT INT TERM
	work=$new/work root=$new/work/root
	mkdir "$work"
	umask 022

	apt-get indextargets \
		--format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' |
		awk -F'|' -v s="$suite" '$1 == "Debian" && ($2 == s || index($2, s "-") == 1) && $3 == "main" { print $4 }' |
		sort -u >"$work/sources.list"
	[ -s "$work/sources.list" ] || { say "this machine's apt has no Debian $suite sources (is 'apt-get update' needed?)"; exit 1; }
	# The machine's own exceptions from apt's date checks apply here too.
	date_check=$(apt-config dump --format '%f %v%n' Acquire::Check-Date | awk '{print $2}')
	valid_until=$(apt-config dump --format '%f %v%n' Acquire::Check-Valid-Until | awk '{print $2}')

	say "fetching packages"
	# Nothing runs in there but what is called by name, so nothing is configured. What
	# is left out is what no reader of repositories calls, Perl among it: an emulated
	# machine takes a second for each megabyte.
	mmdebstrap --quiet --mode=root --variant=extract --format=directory \
		--aptopt="Acquire::Check-Date \"${date_check:-true}\"" \
		--aptopt="Acquire::Check-Valid-Until \"${valid_until:-true}\"" \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/perl*' \
		--dpkgopt='path-exclude=/usr/bin/perl*' \
		--dpkgopt='path-exclude=/usr/bin/scalar' \
		--dpkgopt='path-exclude=/usr/bin/git-shell' \
		--dpkgopt='path-exclude=/usr/bin/redis-benchmark' \
		--dpkgopt='path-exclude=/usr/bin/redis-check-aof' \
		--dpkgopt='path-exclude=/usr/lib/git-core/*-daemon' \
		--dpkgopt='path-exclude=/usr/lib/git-core/git-imap-send' \
		--dpkgopt='path-exclude=/usr/lib/git-core/git-http-backend' \
		--dpkgopt='path-exclude=/usr/lib/git-core/git-http-fetch' \
		--dpkgopt='path-exclude=/usr/lib/git-core/git-http-push' \
		--dpkgopt='path-exclude=/usr/lib/git-core/scalar' \
		--dpkgopt='path-exclude=/usr/lib/*/perl*' \
		--dpkgopt='path-exclude=/usr/lib/*/libperl*' \
		--dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
		--include="$(sed 's/#.*//' guest-packages.txt | tr -s '[:space:]' ',' | sed 's/^,//; s/,$//')" \
		"$suite" "$root" "$work/sources.list" >&2
	rm -rf "$root/var/cache" "$root/var/lib/apt" "$root/var/lib/dpkg"

	mkdir -p "$root/usr/local/bin" "$root/home/argocd" "$root/etc/ssl/certs"
	chown 999:999 "$root/home/argocd"
	echo 'argocd:x:999:999::/home/argocd:/bin/sh' >"$root/etc/passwd"
	echo 'argocd:x:999:' >"$root/etc/group"
	# What the package's script would have made.
	find "$root/usr/share/ca-certificates" -name '*.crt' -exec cat {} + >"$root/etc/ssl/certs/ca-certificates.crt"
	ln -s redis-check-rdb "$root/usr/bin/redis-server"
	# No helm: whose charts could it fetch?
	cp "$program" "$programs/kustomize" "$root/usr/local/bin/"
	for name in application-controller applicationset-controller repo-server; do
		ln -s argocd "$root/usr/local/bin/argocd-$name"
	done
	chroot "$root" git --version >&2
	chroot "$root" redis-server --version >&2
	rm -rf "${root:?}/dev"

	say "making the image"
	# As in Argo CD's image, but for GnuPG: signatures of commits are not checked.
	cat >"$work/Containerfile" <<-END
		FROM scratch
		COPY root/ /
		ENV HOME=/home/argocd USER=argocd PATH=/usr/local/bin:/usr/bin:/bin ARGOCD_GPG_ENABLED=false
		USER 999
		WORKDIR /home/argocd
		ENTRYPOINT ["/usr/bin/tini", "--"]
	END
	echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
	buildah_() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
	buildah_ build --quiet --isolation chroot --format oci --platform linux/amd64 --signature-policy "$work/policy.json" \
		--timestamp 0 --identity-label=false --tag "$image" --file "$work/Containerfile" "$work" >"$work/id"
	# The archive is compressed as a whole: one pass, and a fast one to undo.
	buildah_ push --quiet --disable-compression --signature-policy "$work/policy.json" "$image" "docker-archive:$work/image.tar:$image"
	zstd -q -T0 -9 "$work/image.tar" -o "$new/$archive"
	echo "$image" >"$new/name"
	rm -rf --one-file-system "$work"
	chmod 755 "$new"
	rm -rf "$dir"
	mv "$new" "$dir"
	trap - EXIT INT TERM
	say "$image: $(du -h "$dir/$archive" | cut -f1)"
	# Builds of earlier sources are of no use to anyone after a while.
	find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 ! -name "$key" -exec rm -rf {} +
fi
# The programs may be those of another module cache now.
ln -sfn "$programs/manifests" "$dir/manifests"
touch "$dir"
echo "$dir/$archive"
