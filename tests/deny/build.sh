#!/usr/bin/env bash
# Prints the path of cargo-deny. Nothing else goes to stdout.
#
# $CARGO_DENY if it is set; else the cache, by a key of everything that decides what is built; else it is built from its
# released source with the versions that its own lock file names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

version=0.20.2

say() { echo "deny: $*" >&2; }
fail() { say "$*"; exit 1; }

if [ -n "${CARGO_DENY:-}" ]; then
  command -v "$CARGO_DENY" || fail "CARGO_DENY=$CARGO_DENY is no program"
  exit
fi
command -v cargo >/dev/null || fail "cargo is missing: it builds cargo-deny (https://rustup.rs)"
command -v flock >/dev/null || fail "flock is missing (package util-linux)"

key=$({ echo "$version"; rustc --version --verbose; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/fota/deny
mkdir -p "$cache"

# A folder appears under its key by a rename, when it is whole.
if [ ! -d "$cache/$key" ]; then
  exec 9>"$cache/.lock"
  flock -n 9 || { say "another process is building; waiting for it"; flock 9; }
  if [ ! -d "$cache/$key" ]; then
    rm -rf "$cache"/.building.* # left by a build that was killed; we hold the lock
    building=$(mktemp -d "$cache/.building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    say "building cargo-deny $version into $cache (minutes, once)"
    started=$SECONDS
    # A target folder of its own, whatever the environment says: this project's would only grow by it. Debug symbols and
    # the last of the optimisation cost more to build than they save in a program that runs for a second.
    CARGO_TARGET_DIR=$building/target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false \
      cargo install --locked --root "$building/root" "cargo-deny@$version" >&2 9>&-
    [ -x "$building/root/bin/cargo-deny" ] || fail "the build made no cargo-deny"
    mkdir "$building/whole"
    mv "$building/root/bin/cargo-deny" "$building/whole/"
    mv "$building/whole" "$cache/$key"
    say "built in $((SECONDS - started)) s"
  fi
fi
echo "$cache/$key/cargo-deny"
