"""A deliberately worse bundle: the same model, but the names of its items are mixed up, as an exporter that sorts two lists
differently would do it. Every file is whole and signed, so that nothing but what users do can tell.

    python deployments/lanes/worse.py BUNDLE OUT
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import sys
from pathlib import Path


def main() -> None:
    bundle, out = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(bundle, out)
    items = json.loads((out / "items.json").read_text())
    names = items["ids"][1:]
    random.Random(1).shuffle(names)
    items["ids"][1:] = names
    (out / "items.json").write_text(json.dumps(items, separators=(",", ":"), ensure_ascii=False))

    manifest = (out / "manifest.json").read_text()
    before = json.loads(manifest)["files"]["items.json"]
    after = hashlib.sha256((out / "items.json").read_bytes()).hexdigest()
    name = json.loads(manifest)["name"]
    manifest = manifest.replace(before, after).replace(f'"name": "{name}"', f'"name": "{name}-mixed-up"', 1)
    blank = re.sub(r'"fingerprint": "[0-9a-f]{64}"', f'"fingerprint": "{"0" * 64}"', manifest, count=1).encode()
    signed = blank.replace(b'"fingerprint": "' + b"0" * 64, b'"fingerprint": "' + hashlib.sha256(blank).hexdigest().encode(), 1)
    (out / "manifest.json").write_bytes(signed)


if __name__ == "__main__":
    main()
