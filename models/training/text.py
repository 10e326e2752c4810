"""Item texts -> vectors, with the same tokenizer file and the same ONNX graph that freshet serves with, so that both agree.

Vectors of BERT-class encoders crowd into a narrow cone (mean cosine above .8 is common); `Whitening` spreads them before the item
tower projects them. Encoded texts are kept in a cache folder, keyed by the encoder's weights and the text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .data import sha256
from .train import progress


class TextEncoder:
    """A folder with tokenizer.json and model.onnx (and usually model.safetensors): texts -> float32 [n, dim]."""

    BATCH_TOKENS = 4096  # tokens encoded at once, padding included

    def __init__(self, folder: str | Path, cache: str | Path | None = None, threads: int = 0):
        import onnxruntime as ort
        from tokenizers import Tokenizer

        self.folder = Path(folder)
        for name in ("tokenizer.json", "model.onnx"):
            if not (self.folder / name).exists():
                raise FileNotFoundError(f"{self.folder / name} is missing; the set-up builds it (make setup)")
        self.name = self.folder.name
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.no_padding()  # batches hold texts of one length; truncation stays as the file says
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(self.folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.sha256 = self._weights_sha256()
        self.dim = int(self.session.get_outputs()[0].shape[-1])
        self.cache = Path(cache) if cache else None

    def _weights_sha256(self) -> str:
        """What the graph says it was built from; without such a note, the hash of the weights file or of the graph."""
        noted = self.session.get_modelmeta().custom_metadata_map.get("weights_sha256")
        weights = self.folder / "model.safetensors"
        return noted or sha256(weights if weights.exists() else self.folder / "model.onnx")

    def encode(self, texts: list[str], quiet: bool = False) -> np.ndarray:
        """Vectors of `texts`, from the cache where it has them; an empty text is the zero vector."""
        known = self._cached()
        missing = sorted({t for t in texts if t and key(t) not in known})
        if missing:
            known |= self._encode_new(missing, quiet)
            self._keep(known)
        zero = np.zeros(self.dim, np.float32)
        return np.stack([known[key(t)] if t else zero for t in texts]) if texts else np.zeros((0, self.dim), np.float32)

    def _encode_new(self, texts: list[str], quiet: bool) -> dict[str, np.ndarray]:
        """Texts of equal length in tokens go together, so that no vector depends on padding."""
        encoded = self.tokenizer.encode_batch(texts)
        by_length: dict[int, list[int]] = {}
        for i, e in enumerate(encoded):
            by_length.setdefault(len(e.ids), []).append(i)
        batches = [own[a : a + n] for length, own in sorted(by_length.items())
                   for n in [max(1, self.BATCH_TOKENS // length)] for a in range(0, len(own), n)]  # fmt: skip
        out = {}
        for batch in progress(batches, f"encode {len(texts):,} texts", quiet):
            feed = {"input_ids": [encoded[i].ids for i in batch], "attention_mask": [encoded[i].attention_mask for i in batch],
                    "token_type_ids": [encoded[i].type_ids for i in batch]}  # fmt: skip
            vectors = self.session.run(["sentence_embedding"], {k: np.array(v, np.int64) for k, v in feed.items()})[0]
            out |= {key(texts[i]): v for i, v in zip(batch, vectors)}
        return out

    def _file(self) -> Path | None:
        return self.cache and self.cache / f"text-{self.name}-{self.sha256[:8]}.npz"

    def _cached(self) -> dict[str, np.ndarray]:
        file = self._file()
        if not file or not file.exists():
            return {}
        with np.load(file) as f:
            return dict(zip(f["keys"].tolist(), f["vectors"]))

    def _keep(self, known: dict[str, np.ndarray]) -> None:
        file = self._file()
        if not file:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        keys = sorted(known)
        np.savez(file.with_suffix(".tmp.npz"), keys=np.array(keys), vectors=np.stack([known[k] for k in keys]))
        file.with_suffix(".tmp.npz").replace(file)


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class Whitening:
    """white(v) = (v - mean) @ matrix: coordinates of about unit variance that do not correlate."""

    mean: np.ndarray  # [dim]
    matrix: np.ndarray  # [dim, width]

    @classmethod
    def fit(cls, vectors: np.ndarray, width: int = 256, shrink: float = 0.05) -> "Whitening":
        """From the vectors of a catalogue [n, dim]. `shrink`: share of the mean variance added to every direction, so that
        directions that carry only noise are not blown up. Keeps the `width` directions of largest variance."""
        mean = vectors.mean(0, dtype=np.float64)
        centred = vectors - mean
        variance, axes = np.linalg.eigh(centred.T @ centred / max(1, len(vectors)))
        order = np.argsort(-variance)[:width]
        variance, axes = np.maximum(variance[order], 0), axes[:, order]
        axes *= np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)  # a fixed sign
        floor = shrink * variance.mean() + 1e-12
        return cls(mean.astype(np.float32), (axes / np.sqrt(variance + floor)).astype(np.float32))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        return ((vectors - self.mean) @ self.matrix).astype(np.float32)
