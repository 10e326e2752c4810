#!/usr/bin/env bash
# redis-server, from Debian's packages. It is only installed here, never run as a service: deployments/local/up starts it
# with its own settings and folder.

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

# What Debian 12 has, and so docker-compose.yml. Newer ones do as well; apt holds its packages to signed sums.
debian_12=7.0.15

major() { redis-server --version | sed -n 's/.*v=\([0-9]*\)\..*/\1/p'; }

if ! have redis-server; then
  alone apt
  # Debian's package would start a server of its own; a policy file keeps it from doing so while it is installed.
  policy=/usr/sbin/policy-rc.d
  if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  have redis-server || debian redis-server
fi
[ "$(major)" -ge "${debian_12%%.*}" ] ||
  die "freshet needs redis-server ${debian_12%%.*} or newer, found $(redis-server --version | cut -d' ' -f3)"
