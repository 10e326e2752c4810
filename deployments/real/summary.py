"""The last lines of `make real`: what was found, in words, then as one JSON object. Exits with 1 where a check failed."""
import json
import sys
from pathlib import Path

folder, planted, kafka, redis = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


def read(name):
    return json.loads((folder / f"{name}.json").read_text())


accuracy, outputs, letters = read("accuracy"), read("outputs"), read("letters")
killed, drain, freshness = read("killed"), read("drain"), read("freshness")
rows = {row["name"]: row for row in accuracy["rows"]}
popularity, counts = rows["popularity"], rows["counts"]
result = {
    "users": outputs["users"],
    "users_with_list": outputs["users_with_list"],
    "mismatches": outputs["mismatches"],
    "bad_planted": planted,
    "dead_letters": letters["dead_letters"],
    "dead_letter_duplicates": letters["dead_letter_duplicates"],
    "hr10": accuracy["hr10"],
    "ndcg10": accuracy["ndcg10"],
    "hr10_warm": accuracy["hr10_warm"],
    "hr10_cold": accuracy["hr10_cold"],
    "popularity_hr10": popularity["hr10"],
    "popularity_ndcg10": popularity["ndcg10"],
    "counts_hr10": counts["hr10"],
    "counts_ndcg10": counts["ndcg10"],
    "events_per_s": drain["events_per_s"],
    "freshness_p50_ms": freshness["freshness_p50_ms"],
    "freshness_p99_ms": freshness["freshness_p99_ms"],
    "killed_profiles_identical": killed["profiles_identical"],
    "killed_lists_identical": killed["lists_identical"],
    "kafka_addr": kafka,
    "redis_addr": redis,
}
checks = {
    "every user has a list": result["users"] == result["users_with_list"] > 0,
    "the output topic equals Redis byte for byte": result["mismatches"] == 0,
    "every planted bad record is in the dead letters, nothing else is": result["dead_letters"] == planted,
    "HR@10 above popularity's": result["hr10"] > result["popularity_hr10"],
    "after kill -9: the same profiles": killed["profiles_identical"] == killed["users"] == result["users"],
    "after kill -9: the same lists": killed["lists_identical"] == killed["users"],
}
for what, passed in checks.items():
    print(f"{'ok  ' if passed else 'FAIL'}  {what}")
print(f"      prequential HR@10/NDCG@10 on the last 20 %: {result['hr10']:.4f}/{result['ndcg10']:.4f} "
      f"(warm users {result['hr10_warm']:.4f}, cold users {result['hr10_cold']:.4f}); "
      f"transition counts {result['counts_hr10']:.4f}/{result['counts_ndcg10']:.4f}, "
      f"popularity {result['popularity_hr10']:.4f}/{result['popularity_ndcg10']:.4f}")
print(f"      drained at {result['events_per_s']:.0f} events/s; at {freshness['rate']} events/s from due time to the output topic "
      f"p50 {result['freshness_p50_ms']:.2f} ms, p99 {result['freshness_p99_ms']:.2f} ms, {freshness['lists']} lists")
print(json.dumps(result))
sys.exit(0 if all(checks.values()) else 1)
