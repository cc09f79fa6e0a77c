#!/usr/bin/env bash
# `make e2e`: the chart and the image on a real cluster, through a whole rollout with everything going wrong on the way.
# Judged by the simulated cloud's own log: each job was created once.
#
#   run.sh ARCHIVE
#
# KUBECONFIG  a cluster's administrator. Namespace fota-e2e and the definitions of fota.dev are made and removed there.
# E2E_LOAD    a command that brings an OCI archive, given as its argument, onto every node
# E2E_CTR     a command that runs containerd's ctr on the node, in the kubelet's namespace; without it no container is
#             killed behind the kubelet's back
# E2E_API     a command that takes `stop` and `start` and does it to the API server; without it that one stays up
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

archive=$1
: "${KUBECONFIG:?a cluster to use}" "${E2E_LOAD:?a command that loads an image archive}"
kubectl=$(tests/kube/build.sh)/kubectl
helm=$(tests/helm/build.sh)
namespace=fota-e2e
work=$(mktemp -d)
forward=
SECONDS=0

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() {
  say "FAILED: $*" >&2
  k get pods,lease,fwr,otaaccount -o wide >&2 || :
  k get fwr rehearsal -o jsonpath='{.status.next}{"\n"}' >&2 || :
  k logs -l app.kubernetes.io/component=controller --tail=30 --prefix >&2 || :
  exit 1
}
k() { "$kubectl" --namespace "$namespace" "$@"; }
# WHAT SECONDS COMMAND...: until the command succeeds
await() {
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >"$work/await" 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what did not come about: $(cat "$work/await")"
    sleep 0.2
  done
}
cleanup() {
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || :
  if [ "${KEEP:-}" != 1 ]; then
    # Where the story broke off, nobody is left to take the finalizers off.
    k get fwr -o name 2>/dev/null | xargs -r -n1 "$kubectl" -n "$namespace" patch --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null 2>&1 || :
    "$helm" uninstall fota -n "$namespace" --no-hooks >/dev/null 2>&1 || :
    "$kubectl" delete namespace "$namespace" --ignore-not-found --timeout=60s >/dev/null 2>&1 || :
    "$kubectl" delete crd firmwarerollouts.fota.dev otaaccounts.fota.dev --ignore-not-found >/dev/null 2>&1 || :
  fi
  rm -rf "$work"
}
trap cleanup EXIT

# The image, and a namespace that takes nothing but restricted pods.
reference=$(tar -xOf "$archive" index.json | jq -r '.manifests[0].annotations["io.containerd.image.name"]')
$E2E_LOAD "$archive" >"$work/load" 2>&1 || fail "the image cannot be loaded: $(cat "$work/load")"
say "loaded $reference"
"$kubectl" create namespace "$namespace" >/dev/null
"$kubectl" label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
values=(--set "image.repository=${reference%:*}" --set "image.tag=${reference##*:}" --set rehearsal.enabled=true
  --set rehearsal.speed="${SPEED:-15}" --set pollInterval=1s --set progressInterval=1s --set leaseDuration=5s)
"$helm" install fota charts/fota -n "$namespace" "${values[@]}" --wait --timeout 3m >"$work/install" 2>&1 ||
  fail "helm install: $(cat "$work/install")"
say "installed and Available under restricted Pod Security"
"$helm" test fota -n "$namespace" >"$work/test" 2>&1 || fail "helm test: $(cat "$work/test")"
say "helm test passed"

# Names and TLS on the empty base: the API server's certificate is trusted with its own CA, and not with the image's.
look() { # NAME CA-FILE: what the image's own client says of the API server
  k apply -f - >/dev/null <<Y
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: look
    image: $reference
    imagePullPolicy: IfNotPresent
    args: [probe, https://kubernetes.default.svc/livez]
    env: [{name: SSL_CERT_FILE, value: $2}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
Y
  await "pod $1's end" 60 sh -c "'$kubectl' -n $namespace get pod $1 -o jsonpath='{.status.phase}' | grep -E 'Succeeded|Failed'"
}
look trusting /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
[ "$(k logs trusting)" = ok ] || fail "with the cluster's CA: $(k logs trusting)"
look careful /etc/ssl/certs/ca-certificates.crt
# Not through a pipe: grep ends at the first line that fits, and the writer's broken pipe would count as a failure.
said=$(k logs careful)
grep -qi certificate <<<"$said" || fail "with the image's CAs it should not trust the API server: $said"
say "names resolve and TLS checks certificates in the image: ${said##*$'\n'}"
k delete pod trusting careful --wait=false >/dev/null

k apply -f examples/rehearsal.yaml >/dev/null
k wait fwr/rehearsal --for=jsonpath='{.status.phase}'=Gray --timeout=120s >/dev/null || fail "no gray step began"
say "the rollout is in its gray steps"

in_flight() {
  local phase
  phase=$(k get fwr rehearsal -o jsonpath='{.status.phase}')
  case $phase in Verifying | Gray | Full) ;; *) fail "the rollout was $phase before $1: lower SPEED" ;; esac
}
lease() { k get lease -o name | grep fota-key-; }
owner() { # the pod that acts
  local holder
  holder=$(k get "$(lease)" -o jsonpath='{.spec.holderIdentity}')
  echo "${holder%_*}"
}
owned_by_another() { local now; now=$(owner) && [ -n "$now" ] && [ "$now" != "$1" ] && k get pod "$now"; }

in_flight "the upgrade"
before=$(owner)
"$helm" upgrade fota charts/fota -n "$namespace" "${values[@]}" --set podAnnotations.upgraded=yes --wait --timeout 3m \
  >"$work/upgrade" 2>&1 || fail "helm upgrade: $(cat "$work/upgrade")"
