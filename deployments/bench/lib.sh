# shellcheck shell=bash
# What the scripts of this folder share: a bundle of made-up weights, real servers, a worker, and ending them. Sourced, never run; the
# caller stands in the repository's root.
#
#   ITEMS     items of the made-up catalogue (default: 3706, the size of MovieLens 1M)
#   BASKET=1  both lists of the shop preset (basket.yaml) instead of the home list alone (config.yaml)
#   KEEP=1    leave the servers up until FRESHET_LOCAL_NAME=bench deployments/local/down --wipe

ITEMS=${ITEMS:-3706}
export FRESHET_LOCAL_NAME=${FRESHET_LOCAL_NAME:-bench}
# Highest rates: Kafka's code is compiled fully, once it is warm.
export FRESHET_LOCAL_KAFKA_TIER=${FRESHET_LOCAL_KAFKA_TIER:-4}
work=.freshet/bench/$FRESHET_LOCAL_NAME
pids=()
say() { printf '%s %s\n' "--" "$*" >&2; }

# at_end: what a script ends before the servers; it may have one of its own.
at_end() { :; }
# quit: end what was started, whatever happened.
quit() {
  local status=$?
  at_end
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  [ "${KEEP:-}" = 1 ] || deployments/local/down --wipe >&2 || true
  exit "$status"
}

# make_bundle: the bundle of ITEMS items, where it is not there yet; its name is left in FRESHET_MODEL_BUNDLE, the model's weights for
# PyTorch lie beside it.
make_bundle() {
  local tasks=(click) stamp
  export FRESHET_CONFIG=$PWD/deployments/bench/config.yaml FRESHET_MODEL_BUNDLE=.freshet/bench/bundle-$ITEMS
  if [ "${BASKET:-}" = 1 ]; then
    tasks=(click purchase)
    export FRESHET_CONFIG=$PWD/deployments/bench/basket.yaml FRESHET_MODEL_BUNDLE=.freshet/bench/bundle-$ITEMS-basket
  fi
  stamp=$(cat deployments/bench/bundle.py models/training/*.py | sha256sum | cut -d' ' -f1)
  [ "$(cat "$FRESHET_MODEL_BUNDLE.stamp" 2>/dev/null)" != "$stamp" ] || return 0
  say "a bundle of $ITEMS items with random weights"
  rm -rf "$FRESHET_MODEL_BUNDLE"
  mkdir -p "${FRESHET_MODEL_BUNDLE%/*}"
  PYTHONPATH=models .freshet/venv/bin/python deployments/bench/bundle.py --items "$ITEMS" --tasks "${tasks[@]}" --weights "$FRESHET_MODEL_BUNDLE.pt" \
    --out "$FRESHET_MODEL_BUNDLE" >&2
  printf '%s\n' "$stamp" >"$FRESHET_MODEL_BUNDLE.stamp"
}

# servers: empty ones; their addresses are left where freshet looks for them. FRESHET_LOCAL_REDIS_MASTERS=3 makes Redis a Cluster.
servers() {
  say "real servers"
  deployments/setup/kafka.sh >&2
  deployments/setup/redis.sh >&2
  trap quit EXIT INT TERM
  deployments/local/down --wipe >&2 || true
  deployments/local/up >&2
  export FRESHET_REDIS_CLUSTER=false
  # shellcheck source=/dev/null
  . ".freshet/local/$FRESHET_LOCAL_NAME/env"
  export FRESHET_KAFKA_BROKERS=$KAFKA_ADDR FRESHET_REDIS_ADDRS=$REDIS_ADDR
  rm -rf "$work"
  mkdir -p "$work"
}

# serve: a worker; its address is left in url, its process in worker, its log in the work folder.
serve() {
  : >"$work/worker.log"
  FRESHET_HTTP_LISTEN=127.0.0.1:0 bin/freshet serve "$@" 2>>"$work/worker.log" &
  worker=$!
  pids+=("$worker")
  for _ in $(seq 200); do
    url=$(grep -o 'http://127[0-9.:]*' "$work/worker.log" | tail -n 1 || true)
    [ -z "$url" ] || return 0
    kill -0 "$worker" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/worker.log" >&2
  return 1
}
