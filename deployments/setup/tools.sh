#!/usr/bin/env bash
# The checkers that `make test` runs, in .freshet/bin: versions and sums are pinned in deployments/setup/tools.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

module=$FRESHET_ROOT/deployments/setup/tools

have go || die "Go is missing; go.mod names the version that freshet needs: https://go.dev/dl"
# A checker must be as new as the Go whose code it reads.
key=$(key "$module/go.mod" "$module/go.sum" <(go env GOVERSION))
done_already() { stamped tools "$key" && [ -x "$FRESHET_HOME/bin/staticcheck" ]; }

if done_already; then exit 0; fi
alone tools
if done_already; then exit 0; fi
say "building $(sed -n 's:.*honnef.co/go/tools \(v[^ ]*\).*:staticcheck \1:p' "$module/go.mod")"
mkdir -p "$FRESHET_HOME/bin"
(cd "$module" && go build -mod=readonly -trimpath -o "$FRESHET_HOME/bin/" honnef.co/go/tools/cmd/staticcheck) </dev/null >&2 ||
  die "staticcheck could not be built"
stamp tools "$key"
