"""The way back from a bundle to weights that training can go on from, where only the bundle was kept.

A bundle's graph holds what serving needs: eigenvalues and scaled matrices of a recurrent unit. The parameters behind them are found again up to a
scale that does not change what the model says; the optimizer starts fresh.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from . import export
from .model import ModelConfig, Recommender


def weights(folder: str | Path, config: ModelConfig) -> dict[str, Tensor]:
    """The state of the Recommender of `config` that says what the bundle in `folder` says, within its tolerance.

    For one LRU model scored by products, without texts, types and gaps, whose one head is plain; others are refused (ValueError).
    """
    opened = export.Opened(folder)
    manifest = opened.manifest
    model = Recommender(config, manifest["items"], len(manifest["event_types"]))
    if config.encoder != "lru" or config.score != "dot" or "text" in manifest or model.types is not None or model.gap is not None or len(model.heads):
        raise ValueError(f"{folder}: only an lru bundle with dot scores and nothing but items as input is read back")
    stored = (numpy_helper.to_array(c) for c in onnx.load(str(opened.folder / "step.onnx")).graph.initializer)
    constants = iter([torch.from_numpy(c.copy()) for c in stored if c.size > 1])  # the others are operators' arguments
    parts = ["norm.weight", "norm.bias"]
    rows = manifest["items"]
    out = {"items.ids": torch.from_numpy(opened.items[:rows].copy()), "items.bias": torch.from_numpy(opened.bias[:rows].copy())}
    out |= {name: next(constants) for name in parts}
    for i in range(config.layers):
        out |= {f"encoder.blocks.{i}.{name}": value for name, value in block(constants, config.hidden).items()}
    kept = model.state_dict()
    model.load_state_dict(kept | out)
    check(model.eval(), opened)
    return model.state_dict()


def block(constants, h: int) -> dict[str, Tensor]:
    """The parameters of one LRUBlock from the constants of export.lru_block_step, in their order there."""
    real, imaginary = next(constants).double()[:h], next(constants).double()[h:]
    length = torch.hypot(real, imaginary)
    gamma = (1 - length**2).sqrt().log()  # as a new block has it; the matrices take what is left of the scale
    pairs = torch.arange(2 * h).view(2, h).T.flatten()  # the graph has all real parts, then all imaginary ones
    scale = torch.exp(-gamma).repeat_interleave(2)
    inward, bias = next(constants).T.double()[pairs], next(constants).double()[pairs]
    out = {
        "nu": (-length.log()).log(),
        "theta": (torch.atan2(imaginary, real) % (2 * math.pi)).clamp_min(1e-6).log(),
        "gamma": gamma,
        "inward.weight": inward * scale[:, None],
        "inward.bias": bias * scale,
        "outward.weight": next(constants).T[:, pairs],
        "outward.bias": next(constants),
        "norm1.weight": next(constants),
        "norm1.bias": next(constants),
        "up.weight": next(constants).T,
        "up.bias": next(constants),
        "down.weight": next(constants).T,
        "down.bias": next(constants),
        "norm2.weight": next(constants),
        "norm2.bias": next(constants),
    }
    return {name: value.float().contiguous() for name, value in out.items()}


def check(model: Recommender, opened: export.Opened) -> None:
    """Raises unless the model says what the bundle noted at its export."""
    noted = json.loads((opened.folder / "parity.json").read_text())
    for sequence in noted["sequences"]:
        column = lambda name, kind: np.array(sequence[name], kind)[:, None]
        said = export.full_pass([model], column("rows", np.int64), column("types", np.int64), column("gaps", np.float32))
        for task, queries in said.items():
            drift = float(np.abs(queries[:, 0] - np.array(sequence["queries"][task])).max())
            if not drift <= noted["tolerance"]:
                raise ValueError(f"{opened.folder}: the weights read back drift by {drift:.2g}; was it made with this config?")
