"""Training: windows of histories in, a fitted Recommender out.

Histories are read in windows and the state is carried from one window to the next, so that training sees what serving sees: a state
that was never cut off. Groups of users of about the same length go through their windows together; nothing is wasted on padding.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import random
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from . import attention  # noqa: F401, one more encoder by its name
from .data import Cleaning, Log, Split
from .model import Dropout, ModelConfig, Recommender


@dataclass
class Task:
    """What one head learns: the item of the next event of these types."""

    name: str = "click"
    types: list[str] = field(default_factory=list)  # empty: every type
    horizon: int = 1  # how many events ahead the target may lie
    other_item: bool = False  # skip events on the item at hand: learn what comes next, not the same page again
    ahead: int = 1  # how many targets an event has: its own and those of the events after it, the k-th weighing k ** -fade
    fade: float = 1.0
    weight: float = 1.0


@dataclass
class TrainConfig:
    """How a model is fitted."""

    epochs: int = 30
    seed: int = 1
    lr: float = 1e-3
    final_lr: float = 1e-5  # the cosine ends here
    warmup: float = 0.02  # share of all steps in which the rate rises
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 5.0  # largest gradient norm
    tokens: int = 3200  # events in a batch
    window: int = 200  # events the gradient flows through; the state flows on
    loss: str = "full"  # full | sampled
    negatives: int = 512  # sampled: shared by the batch
    sampling: float = 0.0  # sampled: negatives drawn by count ** sampling (0: uniform)
    finish_full: int = 0  # last epochs with the full softmax
    smoothing: float = 0.0  # label smoothing, full softmax
    mask_seen: bool = False  # full softmax: items of the history are no candidates, as in a ranking that leaves them out
    bfloat16: bool = False  # matrix products of training in bfloat16 where the processor has it: more than twice as fast; validation stays exact
    ema: float = 0.0  # decay of the weight average that is validated and exported; 0: none
    warm_start: bool = False  # item ids begin as a factorisation of what follows what in the training events
    shuffle_ties: bool = False  # events of a user at the same second in a new order every epoch: their order in the file says nothing
    unknown: float = 0.0  # how often an input item is replaced by the unknown item
    stop: int = 0  # end after so many of the epochs that the rate is planned for; 0: after all
    patience: int = 10  # validations without a better NDCG@10 before stopping
    validate_every: int = 1  # epochs
    validate_users: int = 0  # 0: all
    valid_share: float = 0.1  # time split: last share of the training events, held out to choose the epoch; 0: none, all epochs run
    refit: bool = False  # after choosing the number of epochs, train again on train + valid
    refit_epochs: int = 0  # refit: not from the beginning, but so many epochs from the weights that were chosen
    refit_lr: float = 0.0  # refit_epochs: their highest rate; 0: lr
    exclude_seen: bool = True  # items of the history are left out of rankings
    threads: int = 0  # 0: as torch finds it


@dataclass
class Config:
    """A YAML file: name, data, model, tasks, train."""

    name: str = "freshet"
    cleaning: Cleaning = field(default_factory=Cleaning)
    model: ModelConfig = field(default_factory=ModelConfig)
    tasks: list[Task] = field(default_factory=lambda: [Task()])
    train: TrainConfig = field(default_factory=TrainConfig)
    text: bool = False  # read item texts through the encoder
    members: int = 1  # so many models, of this seed and those after it, side by side in one bundle: their mean beats each of them
    event_types: list[str] = field(default_factory=list)  # order in the bundle; empty: as they appear
    max_history: int = 50  # events a serving profile keeps

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] = ()) -> "Config":
        """A YAML file, then `a.b=value` overrides. Unknown keys are refused by name."""
        raw = yaml.safe_load(Path(path).read_text()) or {}
        for text in overrides:
            key, _, value = text.partition("=")
            *parents, leaf = key.split(".")
            at = raw
            for p in parents:
                at = at.setdefault(p, {})
            at[leaf] = yaml.safe_load(value)
        raw = dict(raw)
        tasks = [build(Task, t, "tasks") for t in raw.pop("tasks", [{}])]
        parts = {k: build(t, raw.pop(k, {}), k) for k, t in (("cleaning", Cleaning), ("model", ModelConfig), ("train", TrainConfig))}
        config = build(cls, {**raw, **parts, "tasks": tasks}, "")
        config.model.tasks = [t.name for t in tasks]
        if config.members < 1:
            raise ValueError(f"config: members: {config.members}, at least one model makes a bundle")
        return config


def build(kind: type, values: dict, where: str):
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"config: unknown key {where + '.' if where else ''}{key}; known are {', '.join(known)}")
    made = kind(**values)
    for name, f in known.items():
        value, default = getattr(made, name), getattr(kind(), name)
        if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
            setattr(made, name, float(value))  # YAML reads 1e-3 as text
    return made


# ---------------------------------------------------------------------------------------------------------- sequences


class Sequences:
    """A log by user: flat arrays sorted by (user, order), and for each task the items each event is to predict (0: none)."""

    def __init__(self, log: Log, tasks: list[Task], rows: int):
        """`rows`: items from this row on are unknown to the model."""
        self.log, self.tasks, self.gaps = log, tasks, log.gaps()
        self.known = np.where(log.item < rows, log.item, 0)
        self.length = np.bincount(log.user, minlength=len(log.users))
        self.start = np.concatenate([[0], np.cumsum(self.length)[:-1]])
        self.lay_out(np.argsort(log.user, kind="stable"))

    def shuffle_ties(self, rng: np.random.Generator) -> None:
        """Events of a user at the same time change places. Each place keeps its gap: a tie is a gap of 0, whoever comes first."""
        if self.log.timed:
            gap = self.gap
            self.lay_out(np.lexsort((rng.random(len(self.log)), self.log.time, self.log.user)))
            self.gap = gap

    def lay_out(self, order: np.ndarray) -> None:
        self.order = order
        self.user = self.log.user[order]
        self.item = self.known[order].astype(np.int64)
        self.type = self.log.type[order].astype(np.int64)
        self.gap = self.gaps[order]
        self.targets = np.stack([self._targets(t) for t in self.tasks])

    def _targets(self, task: Task) -> np.ndarray:
        """[ahead of the task that looks farthest, events]: row k has the target of the event k places later."""
        first = self._target(self.log, task)
        out = np.zeros((max(t.ahead for t in self.tasks), len(first)), np.int64)
        for k in range(min(task.ahead, len(first))):
            same = self.user[k:] == self.user[: len(first) - k]
            out[k, : len(first) - k] = np.where(same, first[k:], 0)
        return out

    def _target(self, log: Log, task: Task) -> np.ndarray:
        """For each event the item of the first later event of the task, at most `horizon` events ahead."""
        target = np.zeros(len(self.item), np.int64)
        wanted = np.isin(self.type, [i for i, t in enumerate(log.types) if t in task.types]) if task.types else np.ones(len(self.item), bool)
        for ahead in range(task.horizon, 0, -1):
            if ahead >= len(self.item):
                continue
            hit = wanted[ahead:] & (self.user[ahead:] == self.user[:-ahead])
            if task.other_item:
                hit &= self.item[ahead:] != self.item[:-ahead]
            at = np.flatnonzero(hit)
            target[at] = self.item[at + ahead]
        return target

    def first_met(self, users: np.ndarray, rows: int) -> Tensor:
        """[users, rows]: the place in each user's history at which an item was first met; far away where it never was."""
        out = np.full((len(users), rows), np.iinfo(np.int32).max, np.int32)
        for n, u in enumerate(users):
            own = self.item[self.start[u] : self.start[u] + self.length[u]]
            out[n, own[::-1]] = np.arange(len(own))[::-1]  # of several places the last one written stays: the first
        return torch.from_numpy(out)

    def window(self, users: np.ndarray, begin: int, end: int) -> dict[str, Tensor]:
        """Events begin..end of each of `users`, [T, B]; `mask` is false past a user's end."""
        t = np.arange(begin, end)[:, None]
        mask = t < self.length[users][None]
        at = np.where(mask, self.start[users][None] + t, 0)
        take = lambda column: torch.from_numpy(np.where(mask, column[at], 0))
        return {"item": take(self.item), "type": take(self.type), "gap": take(self.gap), "mask": torch.from_numpy(mask),
                "at": torch.from_numpy(at), "targets": torch.from_numpy(np.where(mask, self.targets[:, :, at], 0))}  # fmt: skip


