#!/bin/bash
# cargo-deny: licences, bans and fences, sources; advisories too where their database can be fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo deny --locked check --hide-inclusion-graph licenses bans sources
# The database is a git repository; a machine without a way there must say so, not pass in silence.
if timeout 60 cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --hide-inclusion-graph --disable-fetch advisories
else
    echo "deny: the advisory database could not be fetched from here: advisories were NOT checked" >&2
fi
