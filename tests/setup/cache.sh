#!/bin/bash
# Makes a folder once and prints its path. What it is made from is its name; so it is never out of date.
#
#   cache.sh KIND FILE… -- BUILDER [ARG…]
#
# The key is a hash of the FILEs' content and of the ARGs. If $AIRLOCK_CACHE/KIND/KEY is not there, runs
# `BUILDER ARG… FOLDER` with an empty FOLDER beside it, which appears under its name when BUILDER succeeds.
# Others who want the same wait meanwhile. Older keys of that KIND are then removed, except those in use:
# whoever works in one holds a shared flock on its file .in-use.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cache=${AIRLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/airlock}
kind=$1; shift
files=()
while [ "$1" != -- ]; do files+=("$1"); shift; done
shift

# Names in full would make another checkout's key another; content in order, each with its length, says all.
key=$({ for file in "${files[@]}"; do wc -c <"$file"; cat "$file"; done; printf '%s\0' "${@:2}"; uname -m; } | sha256sum | head -c 16)
final=$cache/$kind/$key
if [ -d "$final" ]; then echo "$final"; exit 0; fi

mkdir -p "$cache/$kind"
exec 9>"$cache/$kind/.lock"
# A build takes minutes at most; a lock held longer is somebody's hung build, which is not waited for.
flock -w "${AIRLOCK_CACHE_WAIT:-1800}" 9 || { echo "cache.sh: $cache/$kind/.lock is held for too long" >&2; exit 1; }
if [ ! -d "$final" ]; then
    rm -rf "$cache/$kind"/making-*  # of a builder that was killed: the lock says that it is gone
    work=$(mktemp -d "$cache/$kind/making-XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    chmod 755 "$work"
    echo "making $final" >&2
    "$@" "$work" >&2 9>&-
    : >"$work/.in-use"
    mv "$work" "$final"
    for old in "$cache/$kind"/*/; do
        old=${old%/}
        if [ "$old" != "$final" ] && { [ ! -e "$old/.in-use" ] || flock -n "$old/.in-use" true; }; then rm -rf --one-file-system "$old"; fi
    done
fi
echo "$final"
