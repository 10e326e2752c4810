#!/usr/bin/env bash
# A Python environment in .freshet/venv, in levels:
#
#   python.sh base    what the set-up needs (onnx, numpy): 50 MB, Python 3.9 or newer
#   python.sh train   what the trainer and its tests need (PyTorch): 3 GB, Python 3.11 or newer
#   python.sh peers   beside `train`, the clients of the consumer that freshet is compared with (bench/peers): 20 MB
#
# Every package is pinned with its hashes in models/training/requirements*.txt and bench/peers/requirements.txt. Packages come from wherever the
# user's own pip is set to look. FRESHET_PYTHON names the interpreter to build on; the default is the first that fits.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

level=${1:-base}
training=$FRESHET_ROOT/models/training
venv=$FRESHET_HOME/venv
case $level in
base) requirements=$training/requirements-base.txt minor=9 size="50 MB" ;;
train) requirements=$training/requirements.txt minor=11 size="PyTorch and its CUDA libraries, 3 GB" ;;
peers) requirements=$FRESHET_ROOT/bench/peers/requirements.txt minor=11 size="20 MB" ;;
*) die "python.sh: want base, train or peers, not $level" ;;
esac

# fits PYTHON: is it new enough for this level?
fits() { "$1" -c "import sys; sys.exit(sys.version_info < (3, $minor))" 2>/dev/null; }

# usable PYTHON: can it also build an environment? Debian packs that part separately.
usable() { fits "$1" && "$1" -c 'import venv, ensurepip' 2>/dev/null; }

# ready: does the environment that stands here fit this level? It is broken when the interpreter under it is gone or
# when the whole tree was moved.
ready() {
  [ -x "$venv/bin/python" ] && fits "$venv/bin/python" &&
    "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.prefix != sys.argv[1])' "$venv" 2>/dev/null
}

choose() {
  local candidate newest=
  for candidate in ${FRESHET_PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    have "$candidate" || continue
    if usable "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
    ! fits "$candidate" || newest=$candidate
  done
  [ -n "$newest" ] || die "no Python 3.$minor or newer here; install one with  sudo apt-get install python3 python3-venv"
  # New enough, but without the part that builds environments.
  debian python3-venv >&2
  usable "$newest" || die "$newest cannot build an environment; name another with FRESHET_PYTHON"
  printf '%s\n' "$newest"
}

# The stamp also names the folder: an environment holds absolute paths and does not survive a move.
key=$(key "$requirements" <(printf '%s' "$venv"))
if stamped "venv-$level" "$key" && [ -x "$venv/bin/python" ]; then exit 0; fi
alone venv
if stamped "venv-$level" "$key" && [ -x "$venv/bin/python" ]; then exit 0; fi

if ! ready; then
  python=$(choose)
  say "making a Python environment in .freshet/venv with $("$python" --version)"
  rm -f "$FRESHET_HOME"/stamps/venv-*
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
say "fetching the Python packages of $(basename "$requirements") ($size)"
quiet=-q
[ -t 2 ] && quiet=
# shellcheck disable=SC2086 # an empty $quiet is no argument at all
"$venv/bin/python" -m pip install $quiet --disable-pip-version-check --no-input --only-binary=:all: \
  --require-hashes -r "$requirements" </dev/null >&2 || die "pip could not install $requirements"
stamp "venv-$level" "$key"
