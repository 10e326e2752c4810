"""The consumer that one writes first: it keeps each user's last 200 events in Redis and runs the whole model over them at every event.

It reads the topic that freshet reads, uses the weights that freshet's bundle was exported from (checked against the bundle's own parity
sequences at the start), ranks by exact search over the same catalogue without what was purchased, writes the list to Redis and publishes
it with acks=all. It is spared what freshet does besides: a second source, reasons, late events put right, exactly-once effect, dead
letters. Offsets are committed every second, after everything before them was acknowledged.

    python bench/peers/consumer.py --batch 1              an event at a time
    python bench/peers/consumer.py --batch 128            up to 128 events at a time, waiting at most --linger for them
    python bench/peers/consumer.py --histories 2000       gives 2,000 users full histories, and ends

Addresses come from KAFKA_ADDR and REDIS_ADDR. With --seconds it ends by itself and prints one JSON object: events per second over that
time, after --warm seconds; without, it works until it is told to stop.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import redis
import torch
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from training.model import ModelConfig, Recommender

WINDOW, K = 200, 20  # events that are read again at every event; items of a list


class Model:
    """A bundle's weights in PyTorch, and its catalogue."""

    def __init__(self, bundle: Path, weights: Path):
        manifest = json.loads((bundle / "manifest.json").read_text())
        saved = torch.load(weights, weights_only=True)
        self.name = f"{manifest['name']}@{manifest['fingerprint'][:8]}"
        self.net = Recommender(ModelConfig(**saved["config"]), saved["rows"], len(saved["types"])).eval()
        self.net.load_state_dict(saved["weights"])
        self.task = manifest["tasks"][0]
        self.ids = json.loads((bundle / "items.json").read_text())["ids"]
        self.rows = {item: row for row, item in enumerate(self.ids)}
        self.types = {name: n for n, name in enumerate(manifest["event_types"])}
        dim, n = manifest["dim"], len(self.ids)
        self.items = torch.from_numpy(np.fromfile(bundle / "items.f32", "<f4").reshape(-1, dim)[:n].copy())
        self.bias = torch.from_numpy(np.fromfile(bundle / "items_bias.f32", "<f4")[:n].copy())
        self.bias[0] = -torch.inf  # the unknown item
        self.verify(json.loads((bundle / "parity.json").read_text()))

    @torch.inference_mode()
    def queries(self, rows: torch.Tensor, types: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Whole histories [T, B] with B lengths -> the query after each one's last event [B, dim]."""
        hidden, _ = self.net(self.items[rows], types, gaps, self.net.init_state(rows.shape[1]))
        return self.net.query(hidden[lengths - 1, torch.arange(rows.shape[1])], self.task)

    def verify(self, parity: dict) -> None:
        """The bundle's own sequences must give the bundle's own queries: it is the same model."""
        for s in parity["sequences"]:
            column = lambda name: torch.tensor(s[name])[:, None]
            got = self.queries(column("rows"), column("types"), column("gaps").float(), torch.tensor([len(s["rows"])]))[0]
            drift = (got - torch.tensor(s["queries"][self.task][-1])).abs().max().item()
            if drift > parity["tolerance"]:
                sys.exit(f"the weights are not those of the bundle: a query is off by {drift}")

    def rank(self, histories: list[list[tuple[int, int, int]]], hidden: list[set[int]]) -> list[list[tuple[int, float]]]:
        """Histories of (time, row, type), oldest first -> the K best items of each with their scores; `hidden` are never among them."""
        longest = max(len(h) for h in histories)
        padded = np.zeros((len(histories), longest, 3), np.int64)
        for i, h in enumerate(histories):
            padded[i, : len(h)] = h
        lengths = np.array([len(h) for h in histories])
        gaps = np.diff(padded[:, :, 0], axis=1, prepend=padded[:, :1, 0]).T.clip(min=0) / 1000
        q = self.queries(torch.from_numpy(padded[:, :, 1].T.copy()), torch.from_numpy(padded[:, :, 2].T.copy()),
                         torch.from_numpy(gaps.astype(np.float32)), torch.from_numpy(lengths))  # fmt: skip
        scores = torch.addmm(self.bias, q, self.items.T)
        for i, rows in enumerate(hidden):
            if rows:
                scores[i, list(rows)] = -torch.inf
        best, rows = scores.topk(K)
        best = (best - best[:, :1]).exp()
        return [list(zip(r, s)) for r, s in zip(rows.tolist(), best.tolist())]


def history_key(prefix: str, user: str) -> str:
    return f"{prefix}:history:{{{user}}}"


def pack(time_ms: int, row: int, kind: int) -> str:
    return f"{time_ms},{row},{kind}"


class Worker:
    """Fetch, load, re-encode, rank, save, publish."""

    def __init__(self, a: argparse.Namespace, model: Model):
        self.a, self.model = a, model
        self.store = redis.Redis.from_url(f"redis://{os.environ['REDIS_ADDR']}", decode_responses=True)
        kafka = {"bootstrap.servers": os.environ["KAFKA_ADDR"]}
        self.consumer = Consumer(kafka | {"group.id": a.group, "auto.offset.reset": a.start, "enable.auto.commit": False, "fetch.wait.max.ms": 100})
        self.producer = Producer(kafka | {"acks": "all", "linger.ms": 0})
        self.purchase, self.failed = model.types.get("purchase", -1), None
        topics = (admin := AdminClient(kafka)).list_topics().topics
        if a.output not in topics:
            admin.create_topics([NewTopic(a.output, len(topics[a.events].partitions), 1)])[a.output].result()

    def handle(self, records: list) -> None:
        """Each user's new events go into his history; each user gets one list."""
        new: dict[str, list[str]] = {}
        last: dict[str, tuple] = {}
        for r in records:
            e = json.loads(r.value())
            at = datetime.fromisoformat(e["timestamp"])
            items = [e["item_id"]] if "item_id" in e else [i["item_id"] for i in e["items"]]
            kind = self.model.types.get(e["type"], 0)
            new.setdefault(e["user_id"], []).extend(pack(int(at.timestamp() * 1000), self.model.rows.get(i, 0), kind) for i in items)
            last[e["user_id"]] = (r, e)
        pipe = self.store.pipeline(transaction=False)
        for user, entries in new.items():
            key = history_key(self.a.prefix, user)
            pipe.rpush(key, *entries)
            pipe.ltrim(key, -WINDOW, -1)
            pipe.lrange(key, 0, -1)
        found = pipe.execute()[2::3]
        histories = [sorted(tuple(map(int, x.split(","))) for x in h) for h in found]
        bought = [{row for _, row, kind in h if kind == self.purchase} for h in histories]
        self.save([self.record(user, *last[user], best) for user, best in zip(new, self.model.rank(histories, bought))])

    def record(self, user: str, r, event: dict, best: list[tuple[int, float]]) -> tuple[str, bytes]:
        return user, json.dumps({
            "v": 1, "user_id": user, "surface": "home", "model": self.model.name,
            "items": [{"item_id": self.model.ids[row], "score": round(score, 4)} for row, score in best],
            "event": {"topic": r.topic(), "partition": r.partition(), "offset": r.offset(), "event_id": event["event_id"], "timestamp": event["timestamp"]},
            "computed_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        }, separators=(",", ":")).encode()  # fmt: skip

    def save(self, lists: list[tuple[str, bytes]]) -> None:
        pipe = self.store.pipeline(transaction=False)
        for user, value in lists:
            pipe.set(f"{self.a.prefix}:recs:{{{user}}}", value)
        pipe.execute()
        for user, value in lists:
            self.producer.produce(self.a.output, value, user.encode(), on_delivery=self.delivered)
        self.producer.poll(0)
        if self.failed:
            sys.exit(f"publish: {self.failed}")

    def delivered(self, error, _) -> None:
        self.failed = self.failed or error

    def run(self) -> dict:
        """Works until it is told to stop, or --seconds are over; gives what it did after --warm seconds."""
        told = []
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, lambda *_: told.append(True))
        self.consumer.subscribe([self.a.events], on_assign=lambda *_: print("assigned", file=sys.stderr, flush=True))
        began = measured = committed = None
        handled, todo = 0, {}
        while not told:
            records = [r for r in self.consumer.consume(self.a.batch, self.a.linger / 1000) if r.error() is None]
            if records:
                began = began or time.monotonic()
                self.handle(records)
                todo |= {r.partition(): r.offset() + 1 for r in records}
                handled += len(records) if measured else 0
            now = time.monotonic()
            if todo and now - (committed or 0) > 1:
                self.producer.flush()
                self.consumer.commit(offsets=[TopicPartition(self.a.events, p, o) for p, o in todo.items()], asynchronous=True)
                committed, todo = now, {}
            if began and not measured and now - began > self.a.warm:
                measured = now
            if self.a.seconds and measured and now - measured > self.a.seconds:
                break
        self.producer.flush()
        took = time.monotonic() - (measured or time.monotonic())
        self.consumer.close()
        return {"batch": self.a.batch, "events": handled, "seconds": round(took, 2), "events_per_s": round(handled / took, 1) if took else 0}


def write_histories(a: argparse.Namespace, model: Model) -> None:
    """Full histories of made-up users, in the seconds before now, one event a minute."""
    draw, store, now = random.Random(1), redis.Redis.from_url(f"redis://{os.environ['REDIS_ADDR']}"), int(time.time() * 1000)
    views = model.types["view"]
    pipe = store.pipeline(transaction=False)
    for n in range(a.histories):
        entries = [pack(now - 60_000 * (WINDOW + 60 - i), draw.randrange(1, len(model.ids)), views) for i in range(WINDOW)]
        pipe.rpush(history_key(a.prefix, f"u{n:07d}"), *entries)
        if n % 100 == 99:
            pipe.execute()
    pipe.execute()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", type=Path, required=True)
    p.add_argument("--weights", type=Path, required=True, help="the same weights for PyTorch (deployments/bench/bundle.py --weights)")
    p.add_argument("--events", default="events", help="topic that is read")
    p.add_argument("--output", default="peer-recommendations", help="topic that lists go to")
    p.add_argument("--group", default="peer")
    p.add_argument("--prefix", default="peer", help="what keys in Redis begin with")
    p.add_argument("--start", choices=("earliest", "latest"), default="earliest")
    p.add_argument("--batch", type=int, default=1, help="events handled together, at most")
    p.add_argument("--linger", type=float, default=2, help="milliseconds that a batch waits to fill")
    p.add_argument("--threads", type=int, default=0, help="of PyTorch; 0 = as many as there are cores")
    p.add_argument("--warm", type=float, default=3, help="seconds that are not counted")
    p.add_argument("--seconds", type=float, default=0, help="seconds that are counted; 0 = until it is told to stop")
    p.add_argument("--histories", type=int, default=0, help="write full histories of so many users, and end")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    model = Model(a.bundle, a.weights)
    if a.histories:
        return write_histories(a, model)
    print(json.dumps(Worker(a, model).run()))


if __name__ == "__main__":
    main()
