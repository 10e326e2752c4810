# shellcheck shell=bash
# What up, down and kill share: where a pair of servers lives and which process is which. Sourced, never run.
#
# One pair is one folder, .freshet/local/NAME (FRESHET_LOCAL_NAME, default "default"):
#
#   kafka/, redis/          the data
#   kafka.log, redis.log    what the servers say
#   ports                   the ports they were given; kept, so that a server comes back where it was
#   masters                 how many masters its Redis Cluster has; absent = one Redis. Of a Cluster redis-1, redis-2, ... stand for redis
#   env                     KAFKA_ADDR, REDIS_ADDR, KAFKA_PID, REDIS_PID of what up started; `down` removes it. Of a Cluster the two of Redis
#                           are lists with commas, and FRESHET_REDIS_CLUSTER is true

# shellcheck source=../setup/lib.sh source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../setup/lib.sh"

name=${FRESHET_LOCAL_NAME:-default}
case $name in
'' | *[!a-z0-9_-]*) die "FRESHET_LOCAL_NAME is \"$name\"; use a-z, 0-9, _ and - only" ;;
esac
folder=$FRESHET_HOME/local/$name

tell() { printf '%s: %s\n' "$name" "$*"; }

# began PID: when the process began, in clock ticks since boot; empty if there is none. A number that is given again
# to another process has another beginning, so (pid, began) names one process.
began() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # The second field is the command in parentheses and may hold anything: count from its end.
  stat=${stat##*) }
  # shellcheck disable=SC2086 # split into fields on purpose
  set -- $stat
  [ "$1" = Z ] || printf '%s\n' "${20}"
}

# process SERVER: the pid of the running server, empty when it does not run.
process() {
  local pid started
  { read -r pid started <"$folder/$1.pid"; } 2>/dev/null || return 0
  [ -n "${started:-}" ] && [ "$(began "$pid")" = "$started" ] && printf '%s\n' "$pid"
  return 0
}

# end SERVER SIGNAL SECONDS: signal the server if it runs and wait until it is gone; false if it outlives the wait.
end() {
  local pid waited=0
  pid=$(process "$1")
  [ -n "$pid" ] || return 0
  kill "-$2" "$pid" 2>/dev/null || true
  while [ -n "$(process "$1")" ]; do
    [ "$waited" -lt $(($3 * 20)) ] || return 1
    sleep 0.05
    waited=$((waited + 1))
  done
}

# port_of SERVER: the port it was given, empty before its first start.
port_of() { sed -n "s/^$1=//p" "$folder/ports" 2>/dev/null || true; }

# masters: how many masters the pair's Redis has.
masters() { cat "$folder/masters" 2>/dev/null || printf '1\n'; }

# servers_of KIND: the names of the servers of a kind, kafka or redis.
servers_of() {
  local n
  n=$(masters)
  if [ "$1" = redis ] && [ "$n" -gt 1 ]; then seq -f 'redis-%g' "$n"; else printf '%s\n' "$1"; fi
}

# write_env: the addresses and pids of what runs now, for scripts to source.
write_env() {
  {
    local kind server pid addrs pids
    for kind in kafka redis; do
      addrs='' pids=''
      for server in $(servers_of "$kind"); do
        pid=$(process "$server")
        [ -n "$pid" ] || continue
        addrs=$addrs${addrs:+,}127.0.0.1:$(port_of "$server") pids=$pids${pids:+,}$pid
      done
      [ -n "$pids" ] || continue
      printf '%s_ADDR=%s\n%s_PID=%s\n' "${kind^^}" "$addrs" "${kind^^}" "$pids"
      if [ "$kind" = redis ] && [ "$(masters)" -gt 1 ]; then printf 'FRESHET_REDIS_CLUSTER=true\n'; fi
    done
  } >"$folder/env.new"
  if [ -s "$folder/env.new" ]; then mv "$folder/env.new" "$folder/env"; else rm -f "$folder/env.new" "$folder/env"; fi
}
