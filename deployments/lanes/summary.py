"""The last lines of `make lanes-check`: what was found, in words, then as one JSON object. Exits with 1 where a check failed."""

import json
import re
import sys
from pathlib import Path

folder = Path(sys.argv[1])


def read(name):
    return json.loads((folder / f"{name}.json").read_text().splitlines()[-1])


canary, promote, visits = read("canary"), read("promote"), read("visits")
online = canary.get("online") or {"a": {}, "b": {}, "apart": []}
arms = {}
for bound, lane, measure, value in re.findall(
    r'^freshet_arm_ratio\{bound="(\w+)",lane="(\w+)",measure="(\w+)"\} (\S+)$', (folder / "metrics.txt").read_text(), re.M
):
    arms.setdefault(measure, {}).setdefault(lane, {})[bound] = float(value)
MEASURES = ("hit_ratio_10", "ndcg_10", "click_through")


def worse(measure):
    """The canary's interval lies below live's in `lanes diff`, and in the metrics."""
    diff = measure in online["apart"] and online["b"][measure]["value"] < online["a"][measure]["value"]
    arm = arms.get(measure, {})
    return diff and "live" in arm and "canary" in arm and arm["canary"]["high"] < arm["live"]["low"]


checks = {f"a worse bundle shows in {m}, in lanes diff and in the metrics": worse(m) for m in MEASURES}
checks["nobody noticed the promotion and the roll-back"] = not promote["broken"]
result = {"visits": visits["visits"], "canary": online, "promote": promote}
for what, passed in checks.items():
    print(f"{'ok  ' if passed else 'FAIL'}  {what}")
for m in MEASURES:
    a, b = online["a"].get(m), online["b"].get(m)
    if a and b:
        print(f"      {m}: live {a['value']:.4f} [{a['low']:.4f}, {a['high']:.4f}], canary {b['value']:.4f} [{b['low']:.4f}, {b['high']:.4f}]")
print(f"      reading, p99 in ms: {promote['read_p99_ms']}; promotion and roll-back took {promote['seconds']} s")
for broken in promote["broken"]:
    print(f"      {broken}")
print(json.dumps(result))
sys.exit(0 if all(checks.values()) else 1)
