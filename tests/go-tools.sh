# Sourced by the build.sh next to a go.mod: builds the programs of its `tool` lines once, and keeps them in the cache.
# What is built, and with which flags, is the caller's.

command -v flock >/dev/null || { echo "flock is missing (package util-linux)" >&2; exit 1; }
shopt -s inherit_errexit # it is called within $(…), where a failed build would go unnoticed
export GOFLAGS="-buildvcs=false -mod=readonly"

# go_tools NAME HOW-LONG LDFLAGS PROGRAM...: prints the folder that holds them. Nothing else goes to stdout.
# A PROGRAM is the name that go installs under, or that name, a colon, and the one that it gets.
go_tools() {
  local name=$1 long=$2 flags=$3 key cache building program started
  shift 3
  # Everything that decides what is built.
  key=$({ cat go.mod go.sum; go version; echo "$GOFLAGS $flags"; } | sha256sum | cut -c1-16)
  cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/fota/$name
  mkdir -p "$cache"

  # A folder appears under its key by a rename, when it is whole: so seeing it is enough, without the lock.
  if [ ! -d "$cache/$key" ]; then
    exec 9>"$cache/.lock"
    flock -n 9 || { echo "$name: another process is building; waiting for it" >&2; flock 9; }
    if [ ! -d "$cache/$key" ]; then
      rm -rf "$cache"/.building.* # left by a build that was killed; we hold the lock
      building=$(mktemp -d "$cache/.building.XXXXXX")
      # Now, not at the end: the variable is gone by then.
      # shellcheck disable=SC2064
      trap "rm -rf '$building'" EXIT
      echo "$name: building ${*#*:} into $cache ($long, once)" >&2
      started=$SECONDS
      # 9>&-: go may leave a telemetry process behind, which must not hold the lock.
      GOBIN=$building go install -ldflags "$flags" tool >&2 9>&-
      for program in "$@"; do
        [ "${program%:*}" = "${program#*:}" ] || mv "$building/${program%:*}" "$building/${program#*:}"
        [ -x "$building/${program#*:}" ] || { echo "$name: the build made no '$program'; look at the tool lines of go.mod" >&2; exit 1; }
      done
      mv "$building" "$cache/$key"
      echo "$name: built in $((SECONDS - started)) s" >&2
    fi
  fi
  echo "$cache/$key"
}
