"""Events and items from files, cleaned, numbered and split.

Readers yield plain rows; `load` turns them into one `Log`, columns of numbers in a stable order: by time, ties by their order in the
file (never by item id: on MovieLens half of all times are tied, and another tie order is another test set).
Whatever is dropped is counted with the reason in a `Report`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNKNOWN = 0  # row of the unknown item, index of the unknown event type


class Row(NamedTuple):
    """One event as a file tells it. `time` is in seconds since 1970, or nan where the file has only an order."""

    user: str
    item: str
    time: float
    type: str
    value: float
    event_id: str = ""


@dataclass
class Report:
    """What reading, cleaning and splitting did, and why events are missing."""

    format: str = ""
    read: int = 0
    dropped: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        out = [f"format {self.format}: {self.read:,} events read"]
        out += [f"dropped {n:,}: {why}" for why, n in sorted(self.dropped.items())]
        return out + self.notes


# ---------------------------------------------------------------------------------------------------------------- files


def open_text(path: str | Path, encoding: str = "utf-8") -> io.TextIOBase:
    """A plain, .gz or .zst file as text; bytes that are not UTF-8 are read as latin-1 where the format says so."""
    path = Path(path)
    if path.suffix == ".gz":
        raw = gzip.open(path, "rb")
    elif path.suffix == ".zst":
        import zstandard

        raw = zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True)
    else:
        raw = open(path, "rb")
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="")


def sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def parse_time(text: str | float | int) -> float:
    """Epoch seconds, epoch milliseconds (anything past the year 5138 as seconds) or RFC 3339 -> seconds."""
    try:
        t = float(text)
    except ValueError:
        t = datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    return t / 1000 if abs(t) > 1e11 else t


# --------------------------------------------------------------------------------------------------------- event readers

USER_NAMES = ("user_id", "user", "userid", "sessionid", "session_id", "session", "visitorid", "uid")
ITEM_NAMES = ("item_id", "item", "itemid", "movie_id", "product_id", "aid", "iid")
TIME_NAMES = ("timestamp", "time", "ts", "date", "datetime")
TYPE_NAMES = ("type", "event", "event_type", "action")
VALUE_NAMES = ("value", "rating", "score")
TYPE_ALIASES = {"clicks": "click", "carts": "cart", "orders": "purchase", "order": "purchase", "buy": "purchase",
                "addtocart": "cart", "transaction": "purchase", "pv": "view", "fav": "like"}  # fmt: skip
BAD_LINE = "line that does not parse"


def first(names: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    names = {n.lower(): n for n in names}
    return next((names[w] for w in wanted if w in names), None)


def type_name(text: str) -> str:
    text = str(text).strip().lower()
    return TYPE_ALIASES.get(text, text)


def read_table(lines: Iterable[str], delimiter: str, report: Report, default_type: str = "view") -> Iterator[Row]:
    """A header, then rows: RecBole's .inter (`name:type`), Yoochoose's tsv and any csv or tsv with user, item and time."""
    rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE)
    header = [h.split(":")[0].strip() for h in next(rows)]
    at = {name: i for i, name in enumerate(header)}
    user, item = first(header, USER_NAMES), first(header, ITEM_NAMES)
    if user is None or item is None:
        raise ValueError(f"the header {header} names no user or no item; name them for example user,item,timestamp")
    time, kind, value = first(header, TIME_NAMES), first(header, TYPE_NAMES), first(header, VALUE_NAMES)
    default = "rating" if value == "rating" else "click" if user.lower().startswith("session") else default_type
    for row in rows:
        if not row:
            continue
        try:
            yield Row(row[at[user]], row[at[item]], parse_time(row[at[time]]) if time else float("nan"),
                      type_name(row[at[kind]]) if kind else default,
                      float(row[at[value]]) if value and row[at[value]] else float("nan"))  # fmt: skip
        except (ValueError, IndexError):
            report.dropped[BAD_LINE] += 1


def read_histories(lines: Iterable[str], report: Report) -> Iterator[Row]:
    """A header with history_item_id and item_id (amazon-industrial): each user's longest history, then the next item."""
    longest: dict[str, list[str]] = {}
    for row in csv.DictReader(lines):
        try:
            items = [str(i) for i in json.loads(row["history_item_id"])] + [row["item_id"]]
        except (ValueError, KeyError):
            report.dropped[BAD_LINE] += 1
            continue
        if len(items) > len(longest.get(row["user_id"], ())):
            longest[row["user_id"]] = items
    for user, items in longest.items():
        yield from (Row(user, item, float("nan"), "view", float("nan")) for item in items)


