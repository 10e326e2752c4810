"""Builds the ONNX graph of a BERT-class sentence encoder from its published weights, with numpy and onnx alone.

    python -m training.text_onnx FOLDER [--out FILE]

FOLDER holds `config.json` (architecture BertModel) and `model.safetensors`, as encoders are published. The graph:

    in   input_ids, attention_mask, token_type_ids   int64   [B, T]
    out  sentence_embedding                          float32 [B, dim]   of length 1

sentence_embedding is the mean of the last layer over the tokens whose mask is 1 (or the first token's vector, where
the folder's `1_Pooling/config.json` says so), L2-normalised. A row whose mask is all zeros yields the zero vector.
Opset 17, IR 8, standard operators only. The same weights give the same bytes.

The model's metadata say `weights_sha256` (of model.safetensors), `dim` and `max_tokens`.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 8  # what opset 17 came with


class Unsupported(ValueError):
    """The folder holds an encoder that this module cannot express; the message names the field."""


@dataclass(frozen=True)
class Config:
    """The shape of the encoder, read from config.json."""

    hidden: int  # width of a token's vector
    layers: int
    heads: int
    max_tokens: int  # rows of the position table
    activation: str  # of the feed-forward layer
    epsilon: float  # of the layer norms
    pooling: str  # "mean" or "cls"

    @staticmethod
    def read(folder: Path) -> "Config":
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = raw.get("architectures") or ["BertModel"]
        if "BertModel" not in architectures:
            raise Unsupported(f"architectures: {architectures}, want BertModel")
        if raw.get("position_embedding_type", "absolute") != "absolute":
            raise Unsupported(f"position_embedding_type: {raw['position_embedding_type']}, want absolute")
        if raw["hidden_act"] not in ACTIVATIONS:
            raise Unsupported(f"hidden_act: {raw['hidden_act']}, want one of {sorted(ACTIVATIONS)}")
        if raw["hidden_size"] % raw["num_attention_heads"]:
            raise Unsupported(f"hidden_size: {raw['hidden_size']} is no multiple of num_attention_heads")
        return Config(
            hidden=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=raw["num_attention_heads"],
            max_tokens=raw["max_position_embeddings"],
            activation=raw["hidden_act"],
            epsilon=raw["layer_norm_eps"],
            pooling=pooling_of(folder),
        )


def pooling_of(folder: Path) -> str:
    """How token vectors become one: as the encoder's own pooling file says; the mean where there is none."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    raw = json.loads(path.read_text(encoding="utf-8"))
    chosen = [key for key, on in raw.items() if key.startswith("pooling_mode_") and on is True]
    if chosen == ["pooling_mode_mean_tokens"]:
        return "mean"
    if chosen == ["pooling_mode_cls_token"]:
        return "cls"
    raise Unsupported(f"1_Pooling/config.json: {chosen}, want pooling_mode_mean_tokens or pooling_mode_cls_token")


