"""Export: a fitted Recommender -> the folder that freshet opens (docs/bundle.md).

The graphs are written node by node from the weights, with standard operators only; nothing is traced. The same weights and the same
training note give the same bytes. After writing, the bundle is opened with ONNX Runtime and stepped beside a full forward pass of the
model; drift beyond the tolerance deletes nothing but fails the export.

Several models of one catalogue can be exported as one bundle (an ensemble): item vectors, states and queries lie side by side, so the
score, a dot product, is the sum of the members' scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from . import __version__
from .model import GAP_SCALES, GRU, LRU, LRUBlock, LSTM, Recommender
from .text import Whitening

OPSET, IR_VERSION, TOLERANCE = 17, 8, 1e-4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """A graph under construction: operators return the name of their output, so that formulas read as formulas."""

    def __init__(self, name: str):
        self.name, self.nodes, self.weights = name, [], []
        self.inputs, self.outputs = [], []

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes):
        names = [name] if name else [f"{kind.lower()}_{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def const(self, value, kind=np.float32) -> str:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array.astype(kind)), name))
        return name

    def input(self, name: str, kind: int, shape: list) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: int, shape: list) -> None:
        self.op("Identity", value, name=name)
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def bytes(self) -> bytes:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="freshet-training", producer_version=__version__)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)

    # What the layers of model.py are made of.

    def linear(self, x: str, weight, bias=None) -> str:
        """x W^T + b as a matrix product with a constant right side, and an addition."""
        y = self.op("MatMul", x, self.const(np.asarray(array(weight).T)))
        return y if bias is None else self.op("Add", y, self.const(bias))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        return self.op("LayerNormalization", x, self.const(layer.weight), self.const(layer.bias), axis=-1, epsilon=layer.eps)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Mul", x, self.const(np.float32(0.5**0.5))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.const(np.float32(1)))), self.const(np.float32(0.5)))

    def unit(self, x: str, scale: float = 1.0) -> str:
        """x divided by its length, times `scale`."""
        length = self.op("ReduceL2", x, axes=[-1], keepdims=1)
        safe = self.op("Max", length, self.const(np.float32(1e-6)))
        return self.op("Div", x, safe if scale == 1.0 else self.op("Mul", safe, self.const(np.float32(1 / scale))))

    def part(self, x: str, begin: int, end: int) -> str:
        """Columns begin..end of [B, n]."""
        return self.op("Slice", x, *(self.const([v], np.int64) for v in (begin, end, 1)))

    def join(self, parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)


def array(value) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


# ------------------------------------------------------------------------------------------------------------- encoders


def gru_cell(g: Graph, rnn: nn.GRU, x: str, own: list[str], w: int) -> list[str]:
    gx, gh = g.linear(x, rnn.weight_ih_l0, rnn.bias_ih_l0), g.linear(own[0], rnn.weight_hh_l0, rnn.bias_hh_l0)
    reset = g.op("Sigmoid", g.op("Add", g.part(gx, 0, w), g.part(gh, 0, w)))
    keep = g.op("Sigmoid", g.op("Add", g.part(gx, w, 2 * w), g.part(gh, w, 2 * w)))
    new = g.op("Tanh", g.op("Add", g.part(gx, 2 * w, 3 * w), g.op("Mul", reset, g.part(gh, 2 * w, 3 * w))))
    return [g.op("Add", new, g.op("Mul", keep, g.op("Sub", own[0], new)))]


def lstm_cell(g: Graph, rnn: nn.LSTM, x: str, own: list[str], w: int) -> list[str]:
    h, c = own
    sums = g.op("Add", g.linear(x, rnn.weight_ih_l0, rnn.bias_ih_l0), g.linear(h, rnn.weight_hh_l0, rnn.bias_hh_l0))
    enter, forget, new, leave = (g.part(sums, k * w, (k + 1) * w) for k in range(4))
    c = g.op("Add", g.op("Mul", g.op("Sigmoid", forget), c), g.op("Mul", g.op("Sigmoid", enter), g.op("Tanh", new)))
    return [g.op("Mul", g.op("Sigmoid", leave), g.op("Tanh", c)), c]


def rnn_step(g: Graph, encoder: GRU, x: str, state: str) -> tuple[str, list[str]]:
    """GRU and LSTM: each layer's cell, projected back, added to its input and normalised."""
    w, cell, out = encoder.hidden, lstm_cell if isinstance(encoder, LSTM) else gru_cell, []
    for i, (rnn, back, norm) in enumerate(zip(encoder.rnn, encoder.back, encoder.norm)):
        begin = i * encoder.parts
        own = [g.part(state, k * w, (k + 1) * w) for k in range(begin, begin + encoder.parts)]
        new = cell(g, rnn, x, own, w)
        x = g.norm(g.op("Add", g.linear(new[0], back.weight, back.bias), x), norm)
        out += new
    return x, out


