"""Evaluation: full ranking, leave-one-out and prequential, beside the two baselines a model has to beat.

What is asked is what the first task learns: with `other_item` an event on the item at hand is no question, and that item no answer.

Full ranking only: against 100 sampled negatives every model looks three to four times better. The rank of the true item counts every
candidate that scores as high, so a model that scores everything alike ranks it last. Where `exclude_seen` says so, items of the history
are no candidates, and an event on one of them is no question: as in `freshet eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import Log, Split
from .model import Recommender
from .train import Config, Sequences, groups, merge, windows


def metrics(ranks: np.ndarray) -> dict[str, float]:
    """Ranks (1 = best; inf = not in the catalogue) -> HR@10, NDCG@10, MRR, HR@50."""
    ranks = np.asarray(ranks, np.float64)
    if not len(ranks):
        return {"hr10": 0.0, "ndcg10": 0.0, "mrr": 0.0, "hr50": 0.0}
    gain = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
    return {"hr10": float((ranks <= 10).mean()), "ndcg10": float(gain.mean()), "mrr": float((1 / ranks).mean()), "hr50": float((ranks <= 50).mean())}


def interval(hits: np.ndarray, users: np.ndarray, seed: int = 1, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of a mean by a bootstrap over users."""
    total, count = np.bincount(users, hits), np.bincount(users)
    total, count = total[count > 0], count[count > 0]
    pick = np.random.default_rng(seed).integers(0, len(count), (draws, len(count)))
    means = total[pick].sum(1) / count[pick].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@dataclass
class Question:
    """Who is asked, when, and what the answer was: predict `target` from the first `seen` events of `user`."""

    user: np.ndarray  # [n]
    seen: np.ndarray  # [n] number of events of the user before
    target: np.ndarray  # [n] row of the true item (0: the model does not know it)


class Histories:
    """The events of each user that a question may look at, and the questions."""

    def __init__(self, past: Log, asked: Log, config: Config, rows: int):
        """Every event of `asked` is predicted from all of the user's events before it, and then revealed."""
        whole = merge(Split("", past, asked, None)) if len(asked) else past
        self.sequences = Sequences(whole, config.tasks, rows)
        is_question = np.concatenate([np.zeros(len(past), bool), np.ones(len(asked), bool)])[self.sequences.order]
        self.other_item = config.tasks[0].other_item
        if self.other_item:
            is_question[1:] &= (self.sequences.item[1:] != self.sequences.item[:-1]) | (self.sequences.user[1:] != self.sequences.user[:-1])
        if config.train.exclude_seen:
            is_question &= first_meetings(self.sequences) | (self.sequences.item == 0)
        at = np.flatnonzero(is_question)
        user = self.sequences.user[at]
        self.questions = Question(user, at - self.sequences.start[user], self.sequences.item[at])
        self.when = np.argsort(self.sequences.order[at], kind="stable")  # questions in global order
        self.rows = rows


def first_meetings(s: Sequences) -> np.ndarray:
    """Whether each event is its user's first on that item."""
    first = np.zeros(len(s.item), bool)
    first[np.unique(s.user.astype(np.int64) * (int(s.item.max(initial=0)) + 1) + s.item, return_index=True)[1]] = True
    return first


@torch.no_grad()
def queries(model: Recommender, histories: Histories, task: str, window: int = 200, tokens: int = 20000) -> Tensor:
    """The query vector at each question [n, d], by full passes with the state carried over windows."""
    was = model.training
    model.eval()
    q, s = histories.questions, histories.sequences
    device = model.items.ids.device
    table, out = model.items(), torch.zeros(len(q.user), model.config.dim, device=device)
    asked = torch.full((len(s.item) + 1,), -1)  # event just before the question -> question
    later = q.seen > 0
    asked[torch.from_numpy(s.start[q.user[later]] + q.seen[later] - 1)] = torch.from_numpy(np.flatnonzero(later))
    need = np.zeros(len(s.length), np.int64)
    np.maximum.at(need, q.user, q.seen)
    for users in groups(need, np.flatnonzero(need), tokens, window, None):
        state = model.init_state(len(users))
        for begin, end in windows(int(need[users].max()), window, None):
            batch = s.window(users, begin, end)
            x = torch.nn.functional.embedding(batch["item"].to(device), table)
            hidden, state = model(x, batch["type"].to(device), batch["gap"].to(device), state)
            question = torch.where(batch["mask"], asked[batch["at"]], -1)
            at = question >= 0
            out[question[at]] = model.query(hidden[at.to(device)], task)
    empty = torch.from_numpy(np.flatnonzero(~later))
    if len(empty):  # nothing seen yet: the query of the zero state, as serving would ask it
        hidden = torch.zeros(1, model.encoder.width, device=device)
        out[empty] = model.query(hidden, task)
    model.train(was)
    return out


