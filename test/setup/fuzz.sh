#!/bin/sh
# Runs every fuzz target of the repository, one after another, for the given time.
#
#   fuzz.sh 1m
set -eu
time=${1:-1m}
cd "$(dirname "$0")/../.."
git ls-files '*_test.go' | xargs grep -H -o '^func Fuzz[A-Za-z0-9_]*' |
	while IFS=: read -r file function; do
		target=${function#func }
		echo "== $target ($(dirname "$file"), $time)"
		(cd "$(dirname "$file")" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .)
	done