def groups(lengths: np.ndarray, users: np.ndarray, tokens: int, window: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Users of about the same length, as many together as make `tokens` events a window; shuffled when `rng` is given."""
    jitter = rng.uniform(0.9, 1.1, len(users)) if rng is not None else 1.0
    users = users[np.argsort(lengths[users] * jitter, kind="stable")]
    out, i = [], 0
    while i < len(users):
        n = max(1, tokens // max(1, min(window, int(lengths[users[i]]))))
        longest = min(window, int(lengths[users[i : i + n]].max()))
        n = max(1, min(n, tokens // max(1, longest)))
        out.append(users[i : i + n])
        i += n
    if rng is not None:
        rng.shuffle(out)
    return out


def windows(length: int, window: int, rng: np.random.Generator | None) -> list[tuple[int, int]]:
    """Begin and end of each window of a history; with `rng` the first one is cut at a random place, so that borders move."""
    if length <= window:
        return [(0, length)]
    first = window if rng is None else int(rng.integers(window // 2, window + 1))
    edges = [0, *range(first, length, window), length]
    return [(a, b) for a, b in zip(edges, edges[1:]) if b > a]


# -------------------------------------------------------------------------------------------------------------- losses


@dataclass
class Met:
    """What the user of each query had met when it was asked."""

    first: Tensor  # [users, rows]: place in the history at which an item was first met
    who: Tensor  # [n]: whose query
    place: Tensor  # [n]: of the event that asks

    def before(self, which: slice) -> Tensor:
        """[n, rows] of the queries `which`: whether an item is in the history."""
        return self.first[self.who[which]] <= self.place[which, None]

    def has(self, items: Tensor) -> Tensor:
        """[n, k] for items [n, k] of the same queries."""
        return self.first[self.who[:, None], items] <= self.place[:, None]


class FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy over the whole catalogue, a block of queries at a time.

    Gradients are made in the forward pass while a block of scores is still in the cache; the [n, rows] matrix never exists whole.
    """

    BLOCK = 512

    @staticmethod
    def forward(ctx, q: Tensor, e: Tensor, bias: Tensor, target: Tensor, share: Tensor, smoothing: float, met: Met | None = None) -> Tensor:
        """q [n, d], e [rows, d], bias [rows], target [n, k] (row 0 is never predicted), share [n, k]: what each target weighs, 1 together;
        met: whose history leaves which items out."""
        n, rows = q.shape[0], e.shape[0]
        gq, ge, gb = torch.empty_like(q), torch.zeros_like(e), torch.zeros_like(bias)
        bias = bias.clone()
        bias[0] = -1e9
        total = q.new_zeros(())
        buffer = q.new_empty(min(FullSoftmax.BLOCK, n), rows)
        for a in range(0, n, FullSoftmax.BLOCK):
            qb, tb = q[a : a + FullSoftmax.BLOCK], target[a : a + FullSoftmax.BLOCK]
            part = share[a : a + FullSoftmax.BLOCK]
            p = torch.addmm(bias, qb, e.T, out=buffer[: len(qb)])
            if met is not None:
                p.masked_fill_(met.before(slice(a, a + FullSoftmax.BLOCK)), -1e9)
            top = p.amax(1, keepdim=True)
            p.sub_(top)
            hit = (p.gather(1, tb) * part).sum(1, keepdim=True)
            mean = p[:, 1:].mean(1, keepdim=True) if smoothing else 0.0
            p.exp_()
            z = p.sum(1, keepdim=True)
            total += (z.log() - (1 - smoothing) * hit - smoothing * mean).sum()
            p.div_(z)
            if smoothing:
                p[:, 1:].sub_(smoothing / (rows - 1))
            p.scatter_add_(1, tb, part * -(1 - smoothing))
            torch.mm(p, e, out=gq[a : a + len(qb)])
            ge.addmm_(p.T, qb)
            gb += p.sum(0)
        ctx.save_for_backward(gq, ge, gb)
        ctx.n = n
        return total / n

    @staticmethod
    def backward(ctx, grad: Tensor):
        gq, ge, gb = ctx.saved_tensors
        s = grad / ctx.n
        return gq * s, ge * s, gb * s, None, None, None, None


def sampled_softmax(q: Tensor, e_target: Tensor, b_target: Tensor, target: Tensor, e_neg: Tensor, b_neg: Tensor, negative: Tensor, log_expected: Tensor) -> Tensor:
    """Cross-entropy against negatives shared by the batch, each corrected by the log of how often it is expected among them.

    Then positive + corrected negatives estimate the sum over the whole catalogue. A negative that is the target does not count.
    """
    positive = (q * e_target).sum(1) + b_target
    scores = torch.addmm(b_neg - log_expected, q, e_neg.T)
    scores = scores.masked_fill(negative[None] == target[:, None], -1e9)
    return (torch.logaddexp(positive, torch.logsumexp(scores, 1)) - positive).mean()


class Loss:
    """The loss of a batch over all tasks."""

    def __init__(self, config: TrainConfig, tasks: list[Task], counts: np.ndarray):
        self.config, self.tasks = config, tasks
        weight = np.where(counts > 0, np.maximum(counts, 1.0) ** config.sampling, 0.0)
        weight[0] = 0
        self.share = torch.from_numpy(weight / weight.sum()).float()

    def __call__(self, model: Recommender, hidden: Tensor, batch: dict[str, Tensor], table: Tensor | None, full: bool) -> Tensor:
        """hidden [T, B, width]; `table`: all item vectors where the caller has them."""
        total = hidden.new_zeros(())
        for task, target in zip(self.tasks, batch["targets"]):
            at = target[0] > 0
            if not bool(at.any()):
                continue
            q, t = model.query(hidden[at], task.name), target[: task.ahead, at].T  # [n, d], [n, ahead]
            total = total + task.weight * (self.full(model, q, t, task, table, self.met(batch, at)) if full else self.sampled(model, q, t[:, 0], table))
        return total

    @staticmethod
    def shares(task: Task, t: Tensor) -> Tensor:
        """What each of the targets [n, ahead] weighs: the k-th k ** -fade, 1 together; those that are missing nothing."""
        weight = torch.arange(1, t.shape[1] + 1, device=t.device) ** -task.fade * (t > 0)
        return weight / weight.sum(1, keepdim=True).clamp_min(1e-9)

    @staticmethod
    def met(batch: dict[str, Tensor], at: Tensor) -> Met | None:
        if "first" not in batch:
            return None
        who = torch.arange(at.shape[1], device=at.device).expand(at.shape)
        return Met(batch["first"], who[at], batch["place"][:, None].expand(at.shape)[at])

    def full(self, model: Recommender, q: Tensor, t: Tensor, task: Task, table: Tensor | None, met: Met | None) -> Tensor:
        if met is not None:  # what is no candidate is no target
            t = t * ~met.has(t)
            left = (t > 0).any(1)
            q, t, met = q[left], t[left], Met(met.first, met.who[left], met.place[left])
        if not len(t):
            return q.sum() * 0
        share = self.shares(task, t).to(q.dtype)
        table = model.items() if table is None else table
        return FullSoftmax.apply(q, table, model.items.bias, t, share, self.config.smoothing, met)

    def sampled(self, model: Recommender, q: Tensor, t: Tensor, table: Tensor | None) -> Tensor:
        n = min(self.config.negatives, len(self.share) - 1)
        share = self.share.to(q.device)
        negative = torch.multinomial(share, n, replacement=True)
        look = (lambda rows: torch.nn.functional.embedding(rows, table)) if table is not None else model.items
        bias = model.items.bias
        return sampled_softmax(q, look(t), bias[t], t, look(negative), bias[negative], negative, torch.log(n * share[negative]))


# ----------------------------------------------------------------------------------------------------------------- fit


class Average:
    """An exponential moving average of the weights: smoother than the last step, often better."""

    def __init__(self, model: Recommender, decay: float):
        self.decay, self.steps = decay, 0
        self.source = [p for p in model.parameters() if p.requires_grad]
        self.shadow = [p.detach().clone() for p in self.source]

    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.source], 1 - decay)

    @contextlib.contextmanager
    def applied(self):
        """The averaged weights inside, the trained ones again outside."""
        kept = [p.detach().clone() for p in self.source]
        with torch.no_grad():
            torch._foreach_copy_(self.source, self.shadow)
            try:
                yield
            finally:
                torch._foreach_copy_(self.source, kept)


