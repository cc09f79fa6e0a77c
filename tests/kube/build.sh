#!/usr/bin/env bash
# Prints a directory that holds etcd, kube-apiserver and kubectl. Nothing else goes to stdout.
#
# Looked for in this order: $KUBEBUILDER_ASSETS; the cache, by a key of everything that decides what is built; else they
# are built from the sources that go.mod and go.sum name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

programs=(etcd kube-apiserver kubectl)
say() { echo "kube: $*" >&2; }
fail() { say "$*"; exit 1; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  # Whoever sets it wants exactly those: falling back to others would test something else than was asked for.
  for program in "${programs[@]}"; do
    [ -x "$KUBEBUILDER_ASSETS/$program" ] || fail "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no executable '$program'"
  done
  (cd "$KUBEBUILDER_ASSETS" && pwd)
  exit
fi

command -v go >/dev/null || fail "Go is missing: it builds etcd and kube-apiserver (https://go.dev/doc/install)," \
  "or set KUBEBUILDER_ASSETS to a folder that holds ${programs[*]}"
command -v flock >/dev/null || fail "flock is missing (package util-linux)"

export GOFLAGS="-buildvcs=false -mod=readonly"
# Unstamped, the API server calls itself v0.0.0 and clients refuse features.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
stamp=k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
flags="$flags -X $stamp.gitTreeState=clean"

key=$({ cat go.mod go.sum; go version; echo "$GOFLAGS $flags"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/fota/kube
mkdir -p "$cache"

# A folder appears under its key by a rename, when it is whole: so seeing it is enough, without the lock.
if [ ! -d "$cache/$key" ]; then
  exec 9>"$cache/.lock"
  flock -n 9 || { say "another process is building; waiting for it"; flock 9; }
  if [ ! -d "$cache/$key" ]; then
    rm -rf "$cache"/.building.* # left by a build that was killed; we hold the lock
    building=$(mktemp -d "$cache/.building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    say "building etcd, kube-apiserver and kubectl $version into $cache (about 7 minutes on two cores, once)"
    started=$SECONDS
    # 9>&-: go may leave a telemetry process behind, which must not hold the lock.
    GOBIN=$building go install -ldflags "$flags" tool >&2 9>&-
    mv "$building/server" "$building/etcd" # the package go.etcd.io/etcd/server installs under its folder's name
    for program in "${programs[@]}"; do
      [ -x "$building/$program" ] || fail "the build made no '$program'; look at the tool lines of tests/kube/go.mod"
    done
    mv "$building" "$cache/$key"
    say "built in $((SECONDS - started)) s"
  fi
fi
echo "$cache/$key"
