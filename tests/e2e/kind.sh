#!/usr/bin/env bash
# Runs the story on a cluster of its own, made by kind with Docker, and removes the cluster.
#
#   kind.sh ARCHIVE
#
# KIND_IMAGE  the node image, which decides the Kubernetes minor; kind's default if unset
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

archive=$1
name=fota-e2e-$$
kind=${KIND:-kind}
command -v "$kind" >/dev/null || { echo "e2e: kind is missing (https://kind.sigs.k8s.io), or set KIND" >&2; exit 1; }
home=$(mktemp -d)
trap '"$kind" delete cluster --name "$name" >/dev/null 2>&1 || :; rm -rf "$home"' EXIT
export KUBECONFIG=$home/kubeconfig
"$kind" create cluster --name "$name" ${KIND_IMAGE:+--image "$KIND_IMAGE"} --wait 120s

node=$name-control-plane
cat >"$home/api" <<Y
#!/bin/sh
# The kubelet runs what lies in its folder.
case \$1 in
stop) docker exec $node mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/ ;;
start) docker exec $node mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/ ;;
esac
Y
chmod +x "$home/api"
E2E_LOAD="$kind load image-archive --name $name" E2E_CTR="docker exec $node ctr --namespace k8s.io" E2E_API=$home/api \
  tests/e2e/run.sh "$archive"
