#!/usr/bin/env bash
# Prints the path of helm. Nothing else goes to stdout.
#
# $HELM if it is set; else the cache; else it is built from the sources that go.mod and go.sum name. Its own module: helm
# wants other versions of Kubernetes' libraries than tests/kube.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "helm: $*" >&2; exit 1; }

if [ -n "${HELM:-}" ]; then
  command -v "$HELM" || fail "HELM=$HELM is no program"
  exit
fi
command -v go >/dev/null || fail "Go is missing: it builds helm (https://go.dev/doc/install), or set HELM to a helm 4"
. ../go-tools.sh

export CGO_ENABLED=0
folder=$(go_tools helm minutes "-s -w" helm)
echo "$folder/helm"
