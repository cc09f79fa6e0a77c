#!/usr/bin/env bash
# Prints the path of helm. Nothing else goes to stdout.
#
# $HELM if it is set; else the cache, by a key of everything that decides what is built; else it is built from the sources
# that go.mod and go.sum name. Its own module: helm wants other versions of Kubernetes' libraries than tests/kube.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { echo "helm: $*" >&2; }
fail() { say "$*"; exit 1; }

if [ -n "${HELM:-}" ]; then
  command -v "$HELM" || fail "HELM=$HELM is no program"
  exit
fi
command -v go >/dev/null || fail "Go is missing: it builds helm (https://go.dev/doc/install), or set HELM to a helm 4"
command -v flock >/dev/null || fail "flock is missing (package util-linux)"

export GOFLAGS="-buildvcs=false -mod=readonly"
key=$({ cat go.mod go.sum; go version; echo "$GOFLAGS"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/fota/helm
mkdir -p "$cache"

# A folder appears under its key by a rename, when it is whole.
if [ ! -d "$cache/$key" ]; then
  exec 9>"$cache/.lock"
  flock -n 9 || { say "another process is building; waiting for it"; flock 9; }
  if [ ! -d "$cache/$key" ]; then
    rm -rf "$cache"/.building.* # left by a build that was killed; we hold the lock
    building=$(mktemp -d "$cache/.building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    say "building helm into $cache (minutes, once)"
    # 9>&-: go may leave a telemetry process behind, which must not hold the lock.
    GOBIN=$building CGO_ENABLED=0 go install -ldflags "-s -w" tool >&2 9>&-
    [ -x "$building/helm" ] || fail "the build made no helm"
    mv "$building" "$cache/$key"
  fi
fi
echo "$cache/$key/helm"