def seed_everything(seed: int) -> np.random.Generator:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def keep_memory() -> None:
    """Asks glibc to keep freed memory: a fresh page costs more than the arithmetic done on it. Does nothing elsewhere."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: nothing from mmap
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: nothing back below 1 GiB


@contextlib.contextmanager
def rounded_products(on: bool):
    """Inside, 32-bit matrix products may round their factors to bfloat16 (sums stay in 32 bits)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if on else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def parameter_groups(model: Recommender, decay: float) -> list[dict]:
    """Matrices decay; vectors (norms, biases, eigenvalues) do not."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [{"params": [p for p in params if p.dim() > 1], "weight_decay": decay}, {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from lr to final_lr."""
    warm = max(1, int(config.warmup * steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    share = min(1.0, (step - warm) / max(1, steps - warm))
    return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class Result:
    """A fitted model and how it got there."""

    model: Recommender
    epochs: int  # the number of epochs that validated best
    metrics: dict[str, float]
    history: list[dict]


class Trainer:
    """Fits a model on `train`; `validate(model)` gives the metrics that choose the epoch (`ndcg10` decides)."""

    def __init__(self, model: Recommender, train: Sequences, config: Config, counts: np.ndarray, validate=None, run_dir: Path | None = None, quiet: bool = False):
        self.model, self.train, self.config, self.validate = model, train, config, validate
        self.options, self.run_dir, self.quiet = config.train, run_dir, quiet
        if self.options.mask_seen and self.options.smoothing:
            raise ValueError("config: train.mask_seen and train.smoothing do not go together: smoothing wants every item to be a candidate")
        self.rng = np.random.default_rng(config.train.seed)
        self.loss = Loss(config.train, config.tasks, counts)
        self.users = np.flatnonzero(train.length > 1)
        self.device = model.items.ids.device
        self.optimizer = torch.optim.AdamW(parameter_groups(model, self.options.weight_decay), lr=self.options.lr, betas=self.options.betas, fused=True)
        self.average = Average(model, self.options.ema) if self.options.ema else None
        self.epoch, self.step = 0, 0
        self.steps = self.options.epochs * len(self.plan(np.random.default_rng(0)))
        self.best: dict = {"ndcg10": -1.0, "epoch": 0, "weights": None, "metrics": {}}
        self.history: list[dict] = []

    def plan(self, rng: np.random.Generator) -> list[tuple[np.ndarray, int, int, bool]]:
        """The batches of an epoch: users, begin, end, and whether a new group (with an empty state) begins."""
        out = []
        for users in groups(self.train.length - 1, self.users, self.options.tokens, self.options.window, rng):
            spans = windows(int(self.train.length[users].max()) - 1, self.options.window, rng)
            out += [(users, a, b, i == 0) for i, (a, b) in enumerate(spans)]
        return out

    def run(self) -> Result:
        writer = tensorboard(self.run_dir)
        stale = 0
        last = self.options.stop or self.options.epochs
        while self.epoch < last and stale < self.options.patience:
            began = time.perf_counter()
            with rounded_products(self.options.bfloat16):
                row = {"epoch": self.epoch + 1, "loss": self.one_epoch()}
            self.epoch += 1
            row["seconds"] = round(time.perf_counter() - began, 1)
            due = self.epoch % self.options.validate_every == 0 or self.epoch == last
            if self.validate and due:
                row |= self.validated()
                stale = 0 if self.best["epoch"] == self.epoch else stale + 1
            self.note(row, writer)
        if writer:
            writer.close()
        return self.result()

    def one_epoch(self) -> float:
        self.model.train()
        for part in self.model.modules():
            if isinstance(part, Dropout):
                part.uses = 0  # masks are drawn anew, so that a resumed epoch draws the same
        total, count, state = 0.0, 0, None
        full = self.options.loss == "full" or self.epoch >= self.options.epochs - self.options.finish_full
        plan = self.plan(self.rng)
        if self.options.shuffle_ties:
            self.train.shuffle_ties(self.rng)
        for users, begin, end, fresh in progress(plan, f"epoch {self.epoch + 1}", self.quiet):
            batch = {k: v.to(self.device) for k, v in self.train.window(users, begin, end).items()}
            if self.options.mask_seen and full:
                if fresh:
                    first = self.train.first_met(users, self.model.items.rows).to(self.device)
                batch |= {"first": first, "place": torch.arange(begin, end, device=self.device)}
            state = self.model.init_state(len(users)) if fresh else state.detach()
            loss, state = self.one_batch(batch, state, full)
            total, count = total + loss, count + 1
        return total / max(1, count)

    def one_batch(self, batch: dict[str, Tensor], state: Tensor, full: bool) -> tuple[float, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.options, self.step, self.steps)
        items = batch["item"]
        if self.options.unknown:
            items = items * (torch.rand(items.shape, device=items.device) >= self.options.unknown)
        table = self.model.items() if full or self.model.items.text is not None else None
        x = self.model.items(items) if table is None else torch.nn.functional.embedding(items, table)
        hidden, state = self.model(x, batch["type"], batch["gap"], state)
        loss = self.loss(self.model, hidden, batch, table, full)
        self.step += 1
        if loss.requires_grad:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
            self.optimizer.step()
            if self.average:
                self.average.update()
        return float(loss.detach()), state

    def validated(self) -> dict:
        with self.average.applied() if self.average else contextlib.nullcontext():
            metrics = self.validate(self.model)
            if metrics["ndcg10"] > self.best["ndcg10"]:
                weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
                self.best = {"ndcg10": metrics["ndcg10"], "epoch": self.epoch, "weights": weights, "metrics": metrics}
        return metrics

    def note(self, row: dict, writer) -> None:
        self.history.append(row)
        if not self.quiet:
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        if writer:
            for k, v in row.items():
                if isinstance(v, float):
                    writer.add_scalar(k, v, row["epoch"])
            writer.flush()
        if self.run_dir:
            self.save(self.run_dir / "checkpoint.pt")

    def result(self) -> Result:
        if self.best["weights"] is not None:
            self.model.load_state_dict(self.best["weights"])
            self.model.eval()
            return Result(self.model, self.best["epoch"], self.best["metrics"], self.history)
        if self.average:
            with torch.no_grad():
                torch._foreach_copy_(self.average.source, self.average.shadow)
        self.model.eval()
        return Result(self.model, self.epoch, {}, self.history)

    def begin(self, weights: dict) -> None:
        """Starts from the weights of another run, with a fresh optimizer and average."""
        self.model.load_state_dict(weights)
        if self.average:
            self.average = Average(self.model, self.options.ema)

    def go_on(self, weights: dict, epochs: int, lr: float) -> None:
        """A short schedule of its own from `weights`; how far an id is trusted is told by the events of this training."""
        self.begin({**weights, "items.share": self.model.items.share})
        self.steps = self.steps // self.options.epochs * epochs
        self.options.epochs, self.options.lr, self.options.stop = epochs, lr, 0

    def save(self, path: Path) -> None:
        """Everything `resume` needs to go on as if never stopped."""
        whole = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "step": self.step,
                 "best": self.best, "history": self.history, "rng": self.rng.bit_generator.state, "torch": torch.get_rng_state(),
                 "average": (self.average.shadow, self.average.steps) if self.average else None, "config": asdict(self.config)}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(whole, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def resume(self, path: Path) -> None:
        whole = torch.load(path, weights_only=False)
        if whole["config"] != asdict(self.config):
            raise ValueError(f"{path} was made with another config; start anew or use the same")
        self.model.load_state_dict(whole["model"])
        self.optimizer.load_state_dict(whole["optimizer"])
        self.epoch, self.step, self.best, self.history = whole["epoch"], whole["step"], whole["best"], whole["history"]
        self.rng.bit_generator.state = whole["rng"]
        torch.set_rng_state(whole["torch"])
        if self.average:
            shadow, self.average.steps = whole["average"]
            torch._foreach_copy_(self.average.shadow, shadow)


def progress(items: list, label: str, quiet: bool):
    if quiet:
        return items
    from tqdm import tqdm

    return tqdm(items, desc=label, leave=False, mininterval=1.0, disable=None)


def tensorboard(run_dir: Path | None):
    if run_dir is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run_dir))


