#!/usr/bin/env bash
# Prints the path of Argo CD, all of it in one program: ARGOCD_BINARY_NAME says which part it is. Nothing else goes to
# stdout. With the argument `crds`: the folder of its custom resource definitions, out of the same sources.
#
# The cache, else it is built from the sources that go.mod and go.sum name. Its own module: Argo CD needs versions of its
# own, and names some by `replace`, which counts in a main module only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "argocd: $*" >&2; exit 1; }
command -v go >/dev/null || fail "Go is missing: it builds Argo CD (https://go.dev/doc/install)"
. ../go-tools.sh

module=github.com/argoproj/argo-cd/v3
if [ "${1:-}" = crds ]; then
  go mod download "$module" >&2
  echo "$(go list -m -f '{{.Dir}}' "$module")/manifests/crds"
  exit
fi
version=$(go list -m -f '{{.Version}}' "$module")
export CGO_ENABLED=0
folder=$(go_tools argocd "about 7 minutes on two cores" "-s -w -X $module/common.version=${version#v}" cmd:argocd)
echo "$folder/argocd"
