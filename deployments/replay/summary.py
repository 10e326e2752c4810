"""The last lines of `make replay-check`: what was found, in words, then as one JSON object. Exits with 1 where a check failed."""
import json
import sys
from pathlib import Path

folder, redis = Path(sys.argv[1]), sys.argv[2]


def read(name):
    return json.loads((folder / f"{name}.json").read_text().splitlines()[-1])


exact, home, live, replay, freshness = read("exact"), read("home"), read("live"), read("replay"), read("freshness")
result = {
    "users": exact["users"],
    "profiles_identical": exact["profiles_identical"],
    "lists_identical": exact["lists_identical"],
    "overlap_at_10_all_sources": round(home["overlap_at_10"], 4),
    "replay_events_per_s": replay["events_per_s"],
    "live_drain_events_per_s": live["events_per_s"],
    "live_freshness_p99_ms": freshness["freshness_p99_ms"],
    "redis_addr": redis,
    "live_prefix": "freshet:live",
    "replay_prefix": "freshet:rebuilt",
}
checks = {
    "every profile is the same, byte for byte, after kill -9": result["profiles_identical"] == result["users"] > 0,
    "every list of user and catalogue is the same": result["lists_identical"] == result["users"],
    "a replay drains at .8 of live or more": result["replay_events_per_s"] >= 0.8 * result["live_drain_events_per_s"],
    "live freshness p99 below 100 ms meanwhile": result["live_freshness_p99_ms"] < 100,
}
for what, passed in checks.items():
    print(f"{'ok  ' if passed else 'FAIL'}  {what}")
print(f"      live drained at {result['live_drain_events_per_s']:.0f} events/s, the replay at {result['replay_events_per_s']:.0f} beside "
      f"{freshness['rate']} live events/s, whose lists came within p50 {freshness['freshness_p50_ms']:.2f} ms, p99 {freshness['freshness_p99_ms']:.2f} ms")
print(json.dumps(result))
sys.exit(0 if all(checks.values()) else 1)