def fit(config: Config, split: Split, rows: int, text: Tensor | None = None, run_dir: Path | None = None, resume: bool = False,
        quiet: bool = False, begin: dict | None = None) -> Result:  # fmt: skip
    """Trains on split.train, chooses the epoch on split.valid; with `refit` trains once more on both for that many epochs.

    `begin`: weights to start from, of the same architecture and catalogue.
    """
    from .evaluate import validator

    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    keep_memory()
    validate = validator(split, config, rows) if split.valid is not None and len(split.valid) else None
    trainer = make_trainer(config, split.train, rows, text, validate, run_dir, quiet)
    if begin is not None:
        trainer.begin(begin)
    if resume and run_dir and (run_dir / "checkpoint.pt").exists():
        trainer.resume(run_dir / "checkpoint.pt")
    result = trainer.run()
    if not config.train.refit or validate is None:
        return result
    again = copy.deepcopy(config)
    both = merge(split)
    trainer = make_trainer(again, both, rows, text, None, None, quiet)
    if config.train.refit_epochs:
        trainer.go_on(result.model.state_dict(), config.train.refit_epochs, config.train.refit_lr or config.train.lr)
    else:
        trainer.options.epochs = result.epochs
    refitted = trainer.run()
    return Result(refitted.model, result.epochs, result.metrics, result.history)