def read_sequences(lines: Iterable[str], kind: str, report: Report) -> Iterator[Row]:
    """A user a line: `user<TAB>item item ...` (SASRec order) or `user item item ...` (Beauty); no times."""
    for line in lines:
        words = line.split()
        if len(words) < 2:
            report.dropped[BAD_LINE] += bool(words)
            continue
        yield from (Row(words[0], item, float("nan"), kind, float("nan")) for item in words[1:])


def read_librec(lines: Iterable[str], report: Report) -> Iterator[Row]:
    """`user::item::rating::unix time`."""
    for line in lines:
        try:
            user, item, value, time = line.strip().split("::")
            yield Row(user, item, float(time), "rating", float(value))
        except ValueError:
            report.dropped[BAD_LINE] += bool(line.strip())


def read_jsonl(lines: Iterable[str], report: Report) -> Iterator[Row]:
    """freshet events (docs: Event), OTTO sessions, or any objects with user, item, time and perhaps type."""
    for line in lines:
        if not line.strip():
            continue
        try:
            yield from rows_of_object(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            report.dropped[BAD_LINE] += 1


def rows_of_object(o: dict) -> list[Row]:
    if "events" in o and "session" in o:  # OTTO
        return [Row(str(o["session"]), str(e["aid"]), e["ts"] / 1000, type_name(e["type"]), float("nan")) for e in o["events"]]
    if "data" in o and "specversion" in o:  # a structured CloudEvent around a freshet event
        o = {"event_id": o.get("id", ""), **o["data"]}
    user, time = first(o, USER_NAMES), first(o, TIME_NAMES)
    kind, value, item = first(o, TYPE_NAMES), first(o, VALUE_NAMES), first(o, ITEM_NAMES)
    items = [str(i["item_id"]) for i in o["items"]] if o.get("items") else [str(o[item])]
    row = Row(str(o[user]), "", parse_time(o[time]) if time else float("nan"), type_name(o[kind]) if kind else "view",
              float(o[value]) if value and o[value] is not None else float("nan"), str(o.get("event_id", "")))  # fmt: skip
    return [row._replace(item=i, event_id=row.event_id and f"{row.event_id}#{n}") for n, i in enumerate(items)]


def read_events(path: str | Path, report: Report) -> Iterator[Row]:
    """Rows of any file this page knows, in file order. The format is told by the first line."""
    with open_text(path) as f:
        head = f.readline()
        lines = itertools.chain([head], f)
        if head.lstrip().startswith("{"):
            report.format, rows = "jsonl", read_jsonl(lines, report)
        elif re.fullmatch(r"[^:\s]+::[^:]+::[\d.]+::\d+\s*", head):
            report.format, rows = "librec", read_librec(lines, report)
        elif "history_item_id" in head:
            report.format, rows = "histories", read_histories(lines, report)
        elif first((h.split(":")[0].strip() for h in re.split(r"[,\t]", head)), USER_NAMES):
            delimiter = "\t" if "\t" in head else ","
            report.format, rows = ("tsv", "csv")[delimiter == ","], read_table(lines, delimiter, report)
        elif re.fullmatch(r"\S+\t\S+( \S+)*\s*", head):
            report.format, rows = "sasrec order", read_sequences(lines, "rating", report)
        elif len(head.split(" ")) > 2 and "\t" not in head and "," not in head:
            report.format, rows = "user sequences", read_sequences(lines, "view", report)
        else:
            raise ValueError(f"{path}: the first line is of no known format: {head[:80]!r}")
        yield from rows


# ---------------------------------------------------------------------------------------------------------- item readers


@dataclass
class Item:
    """What a text encoder may know about an item."""

    id: str
    title: str = ""
    description: str = ""
    categories: list[str] = field(default_factory=list)
    brand: str = ""

    def text(self) -> str:
        """Non-empty title, brand, categories joined by ", " and description, joined by ". " (docs/bundle.md)."""
        parts = (self.title, self.brand, ", ".join(self.categories), self.description)
        return ". ".join(p for p in parts if p)


def item_of_object(o: dict, id: str = "") -> Item:
    """A freshet item or an entry of amazon's item.json."""
    categories = o.get("categories") or []
    if isinstance(categories, str):
        categories = [c.strip() for c in categories.split(",") if c.strip()]
    description = o.get("description") or ""
    if description.startswith("['"):  # amazon prints a Python list
        description = " ".join(re.findall(r"'((?:[^'\\]|\\.)*)'", description)) or description.strip("[]'\"")
    return Item(str(o.get("item_id", id)), str(o.get("title") or ""), description, list(map(str, categories)), str(o.get("brand") or ""))


def read_items(path: str | Path) -> list[Item]:
    """freshet item JSONL, ml-100k .item (RecBole), movies.dat, Beauty's item_textual_ids or amazon's item.json."""
    latin = Path(path).name.startswith("movies.dat")
    with open_text(path, "latin-1" if latin else "utf-8") as f:
        head = f.readline()
        lines = itertools.chain([head], f)
        if head.strip() == "{":
            return [item_of_object(o, id) for id, o in json.loads("".join(lines)).items()]
        if head.startswith("{"):
            return [item_of_object(json.loads(line)) for line in lines if line.strip()]
        if head.startswith("item_id:"):
            return items_of_table(lines)
        if "::" in head:
            rows = (line.rstrip("\r\n").split("::") for line in lines)
            return [Item(id, title, "", [c for c in genres.split("|") if c]) for id, title, genres in rows]
        rows = (line.strip().partition(" ") for line in lines if line.strip())
        return [Item(id, title) for id, _, title in rows]


def items_of_table(lines: Iterable[str]) -> list[Item]:
    """RecBole's .item: a typed header; the title is the column with "title" in its name, a `class` column holds categories."""
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    names = {n.split(":")[0]: n for n in rows.fieldnames or []}
    title = next((n for s, n in names.items() if "title" in s or s == "name"), None)
    classes = next((names[s] for s in ("class", "genre", "genres", "categories") if s in names), None)
    return [Item(r[names["item_id"]], (r[title] or "") if title else "", "", (r[classes] or "").split() if classes else []) for r in rows]


# ------------------------------------------------------------------------------------------------------------------- log


@dataclass
class Log:
    """Events as columns, in global order. Row 0 of `items` and index 0 of `types` are the unknown ones (id "")."""

    user: np.ndarray  # int32, index into users
    item: np.ndarray  # int32, row of the item
    type: np.ndarray  # int32, index into types
    time: np.ndarray  # float64 seconds, nan where the file has no times
    value: np.ndarray  # float32, nan where absent
    users: list[str]
    items: list[str]
    types: list[str]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def timed(self) -> bool:
        return len(self) > 0 and not np.isnan(self.time).any()

    def take(self, which: np.ndarray) -> "Log":
        """The events `which` (a mask or indices), same numbering of users, items and types."""
        return Log(self.user[which], self.item[which], self.type[which], self.time[which], self.value[which], self.users, self.items, self.types)

    def histories(self) -> list[np.ndarray]:
        """For each user the indices of the user's events, in order."""
        order = np.argsort(self.user, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.user, minlength=len(self.users)))[:-1])

    def counts(self) -> np.ndarray:
        return np.bincount(self.item, minlength=len(self.items))

    def gaps(self) -> np.ndarray:
        """Seconds since the same user's previous event; 0 for the first and where there are no times."""
        gaps = np.zeros(len(self), np.float32)
        if self.timed:
            for own in self.histories():
                gaps[own[1:]] = np.maximum(np.diff(self.time[own]), 0)
        return gaps


