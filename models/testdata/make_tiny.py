"""Writes `tiny/`, the bundle that the Go tests of package models open: one GRU cell with random weights, 19 items, a tower.
Writes also `../probe.onnx`, the graph of one node by which the package finds out whether a device computes, and `../cells.onnx`, which
scores one cell of a large catalogue.

    python models/testdata/make_tiny.py

numpy and onnx only, fixed seed: the same versions give the same bytes. docs/bundle.md says what each file is.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIM, STATE, ITEMS, CAPACITY, TEXT = 8, 12, 20, 32, 384
TYPES = ["", "view", "click", "cart", "purchase"]
TASKS = ["click", "purchase"]
OUT = Path(__file__).parent / "tiny"
rng = np.random.default_rng(7)


def weights(*shape, scale=0.5):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


W = {
    "types": weights(len(TYPES), DIM),
    "gap": weights(1, DIM),
    "w_x": weights(DIM, 3 * STATE),
    "w_h": weights(STATE, 3 * STATE),
    "b_x": weights(3 * STATE),
    "b_h": weights(3 * STATE),
    "head_click": weights(STATE, DIM),
    "head_purchase": weights(STATE, DIM),
    "sixteen": np.float32(16),
    "one": np.float32(1),
}
items = weights(CAPACITY, DIM)
items[ITEMS:] = 0
bias = weights(CAPACITY, scale=0.1)
bias[0] = bias[ITEMS:] = 0
tower = {"w": weights(TEXT, DIM, scale=1.0), "b": weights(DIM)}


def model(name, nodes, inputs, outputs, constants):
    """A checked ONNX model; tensors are given as (name, type, shape)."""
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info(*o) for o in outputs], constants
    )
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="make_tiny")
    m.ir_version = 8
    return m


def save(file, m):
    onnx.checker.check_model(m)
    (OUT / file).write_bytes(m.SerializeToString(deterministic=True))


def op(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def write_step():
    """GRU: n + z (h - n) with n = tanh(nx + r nh), as PyTorch defines the cell."""
    nodes = [
        op("Gather", "types type", "type_vector"),
        op("Unsqueeze", "gap axis", "gap_column"),
        op("Add", "gap_column one", "gap_plus"),
        op("Log", "gap_plus", "gap_log"),
        op("Div", "gap_log sixteen", "gap_scaled"),
        op("Mul", "gap_scaled gap_weight", "gap_vector"),
        op("Add", "item type_vector", "with_type"),
        op("Add", "with_type gap_vector", "x"),
        op("Gemm", "x w_x b_x", "gx"),
        op("Gemm", "state w_h b_h", "gh"),
        op("Split", "gx", "rx zx nx", axis=1),
        op("Split", "gh", "rh zh nh", axis=1),
        op("Add", "rx rh", "r_sum"),
        op("Sigmoid", "r_sum", "r"),
        op("Add", "zx zh", "z_sum"),
        op("Sigmoid", "z_sum", "z"),
        op("Mul", "r nh", "r_nh"),
        op("Add", "nx r_nh", "n_sum"),
        op("Tanh", "n_sum", "n"),
        op("Sub", "state n", "h_n"),
        op("Mul", "z h_n", "z_h_n"),
        op("Add", "n z_h_n", "state_out"),
        op("MatMul", "state_out head_click", "query_click"),
        op("MatMul", "state_out head_purchase", "query_purchase"),
    ]
    constants = [numpy_helper.from_array(v, "gap_weight" if k == "gap" else k) for k, v in W.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    f = TensorProto.FLOAT
    inputs = [("item", f, ["B", DIM]), ("type", TensorProto.INT64, ["B"]), ("gap", f, ["B"]), ("state", f, ["B", STATE])]
    outputs = [("state_out", f, ["B", STATE])] + [(f"query_{t}", f, ["B", DIM]) for t in TASKS]
    save("step.onnx", model("step", nodes, inputs, outputs, constants))


def write_search():
    """query . item + mask, best k. The matrix is external data: whoever owns the folder may rewrite it."""
    matrix = TensorProto(name="items", data_type=TensorProto.FLOAT, dims=[CAPACITY, DIM], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "items.f32"), ("offset", "0"), ("length", str(4 * CAPACITY * DIM))):
        matrix.external_data.add(key=key, value=value)
    nodes = [op("Gemm", "query items", "products", transB=1), op("Add", "products mask", "all"), op("TopK", "all k", "scores rows", axis=1)]
    f, i = TensorProto.FLOAT, TensorProto.INT64
    inputs = [("query", f, ["B", DIM]), ("mask", f, [CAPACITY]), ("k", i, [1])]
    m = model("search", nodes, inputs, [("scores", f, ["B", "k"]), ("rows", i, ["B", "k"])], [matrix])
    (OUT / "search.onnx").write_bytes(m.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(OUT / "search.onnx"))


def write_tower():
    nodes = [op("Gemm", "text w b", "sum"), op("Tanh", "sum", "item")]
    f = TensorProto.FLOAT
    constants = [numpy_helper.from_array(v, k) for k, v in tower.items()]
    save("item_tower.onnx", model("item_tower", nodes, [("text", f, ["B", TEXT])], [("item", f, ["B", DIM])], constants))


def write_probe():
    one = [("in", TensorProto.FLOAT, [1])], [("out", TensorProto.FLOAT, [1])]
    m = model("probe", [op("Add", "in in", "out")], *one, [])
    (OUT.parent.parent / "probe.onnx").write_bytes(m.SerializeToString(deterministic=True))


def write_cells():
    """`../cells.onnx`: queries against one cell of a partitioned catalogue, whose vectors stand in columns."""
    f = TensorProto.FLOAT
    inputs = [("query", f, ["B", "D"]), ("items", f, ["D", "N"]), ("mask", f, ["N"])]
    m = model("cells", [op("Gemm", "query items mask", "scores")], inputs, [("scores", f, ["B", "N"])], [])
    onnx.checker.check_model(m)
    (OUT.parent.parent / "cells.onnx").write_bytes(m.SerializeToString(deterministic=True))


def full_pass(rows, types, gaps):
    """The same cell in float64 over a whole sequence: what the step graph must reproduce."""
    w = {k: v.astype(np.float64) for k, v in W.items()}
    h, queries = np.zeros(STATE), {t: [] for t in TASKS}
    for row, kind, gap in zip(rows, types, gaps):
        x = items[row] + w["types"][kind] + np.log(gap + 1) / 16 * w["gap"][0]
        rx, zx, nx = np.split(x @ w["w_x"] + w["b_x"], 3)
        rh, zh, nh = np.split(h @ w["w_h"] + w["b_h"], 3)
        z, r = 1 / (1 + np.exp(-(zx + zh))), 1 / (1 + np.exp(-(rx + rh)))
        n = np.tanh(nx + r * nh)
        h = n + z * (h - n)
        for t in TASKS:
            queries[t].append([round(float(v), 7) for v in h @ w[f"head_{t}"]])
    return queries


def write_parity():
    sequences = []
    for length in (1, 2, 5, 9):
        rows = rng.integers(0, ITEMS, length).tolist()
        types = rng.integers(0, len(TYPES), length).tolist()
        gaps = [0.0] + [round(float(g), 3) for g in rng.exponential(3600, length - 1)]
        sequences.append({"rows": rows, "types": types, "gaps": gaps, "queries": full_pass(rows, types, gaps)})
    (OUT / "parity.json").write_text(json.dumps({"tolerance": 1e-4, "sequences": sequences}))


def write_manifest():
    """Last: it holds the hash of everything else, and of itself with the digits of that hash replaced by zeros."""
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(OUT.iterdir()) if p.name != "manifest.json"}
    weights_sha = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    manifest = {
        "format": 1, "name": "tiny", "fingerprint": "0" * 64, "architecture": "gru", "dim": DIM,
        "state": {"size": STATE, "dtype": "float32"}, "max_history": 50, "items": ITEMS, "capacity": CAPACITY,
        "event_types": TYPES, "tasks": TASKS, "text": {"encoder": "all-MiniLM-L6-v2", "sha256": weights_sha, "dim": TEXT},
        "opset": 17, "producer": "make_tiny", "training": {"command": "python models/testdata/make_tiny.py", "data_sha256": "", "users": 0, "items": 0, "events": 0, "seed": 7},
        "metrics": {"val_hr10": 0.0, "val_ndcg10": 0.0}, "files": files,
    }  # fmt: skip
    text = json.dumps(manifest, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (OUT / "manifest.json").write_text(text.replace("0" * 64, digest))


def main():
    OUT.mkdir(exist_ok=True)
    items.astype("<f4").tofile(OUT / "items.f32")
    bias.astype("<f4").tofile(OUT / "items_bias.f32")
    (OUT / "items.json").write_text(json.dumps({"ids": [""] + [f"i{n}" for n in range(1, ITEMS)]}))
    write_probe()
    write_cells()
    write_step()
    write_search()
    write_tower()
    write_parity()
    write_manifest()


if __name__ == "__main__":
    main()
