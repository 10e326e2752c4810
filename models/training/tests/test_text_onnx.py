"""The encoder's graph against a forward pass written apart from it, in plain numpy, one sentence at a time."""

import hashlib
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from training import text_onnx

ROOT = Path(__file__).resolve().parents[3]
ENCODER = Path(os.environ.get("FRESHET_ENCODER") or ROOT / ".freshet" / "encoder" / "all-MiniLM-L6-v2")

SMALL = {
    "architectures": ["BertModel"],
    "hidden_act": "gelu",
    "hidden_size": 24,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 16,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 50,
}


def write_safetensors(path, tensors, dtype="F32"):
    """The format by its specification: header length, JSON header, raw little-endian data."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        if dtype == "BF16":
            blob = (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            blob = tensor.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(blobs))


def read_safetensors(path):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    body = raw[8 + length :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry["dtype"] == "F32"
    }


def random_weights(config, seed=1):
    rng = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]:
            shapes |= {f"{at}{name}.weight": (hidden, hidden), f"{at}{name}.bias": (hidden,)}
        shapes |= {f"{at}intermediate.dense.weight": (inner, hidden), f"{at}intermediate.dense.bias": (inner,)}
        shapes |= {f"{at}output.dense.weight": (hidden, inner), f"{at}output.dense.bias": (hidden,)}
        for name in ["attention.output.LayerNorm", "output.LayerNorm"]:
            shapes |= {f"{at}{name}.weight": (hidden,), f"{at}{name}.bias": (hidden,)}
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def forward(config, w, ids, types, pooling="mean"):
    """BERT in float64 for one unpadded sentence, head by head."""
    w = {name: tensor.astype(np.float64) for name, tensor in w.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def activate(x):
        if config["hidden_act"] == "relu":
            return np.maximum(x, 0)
        if config["hidden_act"] == "gelu_new":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][types]
    x = norm(x + w["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        q, k, v = (dense(x, f"{at}attention.self.{part}") for part in ["query", "key", "value"])
        mixed = np.empty_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[:, part] = shares / shares.sum(-1, keepdims=True) @ v[:, part]
        x = norm(dense(mixed, at + "attention.output.dense") + x, at + "attention.output.LayerNorm")
        inner = activate(dense(x, at + "intermediate.dense"))
        x = norm(dense(inner, at + "output.dense") + x, at + "output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return pooled / np.linalg.norm(pooled)


def encoder_folder(folder, config=None, dtype="F32", prefix="", **fields):
    config = dict(SMALL, **fields) if config is None else config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = random_weights(config)
    write_safetensors(folder / "model.safetensors", {prefix + name: t for name, t in weights.items()}, dtype)
    return folder, config, weights


def run(model, sentences, types=None, padding=0):
    """Sentences as one padded batch; `padding` adds that many columns of padding on top."""
    width = max(map(len, sentences)) + padding
    ids, mask, segments = (np.zeros((len(sentences), width), np.int64) for _ in range(3))
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = sentence
        mask[row, : len(sentence)] = 1
        if types:
            segments[row, : len(sentence)] = types[row]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    return session.run(["sentence_embedding"], inputs)[0]


SENTENCES = [[3, 17, 4], [9, 9, 30, 41, 2, 8, 11], [49]]
TYPES = [[0, 0, 1], [0, 0, 0, 0, 1, 1, 1], [0]]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_graph_equals_the_forward_pass(tmp_path, activation, pooling):
    folder, config, weights = encoder_folder(tmp_path, hidden_act=activation)
    if pooling == "cls":
        (folder / "1_Pooling").mkdir()
        modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 24}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    got = run(text_onnx.build(folder), SENTENCES, TYPES, padding=3)
    want = [forward(config, weights, s, t, pooling) for s, t in zip(SENTENCES, TYPES)]
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("dtype, tolerance", [("F16", 2e-3), ("BF16", 2e-2)])
def test_half_precision_weights_are_widened(tmp_path, dtype, tolerance):
    folder, config, weights = encoder_folder(tmp_path, dtype=dtype)
    got = run(text_onnx.build(folder), SENTENCES)
    want = [forward(config, weights, s, [0] * len(s)) for s in SENTENCES]
    np.testing.assert_allclose(got, want, atol=tolerance)


def test_a_prefix_before_the_names_changes_nothing(tmp_path):
    plain, _, _ = encoder_folder(tmp_path / "plain")
    prefixed, _, _ = encoder_folder(tmp_path / "prefixed", prefix="bert.")
    np.testing.assert_array_equal(
        run(text_onnx.build(plain), SENTENCES), run(text_onnx.build(prefixed), SENTENCES)
    )


def test_padding_and_company_do_not_change_a_vector(tmp_path):
    model = text_onnx.build(encoder_folder(tmp_path)[0])
    together = run(model, SENTENCES, padding=5)
    for row, sentence in enumerate(SENTENCES):
        np.testing.assert_allclose(run(model, [sentence])[0], together[row], atol=1e-6)


def test_an_empty_text_yields_zeros_and_a_text_too_long_an_error(tmp_path):
    model = text_onnx.build(encoder_folder(tmp_path)[0])
    empty = run(model, [[]], padding=4)
    np.testing.assert_array_equal(empty, np.zeros((1, SMALL["hidden_size"]), np.float32))
    with pytest.raises(Exception, match="(?i)broadcast|dimension"):
        run(model, [[1] * (SMALL["max_position_embeddings"] + 1)])


def test_same_weights_same_bytes(tmp_path):
    first = text_onnx.build(encoder_folder(tmp_path / "a")[0])
    assert first == text_onnx.build(encoder_folder(tmp_path / "b")[0])


def test_graph_says_what_it_is(tmp_path):
    folder, config, _ = encoder_folder(tmp_path)
    model = onnx.load_from_string(text_onnx.build(folder))
    assert model.ir_version == 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert [i.name for i in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [o.name for o in model.graph.output] == ["sentence_embedding"]
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["dim"] == "24" and metadata["max_tokens"] == "16"
    assert metadata["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"architectures": ["T5Model"]}, "architectures"),
        ({"hidden_act": "swish"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 5}, "hidden_size"),
        ({"num_hidden_layers": 3}, "encoder.layer.2"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(tmp_path, fields, named):
    folder, config, _ = encoder_folder(tmp_path)
    (folder / "config.json").write_text(json.dumps(dict(config, **fields)))
    with pytest.raises(text_onnx.Unsupported, match=named):
        text_onnx.build(folder)


def test_the_command_writes_the_file_and_reports_a_bad_folder(tmp_path, capsys):
    folder, _, _ = encoder_folder(tmp_path / "encoder")
    assert text_onnx.main([str(folder)]) == 0
    assert (folder / "model.onnx").read_bytes() == text_onnx.build(folder)
    assert text_onnx.main([str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err


needs_encoder = pytest.mark.skipif(
    not (ENCODER / "model.onnx").exists() and os.environ.get("CI") != "true",
    reason="no text encoder here: deployments/setup/encoder.sh fetches it",
)


@needs_encoder
def test_the_installed_encoder_equals_the_forward_pass():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ENCODER / "tokenizer.json"))
    tokenizer.no_padding()
    texts = ["Copper kettle, 1.5 litres", "Blade Runner (1982). Sci-Fi, Film-Noir", "日本の茶碗", "naïve café ☕"]
    sentences = [tokenizer.encode(text).ids for text in texts]
    config = json.loads((ENCODER / "config.json").read_text())
    weights = read_safetensors(ENCODER / "model.safetensors")
    want = [forward(config, weights, s, [0] * len(s)) for s in sentences]
    got = run((ENCODER / "model.onnx").read_bytes(), sentences, padding=2)
    np.testing.assert_allclose(got, want, atol=2e-5)


@needs_encoder
def test_the_installed_encoder_gives_the_vectors_its_authors_print():
    """The example of the model's own card, first values of each vector."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ENCODER / "tokenizer.json"))
    tokenizer.no_padding()
    texts = ["This is an example sentence", "Each sentence is converted"]
    got = run((ENCODER / "model.onnx").read_bytes(), [tokenizer.encode(text).ids for text in texts])
    np.testing.assert_allclose(got[0, :5], [6.7657e-02, 6.3496e-02, 4.8713e-02, 7.9305e-02, 3.7448e-02], atol=5e-6)
    np.testing.assert_allclose(got[1, :5], [8.6439e-02, 1.0276e-01, 5.3946e-03, 2.0444e-03, -9.9634e-03], atol=5e-6)