@dataclass
class Cleaning:
    """What is kept."""

    types: list[str] = field(default_factory=list)  # keep only these event types; empty: all but impression, login, erase, remove
    min_value: float | None = None  # drop events whose value is below
    min_user: int = 1  # drop users with fewer events (repeated with min_item until nothing changes)
    min_item: int = 1  # drop items with fewer events
    hold_items: float = 0.0  # share of the items, chosen by their ids, that training must not see: how good is a new item? (time split)
    hold_from: float = 0.0  # where that share begins: two that do not overlap, one to choose by and one to score
    collapse_repeats: bool = False  # drop an event whose item and type are those of the user's previous event


NOT_BEHAVIOUR = {"impression", "login", "erase", "remove", "dislike"}


def load(path: str | Path, cleaning: Cleaning | None = None) -> tuple[Log, Report]:
    """Read, clean, order and number the events of one file."""
    cleaning, report = cleaning or Cleaning(), Report()
    rows = clean(read_events(path, report), cleaning, report)
    rows = core(rows, cleaning, report)
    if rows and any(r.time == r.time for r in rows):
        rows.sort(key=lambda r: r.time)  # stable: ties keep the order of the file
    log = number(rows, cleaning)
    report.notes.append(f"kept {len(log):,} events of {len(log.users):,} users over {len(log.items) - 1:,} items, types {', '.join(log.types[1:])}"
                        + ("" if log.timed else "; no times: order of the file"))  # fmt: skip
    return log, report


