"""One step at a time equals one full pass, for every encoder; losses equal their plain definitions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.attention import Attention
from training.model import ENCODERS, ModelConfig, Recommender, Recurrence
from training.train import FullSoftmax, Loss, Met, Task, TrainConfig, sampled_softmax


def made(encoder: str, **more) -> Recommender:
    torch.manual_seed(0)
    return Recommender(ModelConfig(encoder=encoder, dim=16, hidden=24, layers=2, **more), rows=50, event_types=4).eval()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_steps_equal_a_full_pass(encoder, score):
    model = made(encoder, score=score, tasks=["click", "purchase"])
    items, types, gaps = model.items(torch.randint(0, 50, (40, 3))), torch.randint(0, 4, (40, 3)), torch.rand(40, 3) * 1e5
    hidden, last = model(items, types, gaps, model.init_state(3))
    state = model.init_state(3)
    for t in range(40):
        h, state = model.step(items[t], types[t], gaps[t], state)
        for task in model.tasks:
            torch.testing.assert_close(model.query(h, task), model.query(hidden[t], task), atol=1e-4, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-4, rtol=0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_carried_state_equals_an_uncut_history(encoder):
    model = made(encoder)
    x, types, gaps = model.items(torch.randint(1, 50, (30, 2))), torch.ones(30, 2, dtype=torch.long), torch.zeros(30, 2)
    whole, _ = model(x, types, gaps, model.init_state(2))
    _, state = model(x[:17], types[:17], gaps[:17], model.init_state(2))
    rest, _ = model(x[17:], types[17:], gaps[17:], state)
    torch.testing.assert_close(rest, whole[17:], atol=1e-4, rtol=0)


def test_attention_looks_back_so_far_and_no_further(monkeypatch):
    monkeypatch.setattr(Attention, "SPAN", 5)
    torch.manual_seed(0)
    encoder = Attention(ModelConfig(encoder="attention", dim=16, layers=1)).eval()
    x = torch.randn(12, 1, 16)
    hidden, past = encoder(x, encoder.init_state(1))
    changed = x.clone()
    changed[6] = torch.randn(1, 16)
    reach = (encoder(changed, encoder.init_state(1))[0] - hidden).abs().amax((1, 2)) > 1e-6
    assert reach.tolist() == [False] * 6 + [True] * 5 + [False]
    assert past.shape == (1, 4, 16)


def test_the_recurrence_has_the_gradient_it_claims():
    double = dict(dtype=torch.complex128, requires_grad=True)
    u, h0 = torch.randn(5, 2, 3, **double), torch.randn(2, 3, **double)
    lam = (torch.rand(3, dtype=torch.complex128) * 0.5).requires_grad_()
    assert torch.autograd.gradcheck(Recurrence.apply, (u, lam, h0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_blocked_softmax_is_a_cross_entropy(smoothing, monkeypatch):
    monkeypatch.setattr(FullSoftmax, "BLOCK", 3)
    q, e, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((7, 4), (9, 4), (9,)))
    target = torch.randint(1, 9, (7,))
    ours = FullSoftmax.apply(q, e, b, target[:, None], torch.ones(7, 1, dtype=torch.float64), smoothing)
    plain = F.cross_entropy(torch.addmm(b, q, e.T)[:, 1:], target - 1, label_smoothing=smoothing)
    torch.testing.assert_close(ours, plain)
    for x, y in zip(torch.autograd.grad(ours, (q, e, b)), torch.autograd.grad(plain, (q, e, b))):
        torch.testing.assert_close(x, y)


def test_several_targets_share_a_cross_entropy():
    q, e, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((5, 4), (9, 4), (9,)))
    target = torch.tensor([[1, 2, 3], [4, 4, 5], [6, 7, 0], [8, 0, 0], [2, 3, 2]])  # 0: no event there
    share = Loss.shares(Task(ahead=3, fade=1.0), target)
    torch.testing.assert_close(share[2], torch.tensor([2 / 3, 1 / 3, 0]))
    share = share.double()
    ours = FullSoftmax.apply(q, e, b, target, share, 0.0)
    wanted = torch.zeros(5, 9, dtype=torch.float64).scatter_add_(1, target, share)[:, 1:]
    plain = F.cross_entropy(torch.addmm(b, q, e.T)[:, 1:], wanted)
    torch.testing.assert_close(ours, plain)
    for x, y in zip(torch.autograd.grad(ours, (q, e, b)), torch.autograd.grad(plain, (q, e, b))):
        torch.testing.assert_close(x, y)


def test_items_of_the_history_are_neither_candidates_nor_targets():
    q, e, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (6, 4), (6,)))
    first = torch.tensor([[9, 0, 1, 9, 2, 9], [9, 9, 0, 9, 9, 9]])  # user 0 met items 1, 2 and 4, user 1 item 2; 9 = never
    target = torch.tensor([[2, 0], [3, 4], [2, 0]])
    met = Met(first, torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]))
    loss = Loss(TrainConfig(mask_seen=True), [Task(ahead=2)], np.ones(6))
    model = SimpleNamespace(items=SimpleNamespace(bias=b))
    ours = loss.full(model, q, target, Task(ahead=2), e, met)
    scores = torch.addmm(b, q, e.T)  # the first asks with item 1 met, the second with 1, 2 and 4; the third's target is met and asks nothing
    gone = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0]], dtype=torch.bool)
    plain = F.cross_entropy(scores[:2].masked_fill(gone, -1e9), torch.tensor([2, 3]))
    torch.testing.assert_close(ours, plain)
    for x, y in zip(torch.autograd.grad(ours, (q, e, b)), torch.autograd.grad(plain, (q, e, b))):
        torch.testing.assert_close(x, y)


def test_sampled_losses_estimate_the_full_one():
    torch.manual_seed(1)
    q, e, b, target = torch.randn(64, 8), torch.randn(200, 8), torch.randn(200), torch.randint(1, 200, (64,))
    share = torch.rand(200)
    share[0] = 0
    share /= share.sum()
    full = F.cross_entropy(torch.addmm(b, q, e.T)[:, 1:], target - 1)
    estimates = []
    for _ in range(30):
        negative = torch.multinomial(share, 2000, replacement=True)
        estimates.append(sampled_softmax(q, e[target], b[target], target, e[negative], b[negative], negative, torch.log(2000 * share[negative])))
    assert abs(torch.stack(estimates).mean() - full) < 0.05


def test_text_alone_makes_a_vector_for_an_unseen_item():
    text = torch.randn(50, 12)
    seen = torch.ones(50)
    seen[7] = 0
    model = Recommender(ModelConfig(dim=16, hidden=24), 50, 2, text, seen).eval()
    torch.testing.assert_close(model.items()[7], model.items.of_text(text[7]))