def lru_block_step(g: Graph, block: LRUBlock, x: str, state: str) -> tuple[str, str]:
    """The trainer keeps channels as (re, im) pairs; the graph keeps all real parts, then all imaginary ones."""
    weight, bias = (array(t) for t in block.scaled_inward())
    halves = np.concatenate([np.arange(0, len(bias), 2), np.arange(1, len(bias), 2)])
    lam, h = array(block.eigenvalues()), len(bias) // 2
    swapped = g.op("Concat", g.part(state, h, 2 * h), g.part(state, 0, h), axis=1)  # (im, re)
    decayed = g.op("Mul", state, g.const(np.concatenate([lam.real, lam.real])))
    turned = g.op("Mul", swapped, g.const(np.concatenate([-lam.imag, lam.imag])))
    new = g.op("Add", g.op("Add", decayed, turned), g.linear(x, weight[halves], bias[halves]))
    out = g.linear(new, array(block.outward.weight)[:, halves], block.outward.bias)
    if block.gate is not None:
        out = g.op("Mul", out, g.op("Sigmoid", g.linear(x, block.gate.weight, block.gate.bias)))
    y = g.norm(g.op("Add", out, x), block.norm1)
    wide = g.gelu(g.linear(y, block.up.weight, block.up.bias))
    return g.norm(g.op("Add", g.linear(wide, block.down.weight, block.down.bias), y), block.norm2), new


def lru_step(g: Graph, encoder: LRU, x: str, state: str) -> tuple[str, list[str]]:
    width, out = encoder.state_size // len(encoder.blocks), []
    for i, block in enumerate(encoder.blocks):
        x, new = lru_block_step(g, block, x, g.part(state, i * width, (i + 1) * width))
        out.append(new)
    return x, out


STEPS = {"gru": rnn_step, "lstm": rnn_step, "lru": lru_step}


def read_event(g: Graph, model: Recommender, item: str, kind: str, gap: str) -> str:
    """Recommender.read: item vector + type + gap, normalised."""
    x = item
    if model.types is not None:
        x = g.op("Add", x, g.op("Gather", g.const(model.types.weight), kind, axis=0))
    if model.gap is not None:
        seconds = g.op("Unsqueeze", gap, g.const([1], np.int64))
        # The logarithm works on sixteen equal columns of which one is used: its vector and its scalar code round differently, and rows
        # of sixteen never reach the scalar one. So the bits of a user's state do not depend on who else is in the batch.
        wide = g.op("Mul", seconds, g.const(np.ones((1, 16))))
        slow = g.op("Mul", g.part(g.op("Log", g.op("Add", wide, g.const(np.float32(1)))), 0, 1), g.const(np.float32(1 / 16)))
        soft = [g.op("Div", g.const(np.float32(s)), g.op("Add", seconds, g.const(np.float32(s)))) for s in GAP_SCALES]
        x = g.op("Add", x, g.linear(g.join([slow, *soft]), model.gap.weight, model.gap.bias))
    return g.norm(x, model.norm)