def clean(rows: Iterable[Row], cleaning: Cleaning, report: Report) -> list[Row]:
    kept, seen, last = [], set(), {}
    for row in rows:
        report.read += 1
        why = reason_to_drop(row, cleaning, seen, last)
        if why:
            report.dropped[why] += 1
            continue
        if row.event_id:
            seen.add(row.event_id)
        last[row.user] = (row.item, row.type)
        kept.append(row)
    timed = sum(r.time == r.time for r in kept)
    if 0 < timed < len(kept):
        report.dropped["no time while others have one"] += len(kept) - timed
        kept = [r for r in kept if r.time == r.time]
    return kept


def reason_to_drop(row: Row, cleaning: Cleaning, seen: set[str], last: dict[str, tuple[str, str]]) -> str:
    if not row.user or not row.item:
        return "empty user or item"
    if cleaning.types and row.type not in cleaning.types:
        return f"type {row.type} is not asked for"
    if not cleaning.types and row.type in NOT_BEHAVIOUR:
        return f"type {row.type} is no behaviour to learn"
    if cleaning.min_value is not None and row.value < cleaning.min_value:
        return f"value below {cleaning.min_value:g}"
    if row.event_id and row.event_id in seen:
        return "event id seen before"
    if cleaning.collapse_repeats and last.get(row.user) == (row.item, row.type):
        return "same item and type as the event before"
    return ""


def core(rows: list[Row], cleaning: Cleaning, report: Report) -> list[Row]:
    """Drop users and items with too few events, until none is left."""
    while cleaning.min_user > 1 or cleaning.min_item > 1:
        users, items = Counter(r.user for r in rows), Counter(r.item for r in rows)
        kept = [r for r in rows if users[r.user] >= cleaning.min_user and items[r.item] >= cleaning.min_item]
        if len(kept) == len(rows):
            break
        report.dropped[f"user with fewer than {cleaning.min_user} or item with fewer than {cleaning.min_item} events"] += len(rows) - len(kept)
        rows = kept
    return rows


def held(id: str, share: float, start: float = 0.0) -> bool:
    """Whether an item belongs to the share that is held out: by its id alone, so that `freshet eval --cold-items` agrees."""
    return bool(id) and 1000 * start <= zlib.crc32(id.encode()) % 1000 < 1000 * (start + share)


