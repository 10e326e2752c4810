#!/usr/bin/env bash
# ONNX Runtime's library with the CUDA provider, in .freshet/onnxruntime-gpu/onnxruntime/capi/libonnxruntime.so: for `make gpu-check`, or for a worker by
# FRESHET_ONNXRUNTIME. It comes from the project's Python wheel, which is only unpacked beside the environment: nothing in it is run. The
# provider also needs CUDA's libraries and cuDNN (the `train` level of python.sh has them) on LD_LIBRARY_PATH, and a driver.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

pins=$FRESHET_ROOT/deployments/setup/onnxruntime-gpu.txt
folder=$FRESHET_HOME/onnxruntime-gpu
library=$folder/onnxruntime/capi/libonnxruntime.so # the library looks for its providers in the folder that it was named in
key=$(key "$pins" "$0")
if stamped onnxruntime-gpu "$key" && [ -f "$library" ]; then exit 0; fi
[ "$(uname -m)" = x86_64 ] || die "the wheel is for x86-64; set FRESHET_ONNXRUNTIME to a library of your own"
"$FRESHET_ROOT/deployments/setup/python.sh" train
alone onnxruntime-gpu
if stamped onnxruntime-gpu "$key" && [ -f "$library" ]; then exit 0; fi
say "fetching onnxruntime-gpu (300 MB)"
rm -rf "$folder"
"$FRESHET_HOME/venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --only-binary=:all: --no-deps --target "$folder" \
  --require-hashes -r "$pins" </dev/null >&2 || die "pip could not install $pins"
found=$(find "$(dirname "$library")" -name 'libonnxruntime.so.*' | head -n 1)
[ -n "$found" ] || die "the wheel holds no libonnxruntime.so"
ln -sfn "$(basename "$found")" "$library"
stamp onnxruntime-gpu "$key"
