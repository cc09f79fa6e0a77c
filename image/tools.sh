#!/usr/bin/env bash
# Installs what building the image needs besides the README's tools: rustup's target $1, musl-gcc, jq, readelf.
set -euo pipefail

say() { echo "image: $*" >&2; }

missing=()
command -v musl-gcc >/dev/null || missing+=(musl-tools)
command -v jq >/dev/null || missing+=(jq)
command -v readelf >/dev/null || missing+=(binutils)
if [ "${#missing[@]}" -gt 0 ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    say "missing: ${missing[*]} (names of Debian packages); install them and try again"
    exit 1
  fi
  say "installing ${missing[*]}"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
fi
# In the checkout: the toolchain is the one that rust-toolchain.toml names.
grep -qx "$1" <<<"$(rustup target list --installed)" || rustup target add "$1" >&2