def number(rows: list[Row], cleaning: Cleaning | None = None) -> Log:
    """Rows in order -> columns. Users, items and types are numbered in order of appearance, held-out items after all others; 0 is
    kept for the unknown."""
    users: dict[str, int] = {}
    items, types = {"": UNKNOWN}, {"": UNKNOWN}
    user = np.fromiter((users.setdefault(r.user, len(users)) for r in rows), np.int32, len(rows))
    share, start = (cleaning.hold_items, cleaning.hold_from) if cleaning else (0.0, 0.0)
    for r in sorted(rows, key=lambda r: held(r.item, share, start)) if share else ():
        items.setdefault(r.item, len(items))
    item = np.fromiter((items.setdefault(r.item, len(items)) for r in rows), np.int32, len(rows))
    kind = np.fromiter((types.setdefault(r.type, len(types)) for r in rows), np.int32, len(rows))
    time = np.fromiter((r.time for r in rows), np.float64, len(rows))
    value = np.fromiter((r.value for r in rows), np.float32, len(rows))
    return Log(user, item, kind, time, value, list(users), list(items), list(types))


# ----------------------------------------------------------------------------------------------------------------- split


@dataclass
class Split:
    """`train` is learned from; `valid` chooses epochs and weights; `test` is looked at once. All share one numbering.

    Leave-one-out: valid and test hold one event a user, to be predicted from all that came before.
    Time: valid and test follow train in global time, each event is predicted and then revealed.
    """

    kind: str  # loo | time | all
    train: Log
    valid: Log | None
    test: Log | None
    notes: list[str] = field(default_factory=list)


def split(log: Log, how: str, valid_share: float = 0.1) -> Split:
    """`loo`; `time:F` (train = first F of all events, its last `valid_share` validates); `all` (nothing is held out)."""
    kind, _, argument = how.partition(":")
    if kind == "loo":
        return split_loo(log)
    if kind == "time":
        return split_time(log, float(argument or 0.8), valid_share)
    if kind == "all":
        return Split("all", log, None, None, [f"all {len(log):,} events train, nothing is held out"])
    raise ValueError(f"split {how!r}: use loo, time:0.8 or all")


def hold_out(split: Split, share: float, start: float = 0.0) -> Split:
    """Training and validation without the events of held-out items."""
    if split.kind != "time":
        raise ValueError("cleaning.hold_items needs --split time:SHARE: only there is it clear what came before")
    cold = np.array([held(id, share, start) for id in split.train.items])
    before = len(split.train) + len(split.valid)
    split.train, split.valid = (log.take(~cold[log.item]) for log in (split.train, split.valid))
    split.notes.append(f"held out: {cold.sum():,} items, {before - len(split.train) - len(split.valid):,} events of theirs do not train")
    return split


def split_loo(log: Log) -> Split:
    """Last event of a user tests, the one before validates. Users with fewer than three events only train."""
    place = np.zeros(len(log), np.int8)
    short = 0
    for own in log.histories():
        if len(own) < 3:
            short += 1
            continue
        place[own[-2]], place[own[-1]] = 1, 2
    notes = [f"leave-one-out: {int((place == 2).sum()):,} users test and validate, {short:,} users with fewer than 3 events only train"]
    return Split("loo", log.take(place == 0), log.take(place == 1), log.take(place == 2), notes)


def split_time(log: Log, share: float, valid_share: float) -> Split:
    if not 0 < share <= 1:
        raise ValueError(f"split time:{share}: the share of training events lies between 0 and 1")
    if not log.timed:
        raise ValueError("split time: this file has no times; use loo or all")
    cut = int(len(log) * share)
    inner = int(cut * (1 - valid_share))
    index = np.arange(len(log))
    train, valid, test = log.take(index < inner), log.take((index >= inner) & (index < cut)), log.take(index >= cut)
    known = np.zeros(len(log.users), bool)
    known[log.user[:cut]] = True
    cold = float((~known[test.user]).mean()) if len(test) else 0.0
    notes = [f"global time: {len(train):,} train, {len(valid):,} validate, {len(test):,} test; {cold:.0%} of test events are of users not seen before"]
    return Split("time", train, valid, test, notes)
