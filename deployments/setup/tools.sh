#!/usr/bin/env bash
# The checkers that `make test` runs, in .freshet/bin. Versions are pinned here; Go's checksum database vouches for them.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

staticcheck=v0.8.2

have go || die "Go is missing; freshet needs the version that go.mod names: https://go.dev/dl"
key=$(key "$0" <(go env GOVERSION))
done_already() { stamped tools "$key" && [ -x "$FRESHET_HOME/bin/staticcheck" ]; }

if done_already; then exit 0; fi
alone tools
if done_already; then exit 0; fi
say "building staticcheck $staticcheck"
# Outside the module, so that its go.mod neither decides nor learns of it.
(cd "$FRESHET_HOME" && GOBIN=$FRESHET_HOME/bin GOFLAGS=-buildvcs=false go install "honnef.co/go/tools/cmd/staticcheck@$staticcheck") </dev/null >&2 ||
  die "staticcheck could not be built"
stamp tools "$key"