def ranks_of(scores: Tensor, histories: Histories, which: np.ndarray, exclude_seen: bool) -> np.ndarray:
    """Rank of the true item for the questions `which`; scores [len(which), rows]; unknown targets rank last."""
    q, s = histories.questions, histories.sequences
    target = torch.from_numpy(q.target[which]).to(scores.device)
    of_target = scores.gather(1, target[:, None])
    if exclude_seen:
        for i, w in enumerate(which):
            begin = s.start[q.user[w]]
            scores[i, torch.from_numpy(s.item[begin : begin + q.seen[w]]).to(scores.device)] = -np.inf
    if histories.other_item:
        later = np.flatnonzero(q.seen[which] > 0)
        last = s.item[s.start[q.user[which[later]]] + q.seen[which[later]] - 1]
        scores[torch.from_numpy(later), torch.from_numpy(last)] = -np.inf
    scores[:, 0] = -np.inf
    rank = (scores >= of_target).sum(1).double().cpu().numpy()  # the true item is one of them; 0: it has no number for a score
    return np.where((q.target[which] > 0) & (rank > 0), rank, np.inf)


def rank_all(histories: Histories, score, exclude_seen: bool, block: int = 512) -> np.ndarray:
    """Ranks of all questions; `score(which)` gives fresh scores [len(which), rows]."""
    n = len(histories.questions.user)
    parts = [ranks_of(score(w), histories, w, exclude_seen) for w in np.array_split(np.arange(n), max(1, -(-n // block)))]
    return np.concatenate(parts) if parts else np.zeros(0)


@torch.no_grad()
def scorer(model: Recommender | Sequence[Recommender], histories: Histories, config: Config):
    """A function which -> scores [len(which), rows] of one model, or the mean of several: what their bundle gives."""
    members = [model] if isinstance(model, Recommender) else list(model)
    q, tables = [], []
    for m in members:
        q.append(queries(m, histories, config.tasks[0].name, config.train.window) / len(members))
        was = m.training
        m.eval()
        tables.append(m.items())
        m.train(was)
    q, table, bias = torch.cat(q, dim=1), torch.cat(tables, dim=1), torch.stack([m.items.bias for m in members]).mean(0)
    return torch.no_grad()(lambda which: torch.addmm(bias, q[torch.from_numpy(which)], table.T))


def model_ranks(model: Recommender | Sequence[Recommender], histories: Histories, config: Config) -> np.ndarray:
    return rank_all(histories, scorer(model, histories, config), config.train.exclude_seen)


def validator(split: Split, config: Config, rows: int):
    """A function model -> metrics on split.valid; `validate_users` picks the same users every time."""
    valid = split.valid
    if config.train.validate_users:
        users = np.random.default_rng(0).permutation(len(valid.users))[: config.train.validate_users]
        valid = valid.take(np.isin(valid.user, users))
    past = split.train.take(np.isin(split.train.user, np.unique(valid.user)))
    histories = Histories(past, valid, config, rows)
    return lambda model: metrics(model_ranks(model, histories, config))


# ----------------------------------------------------------------------------------------------------------- baselines


DENSE_ROWS = 20_000  # the table of transition counts is dense; larger catalogues go without it (1.6 GB at this size)


class Counts:
    """Decayed item-to-item transition counts: what followed what, nearer pairs counting more.

    learn: each pair up to `reach` events apart adds 1/distance. score(j) = sum over the last `last` items i, k back, of
    k^-decay * C[i, j] / (popularity(i) popularity(j)^damp). Five seconds to build, and no learned model under it is worth serving.
    """

    def __init__(self, rows: int, reach: int = 20, last: int = 30, decay: float = 0.7, damp: float = 0.3):
        self.rows, self.reach, self.last, self.decay, self.damp = rows, reach, last, decay, damp
        self.table = np.zeros((rows, rows), np.float32)
        self.popularity = np.zeros(rows, np.float64)

    def learn(self, s: Sequences) -> "Counts":
        for k in range(1, self.reach + 1):
            same = s.user[k:] == s.user[:-k]
            key = s.item[:-k][same] * self.rows + s.item[k:][same]
            keys, n = np.unique(key, return_counts=True)
            self.table.reshape(-1)[keys] += (n / k).astype(np.float32)
        self.popularity += np.bincount(s.item, minlength=self.rows)
        return self

    def observe(self, history: np.ndarray) -> None:
        """One more event: the last of `history` follows those before it."""
        item = history[-1]
        before = history[-1 - self.reach : -1][::-1]
        np.add.at(self.table, (before, item), (1 / np.arange(1, len(before) + 1)).astype(np.float32))
        self.popularity[item] += 1

    def scores(self, history: np.ndarray) -> np.ndarray:
        """Scores of all rows from the rows of a history, oldest first; [rows]."""
        recent = history[-self.last :][::-1]
        if not len(recent):
            return self.popularity * 1e-9
        weight = np.arange(1, len(recent) + 1) ** -self.decay / np.maximum(self.popularity[recent], 1)
        return (weight.astype(np.float32) @ self.table[recent]) / np.maximum(self.popularity, 1) ** self.damp


def history_of(histories: Histories, w: int) -> np.ndarray:
    q, s = histories.questions, histories.sequences
    begin = s.start[q.user[w]]
    return s.item[begin : begin + q.seen[w]]


def counts_scores(counts: Counts, histories: Histories, which: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([counts.scores(history_of(histories, w)) for w in which])).float()


def baselines(train: Log, histories: Histories, config: Config, online: bool) -> dict[str, dict[str, float]]:
    """Popularity and transition counts learned on `train`; with `online` both also learn from each event once it is revealed."""
    counts = Counts(histories.rows).learn(Sequences(train, config.tasks, histories.rows))
    seen = config.train.exclude_seen
    popularity = torch.from_numpy(counts.popularity).float()
    out = {
        "popularity": metrics(rank_all(histories, lambda w: popularity.repeat(len(w), 1), seen)),
        "counts": metrics(rank_all(histories, lambda w: counts_scores(counts, histories, w), seen)),
    }
    if online:
        out |= online_baselines(counts, histories, seen)
    return out


def online_baselines(counts: Counts, histories: Histories, exclude_seen: bool) -> dict[str, dict[str, float]]:
    """The same two, learning from every event after it was predicted, in global order."""
    q, s = histories.questions, histories.sequences
    by_counts, by_popularity = np.zeros(len(q.user)), np.zeros(len(q.user))
    for w in histories.when:
        one = np.array([w])
        past = history_of(histories, w)
        popular = torch.from_numpy(counts.popularity).float()[None].clone()
        by_popularity[w] = ranks_of(popular, histories, one, exclude_seen)[0]
        by_counts[w] = ranks_of(torch.from_numpy(counts.scores(past)).float()[None].clone(), histories, one, exclude_seen)[0]
        counts.observe(s.item[s.start[q.user[w]] : s.start[q.user[w]] + q.seen[w] + 1])
    return {"popularity, online": metrics(by_popularity), "counts, online": metrics(by_counts)}


def fused_ranks(model: Recommender | Sequence[Recommender], counts: Counts, histories: Histories, config: Config, weight: float) -> np.ndarray:
    """The encoder's score + weight * log(counts + 1e-5)."""
    score = scorer(model, histories, config)
    return rank_all(histories, lambda w: score(w) + weight * torch.log(counts_scores(counts, histories, w) + 1e-5), config.train.exclude_seen)


def report(model: Recommender | Sequence[Recommender] | None, split: Split, config: Config, rows: int) -> dict[str, dict[str, float]]:
    """The test table: the model with live state beside the baselines; warm users apart from cold ones on a time split."""
    past = merge(split)
    histories = Histories(past, split.test, config, rows)
    table: dict[str, dict[str, float]] = {}
    if model is not None:
        ranks = model_ranks(model, histories, config)
        table["model"] = metrics(ranks)
        if split.kind == "time":
            warm = np.isin(histories.questions.user, np.unique(past.user))
            table["model, warm users"], table["model, cold users"] = metrics(ranks[warm]), metrics(ranks[~warm])
    if rows > DENSE_ROWS:
        return table
    return table | baselines(past, histories, config, online=split.kind == "time")


def print_table(table: dict[str, dict[str, float]]) -> None:
    print(f"{'':24s}" + "".join(f"{k:>9s}" for k in ("HR@10", "NDCG@10", "MRR", "HR@50")))
    for name, m in table.items():
        print(f"{name:24s}" + "".join(f"{m[k]:9.4f}" for k in ("hr10", "ndcg10", "mrr", "hr50")))
