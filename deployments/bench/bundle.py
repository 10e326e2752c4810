"""A bundle to measure with: a real encoder of random weights over a made-up catalogue, exported by the trainer.

What a step and a search cost does not depend on what was learnt, so nothing has to be trained. How well a partitioned or quantised
search finds what an exact one finds does depend on how the vectors lie, so they are not drawn independently: items come in clusters
of Zipf sizes, clusters in a space whose directions matter less and less, as those of trained item matrices do; popular items are
longer. `freshet bench index` makes its vectors by the same recipe.

    PYTHONPATH=models python deployments/bench/bundle.py --items 3706 --out .freshet/bench/bundle
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from training.export import Bundle, export
from training.model import ModelConfig, Recommender

TYPES = ["", "view", "click", "cart", "purchase", "like", "play", "rating"]


def vectors(items: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """[items, dim]: clusters around centres, both with a falling spectrum; lengths fall with popularity rank."""
    clusters = max(8, int(np.sqrt(items)))
    scale = (np.arange(dim) + 1.0) ** -0.35
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    centres = rng.standard_normal((clusters, dim)) * scale
    share = 1 / (np.arange(clusters) + 5.0)
    member = rng.choice(clusters, items, p=share / share.sum())
    rows = (centres[member] + 0.7 * rng.standard_normal((items, dim)) * scale) @ turn
    length = 1 + 0.3 * rng.random(items)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * length[:, None]).astype(np.float32)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--items", type=int, default=3706)
    p.add_argument("--dim", type=int, default=64)
    p.add_argument("--encoder", choices=("lru", "gru", "lstm"), default="lru")
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--max-history", type=int, default=50)
    p.add_argument("--tasks", nargs="+", default=["click"], help="heads; more than one are drawn at random")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--weights", type=Path, help="also write the model's weights for PyTorch to this file (bench/peers)")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    config = ModelConfig(encoder=a.encoder, dim=a.dim, layers=a.layers, tasks=a.tasks)
    model = Recommender(config, a.items + 1, len(TYPES)).eval()
    with torch.no_grad():
        model.items.ids[1:] = torch.from_numpy(vectors(a.items, a.dim, np.random.default_rng(a.seed)))
    width = max(7, len(str(a.items)))
    ids = ["", *(f"i{n:0{width}d}" for n in range(1, a.items + 1))]
    note = {"command": "deployments/bench/bundle.py", "data_sha256": "", "users": 0, "items": a.items, "events": 0, "seed": a.seed}
    if a.weights:
        torch.save({"config": config.as_dict(), "rows": a.items + 1, "types": TYPES, "weights": model.state_dict()}, a.weights)
    bundle = Bundle(name=f"bench-{a.encoder}-{a.items}", item_ids=ids, event_types=TYPES, max_history=a.max_history, training=note)
    print(export(model, bundle, a.out)["fingerprint"][:8])


if __name__ == "__main__":
    main()
