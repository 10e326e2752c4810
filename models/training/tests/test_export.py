"""An exported bundle says what the model says, whoever else is in the batch, and says so in the same bytes every time."""

import json

import numpy as np
import pytest
import torch

from training import export, restore
from training.model import ModelConfig, Recommender
from training.text import Whitening

ROWS, TYPES = 60, ["", "view", "click", "purchase"]


def made(encoder: str, text: bool = False, seed: int = 0, **more) -> Recommender:
    torch.manual_seed(seed)
    config = ModelConfig(encoder=encoder, dim=16, hidden=24, layers=2, tasks=["click", "purchase"], **more)
    model = Recommender(config, ROWS, len(TYPES), torch.randn(ROWS, 8) if text else None).eval()
    torch.nn.init.normal_(model.items.bias)
    return model


def bundle(whitening=None) -> export.Bundle:
    encoder = {"encoder": "tiny", "sha256": "0" * 64} if whitening else None
    return export.Bundle("test", ["", *(f"i{n}" for n in range(1, ROWS))], TYPES, 50, {"seed": 1}, {}, whitening, encoder)


@pytest.mark.parametrize("encoder", export.STEPS)
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_the_bundle_ranks_as_the_model_does(tmp_path, encoder, score):
    model = made(encoder, score=score)
    export.export(model, bundle(), tmp_path)
    opened = export.Opened(tmp_path)
    rng = np.random.default_rng(1)
    rows, kinds, gaps = rng.integers(0, ROWS, (20, 5)), rng.integers(0, 4, (20, 5)), rng.exponential(1e4, (20, 5)).astype(np.float32)
    state = np.zeros((5, opened.manifest["state"]["size"]), np.float32)
    for t in range(20):
        state, queries = opened.step(rows[t], kinds[t], gaps[t], state)
    full = export.full_pass([model], rows, kinds, gaps)
    for task in ("click", "purchase"):
        np.testing.assert_allclose(queries[task], full[task][-1], atol=1e-4)
        scores = full[task][-1] @ model.items().detach().numpy().T + model.items.bias.detach().numpy()
        scores[:, 0] = -np.inf
        found, best = opened.search(queries[task], 5)
        np.testing.assert_array_equal(best, np.argsort(-scores, axis=1)[:, :5])
        np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :5], atol=1e-3)


@pytest.mark.parametrize("encoder", export.STEPS)
def test_the_bits_of_a_step_do_not_depend_on_the_batch(tmp_path, encoder):
    model = made(encoder, score="cosine")
    export.export(model, bundle(), tmp_path)
    opened, rng = export.Opened(tmp_path), np.random.default_rng(2)
    n = 256
    events = rng.integers(0, ROWS, n), rng.integers(0, 4, n), rng.exponential(1e4, n).astype(np.float32), rng.normal(size=(n, model.state_size)).astype(np.float32)
    together, queries = opened.step(*events)
    for size in (1, 2, 3, 7, 32):
        for a in range(0, n - size + 1, size):
            state, q = opened.step(*(e[a : a + size] for e in events))
            assert state.tobytes() == together[a : a + size].tobytes()
            assert q["click"].tobytes() == queries["click"][a : a + size].tobytes()


def test_the_tower_gives_new_items_the_vector_that_training_would(tmp_path):
    rng = np.random.default_rng(0)
    whitening = Whitening.fit(rng.normal(size=(ROWS, 20)) @ rng.normal(size=(20, 20)), width=8)
    model = made("gru", text=True)
    export.export(model, bundle(whitening), tmp_path)
    texts = rng.normal(size=(3, 20)).astype(np.float32)
    found = export.Opened(tmp_path).tower_session.run(["item"], {"text": texts})[0]
    with torch.no_grad():
        wanted = model.items.of_text(torch.from_numpy(whitening(texts))).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_ensemble_scores_as_the_mean_of_its_members(tmp_path):
    models = [made("lru", seed=1), made("gru", seed=2)]
    export.export(models, bundle(), tmp_path)
    opened = export.Opened(tmp_path)
    rows, kinds, gaps = np.array([[3], [9]]), np.array([[1], [2]]), np.array([[0], [60]], np.float32)
    state = np.zeros((1, opened.manifest["state"]["size"]), np.float32)
    for t in range(2):
        state, queries = opened.step(rows[t], kinds[t], gaps[t], state)
    scores = queries["click"] @ opened.items[:ROWS].T + opened.bias[:ROWS]
    parts = [export.full_pass([m], rows, kinds, gaps)["click"][-1] @ m.items().detach().numpy().T + m.items.bias.detach().numpy() for m in models]
    np.testing.assert_allclose(scores[:, 1:], np.mean(parts, axis=0)[:, 1:], atol=1e-4)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        export.export(made("lru"), bundle(), tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["items.f32", "items.json", "items_bias.f32", "manifest.json", "parity.json", "search.onnx", "step.onnx"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_the_table_has_room_for_new_items_and_its_rest_is_zero(tmp_path):
    manifest = export.export(made("gru"), bundle(), tmp_path)
    opened = export.Opened(tmp_path)
    assert manifest["items"] == ROWS and manifest["capacity"] == 1088 and len(opened.ids) == ROWS
    assert not opened.items[ROWS:].any() and not opened.bias[ROWS:].any()


@pytest.mark.parametrize("name", ["manifest.json", "items.f32", "step.onnx"])
def test_a_changed_file_is_refused(tmp_path, name):
    export.export(made("gru"), bundle(), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b'"dim": 16', b'"dim": 17') if name == "manifest.json" else content + b"x")
    with pytest.raises(ValueError, match=name):
        export.Opened(tmp_path)


def test_drift_from_the_noted_queries_is_refused(tmp_path, monkeypatch):
    export.export(made("gru"), bundle(), tmp_path)
    monkeypatch.setattr(export, "check_fingerprint", lambda *_: None)
    noted = json.loads((tmp_path / "parity.json").read_text())
    noted["sequences"][0]["queries"]["click"][3][0] += 0.01
    (tmp_path / "parity.json").write_text(json.dumps(noted))
    with pytest.raises(ValueError, match="drift"):
        export.verify(tmp_path)


def test_a_bundle_gives_back_the_weights_that_say_what_it_says(tmp_path):
    torch.manual_seed(4)
    config = ModelConfig(encoder="lru", dim=16, hidden=24, layers=2, time_gap=False)
    model = Recommender(config, ROWS, 2).eval()
    torch.nn.init.normal_(model.items.bias)
    export.export(model, export.Bundle("test", ["", *(f"i{n}" for n in range(1, ROWS))], ["", "view"], 50, {"seed": 1}), tmp_path)
    again = Recommender(config, ROWS, 2).eval()
    again.load_state_dict(restore.weights(tmp_path, config))
    rng = np.random.default_rng(3)
    rows, kinds, gaps = rng.integers(0, ROWS, (30, 4)), np.ones((30, 4), np.int64), np.zeros((30, 4), np.float32)
    told, asked = (export.full_pass([m], rows, kinds, gaps)["click"] for m in (model, again))
    np.testing.assert_allclose(asked, told, atol=1e-4)
    np.testing.assert_array_equal(again.items.bias.detach(), torch.cat([torch.zeros(1), model.items.bias[1:]]).detach())
    with pytest.raises(ValueError, match="only an lru bundle"):
        restore.weights(tmp_path, ModelConfig(encoder="gru", dim=16, hidden=24, layers=2))