await "another owner" 60 owned_by_another "$before"
say "upgraded with the rollout in flight: $before, then $(owner)"

in_flight "the owner was killed"
before=$(owner)
k delete pod "$before" --force --grace-period=0 >/dev/null 2>&1
await "another owner" 60 owned_by_another "$before"
say "owner killed: $before, then $(owner)"

if [ -n "${E2E_CTR:-}" ]; then
  in_flight "a container was killed"
  pod=$(owner)
  container=$(k get pod "$pod" -o jsonpath='{.status.containerStatuses[0].containerID}')
  $E2E_CTR task kill --signal SIGKILL "${container#containerd://}" >"$work/kill" 2>&1 || fail "ctr: $(cat "$work/kill")"
  restarted() { [ "$(k get pod "$pod" -o jsonpath='{.status.containerStatuses[0].restartCount}')" -ge 1 ]; }
  await "a restart of $pod" 60 restarted
  say "container killed on the node: $pod started again"
else
  say "left out: no container was killed on the node (E2E_CTR)"
fi

if [ -n "${E2E_API:-}" ]; then
  in_flight "the API server stopped"
  $E2E_API stop >/dev/null
  gone() { ! "$kubectl" get --raw /readyz --request-timeout=2s; }
  await "the API server's end" 30 gone
  # Longer than a Lease: whoever owned it must have stopped acting.
  sleep 7
  $E2E_API start >/dev/null
  await "the API server" 120 "$kubectl" get --raw /readyz --request-timeout=2s
  say "API server stopped for longer than a Lease, and started"
else
  say "left out: the API server was not stopped (E2E_API)"
fi

in_flight "its end was waited for"
k wait fwr/rehearsal --for=jsonpath='{.status.phase}'=Completed --timeout=600s >/dev/null || fail "the rollout did not complete"
say "the rollout is Completed"
k rollout status deployment/fota --timeout=60s >/dev/null || fail "the operator is not Available"

# What the cloud saw.
k port-forward deployment/fota-rehearsal 0:8080 >"$work/forward" 2>&1 &
forward=$!
await "the port" 30 grep -q '^Forwarding from 127' "$work/forward"
port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
curl -sf "http://127.0.0.1:$port/_admin/calls" >"$work/calls" || fail "the cloud's log cannot be read"
created=$(jq -c '[.. | objects | select((.operation? // "") | startswith("Create")) | select(.code == null)]' "$work/calls")
tags=$(jq -r '.[].params | to_entries[] | select(.value == "fota.id") | .key | sub("Key$"; "Value")' <<<"$created" | wc -l)
jobs=$(jq -r '.[].jobId' <<<"$created" | sort -u | wc -l)
distinct=$(jq -r '.[].params as $p | $p | to_entries[] | select(.value == "fota.id") | $p[.key | sub("Key$"; "Value")]' <<<"$created" | sort -u | wc -l)
[ "$(jq length <<<"$created") $tags $jobs $distinct" = "5 5 5 5" ] ||
  fail "creates, tagged, jobs, distinct tags: $(jq length <<<"$created") $tags $jobs $distinct, not 5 each: $created"
say "the cloud's log: $(jq '[.. | objects | select(.operation?)] | length' "$work/calls") calls, 5 creates, 5 jobs, each tag once"
k logs -l app.kubernetes.io/component=controller --tail=-1 >"$work/logs"
# An API server that has just started has not read its own roles yet either, and refuses everybody for a moment.
if grep -v 'system:discovery.* not found' "$work/logs" | grep -iE 'forbidden|panicked'; then fail "the operator's log has what it should not"; fi

if "$helm" uninstall fota -n "$namespace" --timeout 2m >"$work/refused" 2>&1; then fail "uninstalled although a rollout needs it"; fi
grep -q 'fota-e2e/rehearsal' "$work/refused" || k logs job/fota-uninstall-check >>"$work/refused" 2>&1 || :
grep -q 'fota-e2e/rehearsal' "$work/refused" || fail "the refusal does not name the rollout: $(cat "$work/refused")"
k get deployment fota >/dev/null || fail "the refused uninstall took the operator away"
say "uninstall refused while the rollout needs the operator"
# As the refusal says. Nothing was taken away, so nothing is rolled out either.
revision=$("$helm" history fota -n "$namespace" -o json | jq '.[-1].revision')
"$helm" rollback fota "$revision" -n "$namespace" --wait --timeout 2m >"$work/rollback" 2>&1 || fail "helm rollback: $(cat "$work/rollback")"
"$helm" upgrade fota charts/fota -n "$namespace" "${values[@]}" --set podAnnotations.upgraded=yes --wait --timeout 3m \
  >"$work/upgrade" 2>&1 || fail "helm upgrade after a refused uninstall: $(cat "$work/upgrade")"
say "the release goes on after the refusal"
k delete fwr rehearsal --timeout=60s >/dev/null || fail "the rollout cannot be deleted"
"$helm" uninstall fota -n "$namespace" --wait --timeout 2m >"$work/uninstall" 2>&1 || fail "helm uninstall: $(cat "$work/uninstall")"
"$kubectl" get crd firmwarerollouts.fota.dev otaaccounts.fota.dev >/dev/null || fail "the definitions are gone"
left=$(k get deployments,services,serviceaccounts,roles,rolebindings,jobs,secrets -l app.kubernetes.io/name=fota -o name)
[ -z "$left" ] || fail "left behind: $left"
[ -z "$("$kubectl" get clusterroles,clusterrolebindings -l app.kubernetes.io/name=fota -o name)" ] || fail "rights are left behind"
say "uninstalled; the definitions stay"
