# shellcheck shell=bash
# What the set-up scripts share. Sourced, never run.
#
# Everything that is fetched or built lands in one ignored folder, .freshet/. A step leaves a stamp there that names
# what it was made from (its script, its pins); while the stamp still matches, the step is skipped without a word
# and without the network.

set -euo pipefail

FRESHET_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FRESHET_HOME=$FRESHET_ROOT/.freshet

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# have COMMAND: is it on the PATH?
have() { command -v "$1" >/dev/null 2>&1; }

# key FILE...: one digest over the files' contents, what a stamp holds.
key() { cat "$@" | sha256sum | cut -d' ' -f1; }

# stamped NAME KEY: was NAME made from exactly this?
stamped() {
  local found=
  read -r found 2>/dev/null <"$FRESHET_HOME/stamps/$1" || true
  [ "$found" = "$2" ]
}

# stamp NAME KEY: NAME is complete. Written last, so that an interrupted step is done again.
stamp() {
  mkdir -p "$FRESHET_HOME/stamps"
  printf '%s\n' "$2" >"$FRESHET_HOME/stamps/$1.new"
  mv "$FRESHET_HOME/stamps/$1.new" "$FRESHET_HOME/stamps/$1"
}

# alone NAME: one script at a time works on NAME; a second one waits. Released when the script ends.
alone() {
  mkdir -p "$FRESHET_HOME/locks"
  exec 9>"$FRESHET_HOME/locks/$1"
  flock -n 9 || {
    say "waiting: another script is at work on $1"
    flock 9
  }
}

# scratch: a folder inside .freshet (same file system, so that a finished file can be renamed into place) that is
# removed when the script ends, however it ends. Sets SCRATCH.
scratch() {
  mkdir -p "$FRESHET_HOME/cache"
  SCRATCH=$(mktemp -d "$FRESHET_HOME/cache/setup.XXXXXX")
  trap 'rm -rf "$SCRATCH"' EXIT
}

# matches SHA256 FILE: does the file exist with this sum?
matches() { [ -f "$2" ] && [ "$(sha256sum <"$2" | cut -d' ' -f1)" = "$1" ]; }

# verify SHA256 FILE: end here unless the file has the pinned sum.
verify() {
  matches "$1" "$2" || die "$(basename "$2") does not have the pinned SHA-256 $1; nothing was installed"
}

# debian PACKAGE...: install from Debian's archive when that can be done without asking, else say the one line to type.
debian() {
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    die "missing: install it with  sudo apt-get install --no-install-recommends $*"
  fi
  say "installing from Debian's packages: $*"
  local log=$FRESHET_HOME/cache/apt.log
  mkdir -p "$FRESHET_HOME/cache"
  export DEBIAN_FRONTEND=noninteractive
  # Images often come without package lists, or with lists older than the archive: then fetch them, once.
  apt-get install -y --no-install-recommends "$@" </dev/null >"$log" 2>&1 ||
    { apt-get update </dev/null >>"$log" 2>&1 && apt-get install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1; } ||
    {
      tail -n 15 "$log" >&2
      die "apt-get could not install $* (whole log: $log)"
    }
}
