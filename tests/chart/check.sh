#!/usr/bin/env bash
# `make chart`: lints the chart, and has a real API server judge every variant of it, Pod Security included.
#
#   check.sh CLUSTER    the program behind `make cluster`, which starts a control plane for this run alone
#   check.sh render [HELM-ARGUMENT...]    prints install.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

namespace=fota-system
helm=$(tests/helm/build.sh)

# The hooks need helm to run them.
render() {
  echo "# Made from charts/fota by \`make install.yaml\`: everything in one file, for kubectl apply -f."
  printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n' "$namespace"
  echo '    pod-security.kubernetes.io/enforce: restricted'
  "$helm" template fota charts/fota --namespace "$namespace" --no-hooks "$@" 2>/dev/null
}
if [ "$1" = render ]; then
  render "${@:2}"
  exit
fi

cluster=$1
home=$(mktemp -d)
trap '"$cluster" down --dir "$home/cluster" >/dev/null 2>&1 || :; rm -rf "$home"' EXIT
failures=0
ok() { printf 'ok     %s\n' "$*"; }
wrong() { printf 'WRONG  %s\n' "$*"; failures=$((failures + 1)); }

if "$helm" lint --strict --quiet charts/fota >"$home/lint" 2>&1; then ok "helm lint"; else wrong "helm lint: $(cat "$home/lint")"; fi
if [ "$(render)" = "$(cat install.yaml)" ]; then ok "install.yaml is what the chart makes"; else wrong "install.yaml: run make install.yaml"; fi

kubectl=$(tests/kube/build.sh)/kubectl
"$cluster" up --dir "$home/cluster" >"$home/up"
export KUBECONFIG=$home/cluster/kubeconfig KUBECACHEDIR=$home/cache
"$kubectl" create namespace heating >/dev/null
"$kubectl" create namespace cooling >/dev/null
"$kubectl" get namespace "$namespace" >/dev/null 2>&1 || "$kubectl" create namespace "$namespace" >/dev/null
for one in heating cooling "$namespace"; do
  "$kubectl" label --overwrite namespace "$one" pod-security.kubernetes.io/{enforce,warn}=restricted >/dev/null
done
# What a controller would make; there is none here.
"$kubectl" create serviceaccount default --namespace "$namespace" >/dev/null
# The Prometheus operator's resource, as far as the chart speaks of it.
"$kubectl" apply -f - >/dev/null <<'Y'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
Y
"$kubectl" wait --for=condition=Established crd/servicemonitors.monitoring.coreos.com >/dev/null

# Accepted by the values' schema, and by the API server with every field known and no warning.
variant() { # NAME HELM-ARGUMENT...
  local name=$1
  shift
  if ! "$helm" template fota charts/fota --namespace "$namespace" "$@" >"$home/rendered" 2>"$home/said"; then
    wrong "$name: $(cat "$home/said")"
  elif ! "$kubectl" apply --dry-run=server --warnings-as-errors -f "$home/rendered" >"$home/said" 2>&1; then
    wrong "$name: $(grep -v 'server dry run' "$home/said")"
  else
    ok "$name: $(wc -l <"$home/said") objects"
  fi
}
variant "as it comes"
variant "one replica" --set replicas=1
variant "one namespace" --set 'watchNamespaces={heating}' --set crds.install=false
variant "two namespaces" --set 'watchNamespaces={heating,cooling}'
variant "rehearsal" --set rehearsal.enabled=true
variant "rehearsal, on a cluster that has the definitions" --set rehearsal.enabled=true --api-versions fota.dev/v1alpha1/OTAAccount
variant "everything optional" --set networkPolicy.enabled=true,serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus \
  --set podDisruptionBudget.enabled=false,uninstallCheck.enabled=false,priorityClassName=system-cluster-critical
variant "everything adjusted" --set-json 'serviceAccount={"create":true,"name":"ota","annotations":{"pod-identity.alibabacloud.com/role-name":"ota"}}' \
  --set-json 'image={"repository":"registry.example/fota","digest":"sha256:'"$(printf '0%.0s' {1..64})"'"}' \
  --set-json 'imagePullSecrets=[{"name":"pull"}]' --set-json 'env=[{"name":"HTTPS_PROXY","value":"http://proxy.example:3128"}]' \
  --set-json 'podAnnotations={"a":"b"}' --set-json 'podLabels={"c":"d"}' --set-json 'nodeSelector={"e":"f"}' \
  --set-json 'tolerations=[{"key":"ota","operator":"Exists"}]' --set-json 'extraArgs=["--allowed-endpoints=ota.example"]' \
  --set-json 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]' \
  --set-json 'affinity={"nodeAffinity":{}}' --set rehearsal.enabled=true

variant "the operator's own identity" --set 'ownIdentity.namespaces={heating,cooling}'
variant "the operator's own identity, for all" --set-json 'ownIdentity={"namespaces":["*"]}'

# Refused before anything is rendered.
refused() { # WHAT-IT-SAYS HELM-ARGUMENT...
  local says=$1
  shift
  if "$helm" template fota charts/fota "$@" >/dev/null 2>"$home/said"; then
    wrong "accepted: $*"
  elif ! grep -q -e "$says" "$home/said"; then
    wrong "refused $* without a word of '$says': $(cat "$home/said")"
  else
    ok "refused: $*"
  fi
}
refused "'replica' not allowed" --set replica=3
refused /replicas --set replicas=-1
refused /pollInterval --set pollInterval=7d
refused /allowedEndpoints --set-json 'allowedEndpoints=[]'
refused /allowedEndpoints --set-json 'allowedEndpoints=["*"]'
refused /image/digest --set image.digest=latest
refused /watchNamespaces --set 'watchNamespaces={a,a}'
refused /watchNamespaces --set 'watchNamespaces={Heating}'
refused /ownIdentity --set 'ownIdentity.namespaces={Heating}'
refused /extraArgs --set 'extraArgs={doctor}'

[ "$failures" = 0 ] || { echo "$failures wrong" >&2; exit 1; }
