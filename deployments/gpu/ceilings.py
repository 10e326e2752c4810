"""What a device can do at most, measured: float32 operations a second in a large matrix product, and bytes a second in a large copy.

TF32 is off, as it is in freshet's sessions. The best of several tries, since a ceiling is what was reached once.

    python deployments/gpu/ceilings.py        one JSON object: device, gflops, gbps
"""

from __future__ import annotations

import json
import time

import torch


def best(run, work: float, sync, tries: int = 7) -> float:
    """work / seconds of the quickest try."""
    run()
    sync()
    quickest = float("inf")
    for _ in range(tries):
        began = time.perf_counter()
        run()
        sync()
        quickest = min(quickest, time.perf_counter() - began)
    return work / quickest


def main() -> None:
    cuda = torch.cuda.is_available()
    device, sync = ("cuda", torch.cuda.synchronize) if cuda else ("cpu", lambda: None)
    torch.backends.cuda.matmul.allow_tf32 = False
    n, m = (8192, 1 << 28) if cuda else (1024, 1 << 25)
    a, b, c = (torch.randn(n, n, device=device) for _ in range(3))
    x, y = (torch.ones(m, device=device) for _ in range(2))
    with torch.inference_mode():
        flops = best(lambda: torch.mm(a, b, out=c), 2 * n**3, sync)
        moved = best(lambda: y.copy_(x), 2 * 4 * m, sync)
    name = torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads"
    print(json.dumps({"device": device, "name": name, "gflops": round(flops / 1e9), "gbps": round(moved / 1e9, 1)}))


if __name__ == "__main__":
    main()