def step_graph(models: Sequence[Recommender]) -> bytes:
    """step.onnx: one event for each of B users; members of an ensemble lie side by side."""
    dim, size = sum(m.config.dim for m in models), sum(m.state_size for m in models)
    g = Graph("step")
    item, kind, gap = g.input("item", FLOAT, ["B", dim]), g.input("type", INT64, ["B"]), g.input("gap", FLOAT, ["B"])
    state = g.input("state", FLOAT, ["B", size])
    states, queries = [], {task: [] for task in models[0].tasks}
    d = s = 0
    for m in models:
        own_item, own_state = (item, state) if len(models) == 1 else (g.part(item, d, d + m.config.dim), g.part(state, s, s + m.state_size))
        hidden, new = STEPS[m.config.encoder](g, m.encoder, read_event(g, m, own_item, kind, gap), own_state)
        states += new
        for task in m.tasks:
            queries[task].append(query(g, m, hidden, task, 1 / len(models)))
        d, s = d + m.config.dim, s + m.state_size
    g.output(g.join(states), "state_out", FLOAT, ["B", size])
    for task, parts in queries.items():
        g.output(g.join(parts), f"query_{task}", FLOAT, ["B", dim])
    return g.bytes()


def query(g: Graph, model: Recommender, hidden: str, task: str, weight: float) -> str:
    q = hidden
    if len(model.heads):
        head = model.heads[task]
        q = g.linear(hidden, head.weight, head.bias)
    if model.config.score == "cosine":
        return g.unit(q, weight / model.config.temperature)
    return q if weight == 1 else g.op("Mul", q, g.const(np.float32(weight)))


def search_graph(capacity: int, dim: int) -> bytes:
    """search.onnx: query . items + mask, then the best k. The items are external data, so that they can be rewritten in place."""
    g = Graph("search")
    query, mask, k = g.input("query", FLOAT, ["B", dim]), g.input("mask", FLOAT, [capacity]), g.input("k", INT64, [1])
    items = TensorProto(name="items", data_type=FLOAT, dims=[capacity, dim], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "items.f32"), ("offset", "0"), ("length", str(capacity * dim * 4))):
        items.external_data.add(key=key, value=value)
    scores = g.op("Add", g.op("Gemm", query, "items", transB=1), mask)
    best, rows = g.op("TopK", scores, k, outputs=2, axis=1, largest=1, sorted=1)
    g.output(best, "scores", FLOAT, ["B", "k"])
    g.output(rows, "rows", INT64, ["B", "k"])
    graph = helper.make_graph(g.nodes, g.name, g.inputs, g.outputs, [items])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="freshet-training", producer_version=__version__)
    model.ir_version = IR_VERSION
    return model.SerializeToString(deterministic=True)


def tower_graph(models: Sequence[Recommender], whitening: Whitening) -> bytes:
    """item_tower.onnx: LN(P white(text)); whitening and projection are one matrix."""
    dim, width = sum(m.config.dim for m in models), len(whitening.mean)
    g = Graph("item_tower")
    text = g.input("text", FLOAT, ["B", width])
    parts = []
    for m in models:
        matrix = whitening.matrix.astype(np.float64) @ array(m.items.project.weight).astype(np.float64).T  # [text dim, dim]
        e = g.norm(g.linear(text, matrix.T, -whitening.mean.astype(np.float64) @ matrix), m.items.norm)
        parts.append(g.unit(e) if m.config.score == "cosine" else e)
    g.output(g.join(parts), "item", FLOAT, ["B", dim])
    return g.bytes()


# --------------------------------------------------------------------------------------------------------------- bundle


@dataclass
class Bundle:
    """What a bundle says beside its weights."""

    name: str
    item_ids: list[str]  # row -> id; row 0 is ""
    event_types: list[str]  # index -> name; 0 is ""
    max_history: int
    training: dict  # command, data_sha256, users, items, events, seed
    metrics: dict[str, float] = field(default_factory=dict)
    whitening: Whitening | None = None
    encoder: dict | None = None  # name, sha256 of the text encoder


