#!/bin/sh
# Runs every fuzz target of the repository, one after another, for the given time. A
# second argument is a part of the name or directory of those that are to run.
#
#   fuzz.sh 1m
#   fuzz.sh 5m pxe/
#
# An input that finds something is tried ten times to be made smaller: targets that
# start programs would spend their time on that.
set -eu
time=${1:-1m}
only=${2:-}
cd "$(dirname "$0")/../.."
git ls-files '*_test.go' | xargs grep -H -o '^func Fuzz[A-Za-z0-9_]*' |
	while IFS=: read -r file function; do
		target=${function#func }
		case $(dirname "$file")/$target in *"$only"*) ;; *) continue ;; esac
		echo "== $target ($(dirname "$file"), $time)"
		(cd "$(dirname "$file")" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x .)
	done
