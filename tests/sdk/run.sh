#!/usr/bin/env bash
# Lets the vendor's own Python clients, as published, talk to the simulated cloud. FOTA: the program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${FOTA_CACHE:-${HOME:?}/.cache/fota}/sdk/venv
packages=(aliyun-python-sdk-core==2.16.1 aliyun-python-sdk-iot==8.59.0 alibabacloud_iot20180120==5.1.0
  alibabacloud-tea-openapi==0.4.6)

python3 -c 'import venv, ensurepip' 2>/dev/null ||
  { echo "python3 with venv is missing: apt-get install python3-venv" >&2; exit 1; }
# What the environment was made of is kept beside it: other packages make another one.
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" >"$venv/packages"
fi
# Keys of the caller's must not reach the clients, nor a proxy stand between them and loopback.
exec env -u ALIBABA_CLOUD_ACCESS_KEY_ID -u ALIBABA_CLOUD_ACCESS_KEY_SECRET -u ALIBABA_CLOUD_SECURITY_TOKEN \
  no_proxy=127.0.0.1 NO_PROXY=127.0.0.1 PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/story.py" "$FOTA"