def capacity_of(items: int) -> int:
    """Room for new items: a quarter more, at least 1,024, rounded up to 64 rows."""
    return -(-(items + max(1024, items // 4)) // 64) * 64


@torch.no_grad()
def export(models: Recommender | Sequence[Recommender], bundle: Bundle, out: str | Path) -> dict:
    """Writes the bundle to `out` and checks it there; returns the manifest."""
    models = [models] if isinstance(models, Recommender) else list(models)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for m in models:
        m.to("cpu").eval()
    files = graphs(models, bundle) | tables(models, bundle)
    files["parity.json"] = parity(models, len(bundle.event_types))
    for stale in out.glob("*"):
        if stale.is_file() and stale.name in ("item_tower.onnx", "manifest.json"):
            stale.unlink()
    for name, content in files.items():
        (out / name).write_bytes(content)
    manifest = make_manifest(models, bundle, files)
    (out / "manifest.json").write_bytes(manifest)
    verify(out)
    return json.loads(manifest)


def graphs(models: Sequence[Recommender], bundle: Bundle) -> dict[str, bytes]:
    dim = sum(m.config.dim for m in models)
    files = {"step.onnx": step_graph(models), "search.onnx": search_graph(capacity_of(len(bundle.item_ids)), dim)}
    if bundle.whitening is not None:
        files["item_tower.onnx"] = tower_graph(models, bundle.whitening)
    return files


def tables(models: Sequence[Recommender], bundle: Bundle) -> dict[str, bytes]:
    n, capacity = len(bundle.item_ids), capacity_of(len(bundle.item_ids))
    vectors = np.zeros((capacity, sum(m.config.dim for m in models)), "<f4")
    vectors[:n] = np.concatenate([array(m.items()) for m in models], axis=1)
    bias = np.zeros(capacity, "<f4")
    bias[1:n] = np.mean([array(m.items.bias) for m in models], axis=0)[1:]
    ids = json.dumps({"ids": bundle.item_ids}, ensure_ascii=False, separators=(",", ":")).encode()
    return {"items.f32": vectors.tobytes(), "items_bias.f32": bias.tobytes(), "items.json": ids}


def parity(models: Sequence[Recommender], types: int, sequences: int = 4, length: int = 12) -> bytes:
    """Made-up sequences (never those of real users) and the queries of a full forward pass at each event."""
    rng = np.random.default_rng(17)
    rows = rng.integers(0, models[0].items.rows, (length, sequences))
    kinds = rng.integers(0, types, (length, sequences))
    gaps = np.round(np.exp(rng.uniform(0, 12, (length, sequences))), 1).astype(np.float32)
    gaps[0] = 0
    full = full_pass(models, rows, kinds, gaps)
    listed = lambda a: [[float(f"{v:.7g}") for v in row] for row in a]
    found = [{"rows": rows[:, i].tolist(), "types": kinds[:, i].tolist(), "gaps": [float(g) for g in gaps[:, i].tolist()],
              "queries": {task: listed(q[:, i]) for task, q in full.items()}} for i in range(sequences)]  # fmt: skip
    return json.dumps({"tolerance": TOLERANCE, "sequences": found}, separators=(",", ":")).encode()


@torch.no_grad()
def full_pass(models: Sequence[Recommender], rows: np.ndarray, kinds: np.ndarray, gaps: np.ndarray) -> dict[str, np.ndarray]:
    """Queries [T, B, dim] of each task by one forward pass over whole sequences [T, B]."""
    out = {task: [] for task in models[0].tasks}
    for m in models:
        x = m.items(torch.from_numpy(rows))
        hidden, _ = m(x, torch.from_numpy(kinds), torch.from_numpy(gaps), m.init_state(rows.shape[1]))
        for task in out:
            out[task].append(array(m.query(hidden, task)) / len(models))
    return {task: np.concatenate(parts, axis=-1) for task, parts in out.items()}


def make_manifest(models: Sequence[Recommender], bundle: Bundle, files: dict[str, bytes]) -> bytes:
    kinds = sorted({m.config.encoder for m in models})
    content = {
        "format": 1, "name": bundle.name, "fingerprint": "0" * 64, "architecture": "+".join(kinds),
        "dim": sum(m.config.dim for m in models), "state": {"size": sum(m.state_size for m in models), "dtype": "float32"},
        "max_history": bundle.max_history, "items": len(bundle.item_ids), "capacity": capacity_of(len(bundle.item_ids)),
        "event_types": bundle.event_types, "tasks": models[0].tasks,
    }  # fmt: skip
    if bundle.whitening is not None:
        content["text"] = {**bundle.encoder, "dim": len(bundle.whitening.mean)}
    content |= {"opset": OPSET, "producer": f"freshet-training {__version__}", "training": bundle.training, "metrics": bundle.metrics,
                "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}}  # fmt: skip
    blank = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    return blank.replace(b'"fingerprint": "' + b"0" * 64, b'"fingerprint": "' + hashlib.sha256(blank).hexdigest().encode(), 1)


# -------------------------------------------------------------------------------------------------------------- opening


class Opened:
    """A bundle as serving sees it: ONNX Runtime and the files, no PyTorch."""

    def __init__(self, folder: str | Path):
        import onnxruntime as ort

        self.folder = Path(folder)
        raw = (self.folder / "manifest.json").read_bytes()
        self.manifest = json.loads(raw)
        check_fingerprint(self.folder, raw, self.manifest)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = lambda name: ort.InferenceSession(str(self.folder / name), options, providers=["CPUExecutionProvider"])
        self.step_session, self.search_session = session("step.onnx"), session("search.onnx")
        self.tower_session = session("item_tower.onnx") if "text" in self.manifest else None
        m = self.manifest
        self.items = np.fromfile(self.folder / "items.f32", "<f4").reshape(m["capacity"], m["dim"])
        self.bias = np.fromfile(self.folder / "items_bias.f32", "<f4")
        self.ids = json.loads((self.folder / "items.json").read_text())["ids"]

    def step(self, rows, kinds, gaps, state) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """rows, kinds, gaps [B], state [B, S] -> the new state and the queries by task."""
        feed = {"item": self.items[rows], "type": np.asarray(kinds, np.int64), "gap": np.asarray(gaps, np.float32), "state": state}
        new, *queries = self.step_session.run(["state_out", *(f"query_{t}" for t in self.manifest["tasks"])], feed)
        return new, dict(zip(self.manifest["tasks"], queries))

    def search(self, query: np.ndarray, k: int, exclude=()) -> tuple[np.ndarray, np.ndarray]:
        mask = self.bias.copy()
        mask[0] = mask[len(self.ids) :] = -np.inf
        mask[list(exclude)] = -np.inf
        return self.search_session.run(["scores", "rows"], {"query": query, "mask": mask, "k": np.array([k], np.int64)})


def check_fingerprint(folder: Path, raw: bytes, manifest: dict) -> None:
    own = manifest["fingerprint"]
    if hashlib.sha256(raw.replace(own.encode(), b"0" * 64, 1)).hexdigest() != own:
        raise ValueError(f"{folder}/manifest.json: its bytes do not have the fingerprint {own[:8]} that it states")
    for name, digest in manifest["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{folder}/{name}: its bytes do not have the hash in the manifest")


def verify(folder: str | Path) -> float:
    """Opens a bundle, replays parity.json step by step, and returns the largest drift; raises beyond the tolerance."""
    opened = Opened(folder)
    noted = json.loads((opened.folder / "parity.json").read_text())
    worst = 0.0
    for sequence in noted["sequences"]:
        state = np.zeros((1, opened.manifest["state"]["size"]), np.float32)
        for t, event in enumerate(zip(sequence["rows"], sequence["types"], sequence["gaps"])):
            state, queries = opened.step(*([v] for v in event), state)
            for task, q in queries.items():
                worst = max(worst, float(np.abs(q[0] - np.array(sequence["queries"][task][t])).max()))
    if not worst <= noted["tolerance"]:
        raise ValueError(f"{folder}: steps drift by {worst:.2g} from the full pass, more than {noted['tolerance']:g}")
    return worst
