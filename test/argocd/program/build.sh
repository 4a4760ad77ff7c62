#!/bin/sh
# Builds Argo CD's controllers and the tools that its repo-server calls into a
# cache outside the checkout, unless they are there, and prints the path of the
# one program as the last line. Beside it:
#   argocd-application-controller, argocd-applicationset-controller,
#   argocd-repo-server           links: the name chooses the program
#   helm, kustomize              of the versions that Argo CD's image has
#   manifests                    link to Argo CD's manifests in the module cache
# The first build takes some minutes on two cores.
set -eu

cd "$(dirname "$0")"
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"
argocd=$(sed -n 's/^[[:space:]]*github.com\/argoproj\/argo-cd\/v2 \(v[0-9.]*\).*/\1/p' go.mod | head -n 1)

key=$({
	go env GOARCH GOVERSION
	for f in build.sh go.mod go.sum main.go; do echo "$f"; cat "$f"; done
} | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rhizome/argocd
dir=$cache/$key

mkdir -p "$cache"
exec 9>"$cache/lock"
if [ ! -x "$dir/argocd" ] || [ ! -f "$dir/manifests/core-install.yaml" ]; then
	flock 9
fi
if [ ! -x "$dir/argocd" ]; then
	echo "building Argo CD's controllers ($argocd), helm and kustomize into $dir" >&2
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	go build -trimpath -ldflags "-s -w -X github.com/argoproj/argo-cd/v2/common.version=${argocd#v}" -o "$new/argocd" . >&2
	go build -trimpath -ldflags "-s -w" -o "$new/helm" helm.sh/helm/v3/cmd/helm >&2
	go build -trimpath -ldflags "-s -w" -o "$new/kustomize" sigs.k8s.io/kustomize/kustomize/v5 >&2
	for name in application-controller applicationset-controller repo-server; do
		ln -s argocd "$new/argocd-$name"
	done
	chmod 755 "$new"
	rm -rf "$dir"
	mv "$new" "$dir"
	trap - EXIT
	# Builds of earlier sources are of no use to anyone after a while.
	find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 ! -name "$key" -exec rm -rf {} +
fi
# The module cache may have been cleaned, or be another, since the build.
if [ ! -f "$dir/manifests/core-install.yaml" ]; then
	module=$(go mod download -json github.com/argoproj/argo-cd/v2 | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
	ln -sfn "$module/manifests" "$dir/manifests"
fi
touch "$dir"
echo "$dir/argocd"