def merge(split: Split) -> Log:
    """Train and valid as one log, in order: valid follows train for every user."""
    a, b = split.train, split.valid
    join = lambda name: np.concatenate([getattr(a, name), getattr(b, name)])
    return Log(join("user"), join("item"), join("type"), join("time"), join("value"), a.users, a.items, a.types)


def make_trainer(config: Config, train: Log, rows: int, text: Tensor | None, validate, run_dir: Path | None, quiet: bool) -> Trainer:
    seed_everything(config.train.seed)
    counts = np.bincount(np.where(train.item < rows, train.item, 0), minlength=rows)
    model = Recommender(config.model, rows, len(train.types), text, torch.from_numpy(counts))
    sequences = Sequences(train, config.tasks, rows)
    from .evaluate import DENSE_ROWS, Counts

    if config.train.warm_start and rows <= DENSE_ROWS:
        warm_start(model, Counts(rows).learn(sequences).table)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Trainer(model.to(device), sequences, config, counts, validate, run_dir, quiet)


@torch.no_grad()
def warm_start(model: Recommender, table: np.ndarray) -> None:
    """Item ids from the positive pointwise mutual information of neighbours: table [rows, rows] counts what followed what.

    The leading eigenvectors, scaled by the roots of their eigenvalues, give vectors whose products already say what goes together;
    a small catalogue or a short training has no time to learn that from nothing.
    """
    pairs = torch.from_numpy(table + table.T)
    of = pairs.sum(1, keepdim=True).clamp_min(1e-6)
    pmi = torch.log((pairs * of.sum() / (of * of.T)).clamp_min(1.0))
    width = min(model.config.dim, len(pmi))
    axes, sizes, _ = torch.svd_lowrank(pmi, q=min(len(pmi), width + 16), niter=4)
    vectors = axes[:, :width] * sizes[:width].sqrt()
    model.items.ids[:, :width] = vectors * (model.items.ids.std() / vectors.std())
