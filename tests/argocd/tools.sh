#!/usr/bin/env bash
# Installs what Argo CD needs to run besides itself: git, and redis-server out of Debian.
set -euo pipefail

say() { echo "argocd: $*" >&2; }

missing=()
command -v git >/dev/null || missing+=(git)
command -v redis-server >/dev/null || missing+=(redis-server)
if [ "${#missing[@]}" -gt 0 ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    say "missing: ${missing[*]} (names of Debian packages); install them and try again"
    exit 1
  fi
  say "installing ${missing[*]}"
  apt-get update -qq >&2
  # RUNLEVEL: the package starts a server of its own where nothing else starts services, and nobody would stop it.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
fi
