#!/bin/sh
# Makes this machine a member of its cluster, once: fetches k3s and its images
# from the PXE service, exchanges the claim of this installation for the
# credentials, and starts k3s.
#
# It may be killed at any point and run again: every file appears under its name
# only when it is complete and verified, and what is there is not fetched again.
# No secret is ever an argument of a program or part of the output.
#
# /etc/rhizome/join.conf has one order a line:
#   secure URL                       the PXE service over HTTPS; several lines: others
#                                    to turn to when it does not answer
#   unit NAME                        the unit of k3s
#   file SHA256 MODE PATH URL...     a file to fetch, from the first that has it
#
# RHIZOME_ROOT is put before every path (for tests).
set -eu
umask 022

root=${RHIZOME_ROOT:-}
config=$root/etc/rhizome/join.conf
ca=$root/etc/rhizome/pxe-ca.pem
state=$root/var/lib/rhizome
claim=$state/claim
archive=$state/credentials.tar
joined=$state/joined
secure=
unit=

say() { printf 'rhizome-join: %s\n' "$*"; }

# ask PATH OPTION... asks the PXE services, one after the other, until one answers.
# Its output is that of curl, its status that of the last one.
ask() {
    path=$1
    shift
    status=7
    for server in $secure; do
        status=0
        curl --silent --show-error --connect-timeout 10 --cacert "$ca" --header @"$claim" \
            --url "$server$path" "$@" || status=$?
        [ "$status" -ne 0 ] || break
    done
    return "$status"
}

# report tells the PXE service how far we are. It may fail: what counts is done
# whether or not somebody watches. The words are ours, so they need no quoting.
report() {
    say "$1"
    [ -e "$claim" ] || return 0
    ask /v1/report --output /dev/null --max-time 10 --header 'Content-Type: application/json' \
        --data "{\"stage\":\"Installing\",\"step\":\"join\",\"message\":\"$1\"}" 2>/dev/null || :
}

give_up() {
    report "$1; trying again"
    exit 1
}

is_intact() { printf '%s  %s\n' "$1" "$2" | sha256sum --check --status 2>/dev/null; }

# fetch SHA256 MODE PATH URL...
fetch() {
    sum=$1 mode=$2 target=$root$3
    name=${3##*/}
    shift 3
    part=${target%/*}/.$name.part
    if [ -e "$target" ] && is_intact "$sum" "$target"; then
        return 0
    fi
    mkdir -p "${target%/*}"
    if ! { [ -e "$part" ] && is_intact "$sum" "$part"; }; then
        report "fetching $name"
        retries=3
        [ "$#" -eq 1 ] || retries=0 # the next server is the better try
        for url in "$@"; do
            status=0
            curl --silent --show-error --fail --connect-timeout 10 --speed-limit 1 --speed-time 60 \
                --retry "$retries" --retry-connrefused --continue-at - --output "$part" "$url" || status=$?
            # 22: the server refused, perhaps the range; 33, 36: it cannot resume.
            case $status in
            0) break ;;
            22 | 33 | 36) rm -f "$part" ;;
            esac
        done
        if [ "$status" -ne 0 ]; then
            give_up "cannot fetch $name (curl error $status)"
        fi
        if ! is_intact "$sum" "$part"; then
            rm -f "$part"
            give_up "$name has the wrong checksum and was thrown away"
        fi
    fi
    chmod "$mode" "$part"
    settle "$part" "$target"
}

# settle NEW PLACE gives a complete file its name. It is on the disk for good by
# then: a power cut does not leave an empty file under that name.
settle() {
    sync "$1"
    mv -f "$1" "$2"
    sync "${2%/*}"
}

# exchange stores the credentials. The claim is exchanged once, and only for a
# short time may the same machine ask again: so the answer is on disk for good
# before anything is done with it.
exchange() {
    if [ -e "$archive" ]; then
        if tar -tf "$archive" >/dev/null 2>&1; then
            return 0
        fi
        rm -f "$archive"
    fi
    report 'exchanging the claim for the credentials'
    answer=$state/.credentials.part
    rm -f "$answer"
    # The code of the last one that was asked stands at the end.
    code=$(
        umask 077
        ask /v1/credentials --max-time 120 --request POST --data '' --output "$answer" --write-out '\n%{http_code}'
    ) || {
        status=$?
        rm -f "$answer"
        give_up "cannot ask for the credentials (curl error $status)"
    }
    code=${code##*[!0-9]}
    if [ "$code" != 200 ]; then
        # A refusal is a short text that names its rule and holds no secret.
        say "the answer was: $(head -c 1000 "$answer" 2>/dev/null | tr -d '\000-\037')"
        rm -f "$answer"
        give_up "the claim was refused (HTTP status $code)"
    fi
    tar -tf "$answer" >/dev/null 2>&1 || {
        rm -f "$answer"
        give_up 'the credentials are no archive'
    }
    settle "$answer" "$archive"
}

if [ -e "$joined" ]; then
    say 'this machine has joined already'
    exit 0
fi

while read -r order a _; do
    case $order in
    secure) secure="$secure $a" ;;
    unit) unit=$a ;;
    esac
done <"$config"
if [ -z "$secure" ] || [ -z "$unit" ]; then
    say "$config names no PXE service or no unit"
    exit 1
fi

while read -r order words; do
    if [ "$order" = file ]; then
        # The words hold neither blanks nor patterns.
        # shellcheck disable=SC2086
        fetch $words
    fi
done <"$config"

exchange
tar -xpf "$archive" -C "$root/"
tar -tf "$archive" | while read -r name; do
    sync "$root/$name"
done

systemctl ${root:+"--root=$root"} enable "$unit"
if [ -z "$root" ]; then
    systemctl daemon-reload
    systemctl start --no-block "$unit"
fi
say "$unit is started"

# From here on the claim is spent and the credentials have their places.
: >"$joined"
sync "$joined" "$state"
rm -f "$claim" "$archive"
