#!/usr/bin/env bash
# Builds the container image without a Docker daemon: target/image/fota.tar, an OCI archive, and its SBOM beside it.
#
#   image/build.sh [REFERENCE]    default: localhost/fota:VERSION
#
# The same sources, toolchain and CA bundle make the same bytes, wherever they lie.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "image: $*" >&2; }
fail() { say "$*"; exit 1; }

platform=x86_64-unknown-linux-musl
ca=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
image/tools.sh "$platform"
[ -s "$ca" ] || fail "no CA certificates at $ca (package ca-certificates, or set CA_BUNDLE)"

metadata=$(cargo metadata --format-version 1 --locked --filter-platform "$platform")
version=$(jq -r '.packages[] | select(.name == "fota") | .version' <<<"$metadata")
target=$(jq -r .target_directory <<<"$metadata")
reference=${1:-localhost/fota:$version}
out=$target/image
mkdir -p "$out"

# ring has C and assembly in it. Paths of this machine stay out of the binary.
export CC_x86_64_unknown_linux_musl=musl-gcc
cargo_home=${CARGO_HOME:-${HOME:?}/.cargo}
# Our own are relative; naming this checkout would build every dependency anew for each.
CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="--remap-path-prefix=$cargo_home=/cargo" \
  cargo build --release --locked --target "$platform" --bin fota >&2
binary=$target/$platform/release/fota
# A dynamic one would not even start on an empty base.
if grep -q INTERP <<<"$(readelf --program-headers "$binary")"; then fail "$binary is not static"; fi
if grep -qF -e "$PWD" -e "$cargo_home" "$binary"; then fail "$binary names folders of this machine"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The file system: the program, whom to trust, and a user that is nobody.
root=$work/root
mkdir -p "$root/etc/ssl/certs"
install -m 0755 "$binary" "$root/fota"
install -m 0644 "$ca" "$root/etc/ssl/certs/ca-certificates.crt"
echo 'fota:x:65532:65532::/:/fota' >"$root/etc/passwd"
echo 'fota:x:65532:' >"$root/etc/group"
chmod 0644 "$root/etc/passwd" "$root/etc/group"
chmod 0755 "$root" "$root/etc" "$root/etc/ssl" "$root/etc/ssl/certs"

archive() { # FOLDER: a tar of it to stdout, the same for the same content
  (cd "$1" && tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -- *)
}
layout=$work/layout
mkdir -p "$layout/blobs/sha256"
blob() { # FILE: stores it by its digest, and prints digest and size
  local digest
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  cp "$1" "$layout/blobs/sha256/$digest"
  echo "sha256:$digest $(stat -c %s "$1")"
}
archive "$root" >"$work/layer.tar"
unpacked=sha256:$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
gzip -9 --no-name --keep "$work/layer.tar"
read -r layer layer_size <<<"$(blob "$work/layer.tar.gz")"

jq -cn --arg unpacked "$unpacked" --arg version "$version" '{
  architecture: "amd64", os: "linux",
  config: {User: "65532:65532", Entrypoint: ["/fota"], WorkingDir: "/", ExposedPorts: {"8080/tcp": {}},
    Labels: {"org.opencontainers.image.title": "fota", "org.opencontainers.image.version": $version,
      "org.opencontainers.image.licenses": "Apache-2.0"}},
  rootfs: {type: "layers", diff_ids: [$unpacked]},
  history: [{created_by: "image/build.sh"}]}' >"$work/config.json"
read -r config config_size <<<"$(blob "$work/config.json")"

oci=application/vnd.oci.image
jq -cn --arg oci "$oci" --arg config "$config" --argjson config_size "$config_size" \
  --arg layer "$layer" --argjson layer_size "$layer_size" '{
  schemaVersion: 2, mediaType: "\($oci).manifest.v1+json",
  config: {mediaType: "\($oci).config.v1+json", digest: $config, size: $config_size},
  layers: [{mediaType: "\($oci).layer.v1.tar+gzip", digest: $layer, size: $layer_size}]}' >"$work/manifest.json"
read -r manifest manifest_size <<<"$(blob "$work/manifest.json")"

# The first annotation is containerd's name for it, the second the specification's.
jq -cn --arg oci "$oci" --arg manifest "$manifest" --argjson size "$manifest_size" --arg reference "$reference" '{
  schemaVersion: 2, mediaType: "\($oci).index.v1+json",
  manifests: [{mediaType: "\($oci).manifest.v1+json", digest: $manifest, size: $size,
    platform: {architecture: "amd64", os: "linux"},
    annotations: {"io.containerd.image.name": $reference,
      "org.opencontainers.image.ref.name": ($reference | sub(".*:"; ""))}}]}' >"$layout/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
archive "$layout" >"$work/fota.tar"
mv "$work/fota.tar" "$out/fota.tar"

image/sbom.jq --arg digest "${manifest#sha256:}" <<<"$metadata" >"$out/fota.cdx.json"

bytes=$(stat -c %s "$out/fota.tar")
say "$reference $manifest"
say "$out/fota.tar: $bytes bytes; the binary in it: $(stat -c %s "$binary") bytes"
say "$out/fota.cdx.json: $(jq '.components | length' "$out/fota.cdx.json") components"
[ "$bytes" -le 15000000 ] || fail "the archive is larger than 15 MB"
echo "$out/fota.tar"
