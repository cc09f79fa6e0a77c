#!/usr/bin/env bash
# What release.yml pushes, so that it can be tried against any registry.
#
#   release.sh push VERSION PREFIX FOLDER    builds; pushes PREFIX/fota and PREFIX/charts/fota; fills FOLDER with the files
#                                            of the release; prints names and digests as NAME=VALUE
#
# Needs crane, logged in. PLAIN_HTTP=1 is for a registry on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "release: $*" >&2; exit 1; }
[ "${1:-}" = push ] && [ $# = 4 ] || fail "release.sh push VERSION PREFIX FOLDER"
version=$2 prefix=$3 folder=$4
[ "${prefix%%/*}" ] || fail "no registry: set the repository variable REGISTRY"

# One version, everywhere that it is written.
crate=$(cargo metadata --format-version 1 --no-deps --locked | jq -r '.packages[] | select(.name == "fota") | .version')
chart=$(sed -n 's/^version: //p' charts/fota/Chart.yaml)
app=$(sed -n 's/^appVersion: //p' charts/fota/Chart.yaml)
for one in "$crate" "$chart" "$app"; do
  [ "$one" = "$version" ] || fail "tag $version, crate $crate, chart $chart, appVersion $app: they must be one"
done

mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

image=$prefix/fota
archive=$(image/build.sh "$image:$version")
mkdir "$work/layout"
tar -xf "$archive" -C "$work/layout"
insecure=()
[ "${PLAIN_HTTP:-}" != 1 ] || insecure=(--insecure)
crane push "${insecure[@]}" "$work/layout" "$image:$version" >&2
# Asked of the registry: what was signed must be what is served.
image_digest=$(crane digest "${insecure[@]}" "$image:$version")
built=$(jq -r '.manifests[0].digest' "$work/layout/index.json")
[ "$image_digest" = "$built" ] || fail "the registry serves $image_digest, and $built was built"
cp "$archive" "${archive%.tar}.cdx.json" "$folder/"

# The chart names the image by its digest from here on.
helm=$(tests/helm/build.sh)
cp -rL charts/fota "$work/fota"
sed -i -e "s|^  repository: .*|  repository: $image|" -e "s|^  digest: .*|  digest: $image_digest|" "$work/fota/values.yaml"
"$helm" package "$work/fota" --destination "$work" >&2
plain=()
[ "${PLAIN_HTTP:-}" != 1 ] || plain=(--plain-http)
HELM_REGISTRY_CONFIG=${DOCKER_CONFIG:-${HOME:?}/.docker}/config.json \
  "$helm" push "${plain[@]}" "$work/fota-$version.tgz" "oci://$prefix/charts" >&2
chart_digest=$(crane digest "${insecure[@]}" "$prefix/charts/fota:$version")
cp "$work/fota-$version.tgz" "$folder/"

tests/chart/check.sh render --set "image.repository=$image" --set "image.digest=$image_digest" >"$folder/install.yaml"
grep -q "image: $image@$image_digest" "$folder/install.yaml" || fail "install.yaml does not name the image by its digest"
grep -q "digest: $image_digest" "$work/fota/values.yaml" || fail "the chart does not name the image by its digest"

printf '%s=%s\n' image "$image" image-digest "$image_digest" chart "$prefix/charts/fota" chart-digest "$chart_digest"
