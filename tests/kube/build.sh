#!/usr/bin/env bash
# Prints a directory that holds etcd, kube-apiserver and kubectl. Nothing else goes to stdout.
#
# Looked for in this order: $KUBEBUILDER_ASSETS; the cache, by a key of everything that decides what is built; else they
# are built from the sources that go.mod and go.sum name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

programs=(etcd kube-apiserver kubectl)
fail() { echo "kube: $*" >&2; exit 1; }

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
. ../go-tools.sh

# Unstamped, the API server calls itself v0.0.0 and clients refuse features.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
stamp=k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
flags="$flags -X $stamp.gitTreeState=clean"
# The package go.etcd.io/etcd/server installs under its folder's name.
go_tools kube "about 7 minutes on two cores" "$flags" server:etcd kube-apiserver kubectl
