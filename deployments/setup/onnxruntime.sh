#!/usr/bin/env bash
# ONNX Runtime's shared library, in .freshet/onnxruntime/libonnxruntime.so.
#
# The project publishes no plain Linux archive through a package registry; its npm package for Node carries the library
# for x64 and arm64. The package is only unpacked: nothing in it is run. It comes from wherever the user's own npm is
# set to look; the pinned sums decide whether it is taken.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

version=1.30.0
# The whole package; its registry states the same sum (integrity, in base64).
package_sha512=b7086cd42d82fc1164cf5c9ce4e634288536194aba0d444eee10f86f1e50d90cb79c0309c115d6f31537355733136f5503d96894b3987a9a03f1f8d318e7c8ab
case $(uname -m) in
x86_64 | amd64) arch=x64 library_sha256=ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23 ;;
aarch64 | arm64) arch=arm64 library_sha256=1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76 ;;
*) die "ONNX Runtime $version is packed for x64 and arm64, not for $(uname -m); set FRESHET_ONNXRUNTIME to a library of your own" ;;
esac

folder=$FRESHET_HOME/onnxruntime
key=$version-$arch-$library_sha256
done_already() { stamped onnxruntime "$key" && [ -f "$folder/libonnxruntime.so" ]; }

if done_already; then exit 0; fi
alone onnxruntime
if done_already; then exit 0; fi

have npm || debian npm
say "fetching onnxruntime-node $version from npm (120 MB) for libonnxruntime.so"
scratch
npm_log=$SCRATCH/npm.log
(cd "$SCRATCH" && npm pack --ignore-scripts --loglevel=error "onnxruntime-node@$version") </dev/null >"$npm_log" 2>&1 || {
  cat "$npm_log" >&2
  die "npm could not fetch onnxruntime-node@$version"
}
package=$SCRATCH/onnxruntime-node-$version.tgz
[ "$(sha512sum <"$package" | cut -d' ' -f1)" = "$package_sha512" ] ||
  die "onnxruntime-node-$version.tgz does not have the pinned SHA-512; nothing was installed"

member=package/bin/napi-v6/linux/$arch/libonnxruntime.so.1
tar -xzf "$package" -C "$SCRATCH" "$member"
verify "$library_sha256" "$SCRATCH/$member"

mkdir -p "$folder"
chmod 0755 "$SCRATCH/$member"
mv "$SCRATCH/$member" "$folder/libonnxruntime.so.$version"
# The name that the loader looks for (the library's own soname) and the one that people write.
ln -sfn "libonnxruntime.so.$version" "$folder/libonnxruntime.so.1"
ln -sfn "libonnxruntime.so.$version" "$folder/libonnxruntime.so"
stamp onnxruntime "$key"