class Weights:
    """The tensors of a safetensors file (8 bytes header length, a JSON header, then the raw data), read where they
    lie: nothing is copied before it is asked for."""

    def __init__(self, path: Path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        length = int(self.data[:8].view("<u8")[0])
        self.header = json.loads(self.data[8 : 8 + length].tobytes())
        self.start = 8 + length
        # Weights saved from a model with a head on top carry this prefix.
        self.prefix = "bert." if any(name.startswith("bert.") for name in self.header) else ""

    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def get(self, name: str) -> np.ndarray:
        """The tensor as float32, whatever it is kept in."""
        entry = self.header.get(self.prefix + name)
        if entry is None:
            raise Unsupported(f"model.safetensors: no tensor {self.prefix + name}")
        begin, end = entry["data_offsets"]
        raw = self.data[self.start + begin : self.start + end]
        if entry["dtype"] == "F32":
            tensor = raw.view("<f4")
        elif entry["dtype"] == "F16":
            tensor = raw.view("<f2").astype(np.float32)
        elif entry["dtype"] == "BF16":  # the upper half of a float32
            tensor = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            raise Unsupported(f"model.safetensors: {name} is {entry['dtype']}, want F32, F16 or BF16")
        return tensor.reshape(entry["shape"])


class Graph:
    """Nodes and constants in the order in which they are added; names are derived from that order."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name: str, value) -> str:
        """A constant, written little-endian; floats as float32, integers as int64."""
        value = np.asarray(value)
        integer = np.issubdtype(value.dtype, np.integer)
        kind, dtype = (TensorProto.INT64, "<i8") if integer else (TensorProto.FLOAT, "<f4")
        raw = value.astype(dtype, copy=False).tobytes()
        self.constants.append(helper.make_tensor(name, kind, value.shape, raw, raw=True))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", outputs: int = 0, **attributes):
        """Adds a node. Returns the name of its output, or a list of names when `outputs` asks for several."""
        base = name or f"{kind}_{len(self.nodes)}"
        names = [f"{base}_{i}" for i in range(outputs)] or [base]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=base, **attributes))
        return names if outputs else names[0]


def gelu(g: Graph, x: str) -> str:
    """x * Phi(x), with the exact normal distribution function (Hendrycks & Gimpel, arXiv 1606.08415)."""
    erf = g.op("Erf", g.op("Div", x, "sqrt_two"))
    return g.op("Mul", g.op("Mul", x, g.op("Add", erf, "one")), "half")


def gelu_tanh(g: Graph, x: str) -> str:
    """The approximation 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) of the same paper."""
    cubed = g.op("Mul", g.op("Mul", g.op("Mul", x, x), x), "gelu_cubic")
    inner = g.op("Mul", g.op("Add", x, cubed), "sqrt_two_over_pi")
    return g.op("Mul", g.op("Mul", x, g.op("Add", g.op("Tanh", inner), "one")), "half")


def relu(g: Graph, x: str) -> str:
    return g.op("Relu", x)


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh, "relu": relu}


class Builder:
    """Writes one encoder down as a graph, top-down: embeddings, layers, pooling."""

    def __init__(self, config: Config, weights: Weights):
        self.config, self.weights, self.g = config, weights, Graph()

    def build(self) -> onnx.ModelProto:
        self.scalars()
        hidden = self.embeddings()
        bias = self.mask_bias()
        for layer in range(self.config.layers):
            hidden = self.layer(f"encoder.layer.{layer}.", hidden, bias)
        self.pool(hidden)
        return self.model()

    def scalars(self):
        c, g = self.config, self.g
        g.constant("one", 1.0)
        g.constant("half", 0.5)
        g.constant("sqrt_two", np.sqrt(2.0))
        g.constant("sqrt_two_over_pi", np.sqrt(2.0 / np.pi))
        g.constant("gelu_cubic", 0.044715)
        # Large enough that exp() of a masked score is exactly 0, small enough to stay finite.
        g.constant("masked", -1e9)
        g.constant("head_scale", 1.0 / np.sqrt(c.hidden / c.heads))
        g.constant("heads_shape", [0, 0, c.heads, c.hidden // c.heads])  # 0 keeps B and T
        g.constant("hidden_shape", [0, 0, c.hidden])
        g.constant("axis_0", [0])
        g.constant("axis_1", [1])
        g.constant("axes_1_2", [1, 2])
        g.constant("axis_2", [2])
        g.constant("tiny_count", 1e-9)
        g.constant("tiny_norm", 1e-12)

    def tensor(self, name: str) -> str:
        return self.g.constant(name, self.weights.get(name))

    def dense(self, x: str, *names: str) -> str:
        """x W^T + b. Several layers that read the same x become one product, side by side in the order given."""
        weight = np.concatenate([self.weights.get(name + ".weight") for name in names]).T
        bias = np.concatenate([self.weights.get(name + ".bias") for name in names])
        product = self.g.op("MatMul", x, self.g.constant(names[0] + ".weight", weight))
        return self.g.op("Add", product, self.g.constant(names[0] + ".bias", bias))

    def norm(self, x: str, name: str) -> str:
        scale, bias = self.tensor(name + ".weight"), self.tensor(name + ".bias")
        return self.g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=self.config.epsilon)

    def embeddings(self) -> str:
        """Word + position + segment vectors, normalised: [B, T, hidden]."""
        g = self.g
        words = g.op("Gather", self.tensor("embeddings.word_embeddings.weight"), "input_ids")
        segments = g.op("Gather", self.tensor("embeddings.token_type_embeddings.weight"), "token_type_ids")
        length = g.op("Shape", "input_ids", start=1, end=2)
        table = self.tensor("embeddings.position_embeddings.weight")
        positions = g.op("Slice", table, "axis_0", length, "axis_0")  # the first T rows
        return self.norm(g.op("Add", g.op("Add", words, segments), positions), "embeddings.LayerNorm")

    def mask_bias(self) -> str:
        """What is added to attention scores: 0 for a token, -1e9 for padding; [B, 1, 1, T]."""
        g = self.g
        mask = g.op("Cast", "attention_mask", name="mask", to=TensorProto.FLOAT)
        hidden = g.op("Mul", g.op("Sub", "one", mask), "masked")
        return g.op("Unsqueeze", hidden, "axes_1_2")

    def layer(self, prefix: str, x: str, bias: str) -> str:
        attended = self.dense(self.attention(prefix + "attention.self.", x, bias), prefix + "attention.output.dense")
        x = self.norm(self.g.op("Add", attended, x), prefix + "attention.output.LayerNorm")
        inner = ACTIVATIONS[self.config.activation](self.g, self.dense(x, prefix + "intermediate.dense"))
        return self.norm(self.g.op("Add", self.dense(inner, prefix + "output.dense"), x), prefix + "output.LayerNorm")

    def attention(self, prefix: str, x: str, bias: str) -> str:
        """softmax(Q K^T / sqrt(d) + bias) V for every head (Vaswani et al., arXiv 1706.03762): [B, T, hidden]."""
        g = self.g
        joined = self.dense(x, prefix + "query", prefix + "key", prefix + "value")
        parts = g.op("Split", joined, outputs=3, axis=2)
        query, key, value = (g.op("Reshape", part, "heads_shape") for part in parts)
        query = g.op("Transpose", g.op("Mul", query, "head_scale"), perm=[0, 2, 1, 3])
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 2, 3, 1]))
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        mixed = g.op("MatMul", weights, g.op("Transpose", value, perm=[0, 2, 1, 3]))
        return g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), "hidden_shape")

    def pool(self, hidden: str):
        """One vector of length 1 for each row: sentence_embedding."""
        g = self.g
        if self.config.pooling == "cls":
            pooled = g.op("Gather", hidden, g.constant("first", 0), axis=1)
        else:
            column = g.op("Unsqueeze", "mask", "axis_2")
            total = g.op("ReduceSum", g.op("Mul", hidden, column), "axis_1", keepdims=0)
            count = g.op("Max", g.op("ReduceSum", "mask", "axis_1", keepdims=1), "tiny_count")
            pooled = g.op("Div", total, count)
        norm = g.op("Max", g.op("ReduceL2", pooled, axes=[1], keepdims=1), "tiny_norm")
        g.op("Div", pooled, norm, name="sentence_embedding")

    def model(self) -> onnx.ModelProto:
        used = {name for node in self.g.nodes for name in node.input}
        ids = ["input_ids", "attention_mask", "token_type_ids"]
        graph = helper.make_graph(
            self.g.nodes,
            "text_encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ids],
            [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["B", self.config.hidden])],
            [tensor for tensor in self.g.constants if tensor.name in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="freshet-training")
        model.ir_version = IR_VERSION
        metadata = {
            "dim": str(self.config.hidden),
            "max_tokens": str(self.config.max_tokens),
            "weights_sha256": self.weights.sha256(),
        }
        helper.set_model_props(model, metadata)
        return model


def build(folder: Path) -> bytes:
    """The graph of the encoder in folder, serialised and checked."""
    folder = Path(folder)
    model = Builder(Config.read(folder), Weights(folder / "model.safetensors")).build()
    data = model.SerializeToString(deterministic=True)
    del model
    onnx.checker.check_model(data)
    return data


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="holds config.json and model.safetensors")
    parser.add_argument("--out", type=Path, help="the file to write (default: FOLDER/model.onnx)")
    options = parser.parse_args(arguments)
    try:
        data = build(options.folder)
    except (Unsupported, OSError) as error:
        print(f"text_onnx: {options.folder}: {error}", file=sys.stderr)
        return 1
    (options.out or options.folder / "model.onnx").write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
