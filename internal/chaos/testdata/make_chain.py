"""Writes `chain/`, the bundle of the chaos suite: a model whose state is a hash of everything that led to it.

    python internal/chaos/testdata/make_chain.py

Each of the state's eight numbers moves by  s' = (s * a + x) mod p,  where x mixes the item, the event's type and the gap in
milliseconds. Every intermediate value is a whole number below 2^24, so float32 computes it exactly, in whatever batch: two states
are equal only if the same steps were taken, in the same order, with the same gaps. The query is made of small whole numbers as
well, so the score of an item, and with it a list, is a function of the state alone.

numpy and onnx only, no randomness: the same versions give the same bytes. docs/bundle.md says what each file is; package expect
computes the same in Go.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LANES, ITEMS, CAPACITY = 8, 401, 512
TYPES = ["", "view", "click", "cart", "purchase", "like", "play", "rating"]
P = np.array([4093, 4091, 4079, 4073, 4057, 4051, 4049, 4027], np.float32)  # primes
A = np.array([3989, 3967, 3947, 3931, 3929, 3923, 3919, 3917], np.float32)  # (p-1) * a + x < 2^24
BY_TYPE, BY_GAP = np.float32(577), np.float32(5)
QUERY = np.float32(64)  # queries are (state mod 64) - 32
OUT = Path(__file__).parent / "chain"

rows, lanes = np.meshgrid(np.arange(CAPACITY), np.arange(LANES), indexing="ij")
items = ((rows * 2654435761 + lanes * 40503 + rows * rows * 97 * (lanes + 1)) % 4001).astype(np.float32)
items[ITEMS:] = 0
bias = np.zeros(CAPACITY, np.float32)


def model(name, nodes, inputs, outputs, constants):
    """An ONNX model; tensors are given as (name, type, shape)."""
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info(*o) for o in outputs], constants
    )
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="make_chain")
    m.ir_version = 8
    return m


def op(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def write_step():
    nodes = [
        op("Mul", "gap thousand", "gap_ms"),
        op("Round", "gap_ms", "gap_whole"),
        op("Unsqueeze", "gap_whole axis", "gap_column"),
        op("Mod", "gap_column p", "gap_mod", fmod=1),
        op("Mul", "gap_mod by_gap", "gap_part"),
        op("Cast", "type", "type_number", to=TensorProto.FLOAT),
        op("Unsqueeze", "type_number axis", "type_column"),
        op("Mul", "type_column by_type", "type_part"),
        op("Add", "item type_part", "item_type"),
        op("Add", "item_type gap_part", "mixed"),
        op("Add", "mixed one", "x"),
        op("Mod", "x p", "x_mod", fmod=1),
        op("Mul", "state a", "moved"),
        op("Add", "moved x_mod", "sum"),
        op("Mod", "sum p", "state_out", fmod=1),
        op("Mod", "state_out query_mod", "low", fmod=1),
        op("Sub", "low query_half", "query_click"),
    ]
    constants = {
        "p": P, "a": A, "by_gap": BY_GAP, "by_type": BY_TYPE, "one": np.float32(1), "thousand": np.float32(1000),
        "axis": np.array([1], np.int64), "query_mod": QUERY, "query_half": QUERY / 2,
    }  # fmt: skip
    f = TensorProto.FLOAT
    inputs = [("item", f, ["B", LANES]), ("type", TensorProto.INT64, ["B"]), ("gap", f, ["B"]), ("state", f, ["B", LANES])]
    outputs = [("state_out", f, ["B", LANES]), ("query_click", f, ["B", LANES])]
    m = model("step", nodes, inputs, outputs, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    onnx.checker.check_model(m)
    (OUT / "step.onnx").write_bytes(m.SerializeToString(deterministic=True))


def write_search():
    matrix = TensorProto(name="items", data_type=TensorProto.FLOAT, dims=[CAPACITY, LANES], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "items.f32"), ("offset", "0"), ("length", str(4 * CAPACITY * LANES))):
        matrix.external_data.add(key=key, value=value)
    nodes = [op("Gemm", "query items", "products", transB=1), op("Add", "products mask", "all"), op("TopK", "all k", "scores rows", axis=1)]
    f, i = TensorProto.FLOAT, TensorProto.INT64
    inputs = [("query", f, ["B", LANES]), ("mask", f, [CAPACITY]), ("k", i, [1])]
    m = model("search", nodes, inputs, [("scores", f, ["B", "k"]), ("rows", i, ["B", "k"])], [matrix])
    (OUT / "search.onnx").write_bytes(m.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(OUT / "search.onnx"))


def full_pass(sequence):
    """The same arithmetic in whole numbers."""
    p, a = P.astype(np.int64), A.astype(np.int64)
    s, queries = np.zeros(LANES, np.int64), []
    for row, kind, gap in sequence:
        ms = int(np.rint(np.float32(gap) * np.float32(1000)))
        x = (items[row].astype(np.int64) + kind * int(BY_TYPE) + ms % p * int(BY_GAP) + 1) % p
        s = (s * a + x) % p
        queries.append((s % int(QUERY) - int(QUERY) // 2).astype(float).tolist())
    return queries


def write_parity():
    sequences = []
    for length in (1, 3, 17, 60):
        steps = [(n * 37 % ITEMS, n % len(TYPES), 0.0 if n == 0 else (n * n * 1237 % 900001) / 1000) for n in range(length)]
        kinds, types, gaps = (list(column) for column in zip(*steps))
        sequences.append({"rows": kinds, "types": types, "gaps": gaps, "queries": {"click": full_pass(steps)}})
    (OUT / "parity.json").write_text(json.dumps({"tolerance": 1e-4, "sequences": sequences}))


def write_manifest():
    """Last: it holds the hash of everything else, and of itself with the digits of that hash replaced by zeros."""
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(OUT.iterdir()) if f.name != "manifest.json"}
    manifest = {
        "format": 1, "name": "chain", "fingerprint": "0" * 64, "architecture": "chain-hash", "dim": LANES,
        "state": {"size": LANES, "dtype": "float32"}, "max_history": 50, "items": ITEMS, "capacity": CAPACITY,
        "event_types": TYPES, "tasks": ["click"], "opset": 17, "producer": "make_chain",
        "training": {"command": "python internal/chaos/testdata/make_chain.py", "data_sha256": "", "users": 0, "items": 0, "events": 0, "seed": 0},
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
    write_step()
    write_search()
    write_parity()
    write_manifest()


if __name__ == "__main__":
    main()
