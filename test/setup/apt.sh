#!/bin/sh
# Installs the Debian packages that the lists named as arguments ask for, those
# that are missing only: a machine that has them all is not touched.
#
#   apt.sh LIST...      a list has one package a line; # starts a comment
set -eu

wanted=$(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@" | sort -u)
missing=
for package in $wanted; do
	case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
	*' installed') ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "apt.sh: these Debian packages are missing and installing them takes root:$missing" >&2
	exit 1
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing >&2
