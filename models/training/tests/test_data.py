"""Every format is read, ties keep the order of the file, and what is dropped is counted with its reason."""

import gzip
import json
import math

import pytest
import zstandard

from training import data

EVENT = {"event_id": "e1", "type": "view", "user_id": "u1", "item_id": "i1", "timestamp": "2026-11-23T10:00:00Z"}

FORMATS = {
    "inter": ("user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t3\t100\nu1\ti2\t5\t200\n", "rating"),
    "sasrec": ("u1\ti1 i2\n", "rating"),
    "sequence": ("u1 i1 i2\n", "view"),
    "yoochoose": ("SessionId\tItemId\tTime\nu1\ti1\t100.5\nu1\ti2\t101.5\n", "click"),
    "otto": (json.dumps({"session": "u1", "events": [{"aid": "i1", "ts": 1000, "type": "clicks"}, {"aid": "i2", "ts": 2000, "type": "clicks"}]}) + "\n", "click"),
    "librec": ("u1::i1::4::100\nu1::i2::2::200\n", "rating"),
    "csv": ("user,item,timestamp,type\nu1,i1,100,cart\nu1,i2,200,cart\n", "cart"),
    "tsv without a type": ("user\titem\ttimestamp\nu1\ti1\t100\nu1\ti2\t200\n", "view"),
    "jsonl": ('{"user":"u1","item":"i1","timestamp":100}\n{"user":"u1","item":"i2","timestamp":200}\n', "view"),
    "freshet": (json.dumps(EVENT) + "\n" + json.dumps({**EVENT, "event_id": "e2", "item_id": "i2"}) + "\n", "view"),
    "histories": ('user_id,history_item_id,item_id\nu1,"[7]",i0\nu1,"[""i1""]",i2\n'.replace('"[7]"', "[]"), "view"),
}  # fmt: skip


def write(tmp_path, content: str, name: str = "events"):
    path = tmp_path / name
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read(tmp_path, name):
    content, kind = FORMATS[name]
    log, report = data.load(write(tmp_path, content))
    assert [log.items[i] for i in log.item] == ["i1", "i2"]
    assert log.users == ["u1"] and log.types == ["", kind]
    assert report.read == 2 and not report.dropped


@pytest.mark.parametrize("suffix, pack", [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)])
def test_packed_files_are_read(tmp_path, suffix, pack):
    path = tmp_path / f"events.csv{suffix}"
    path.write_bytes(pack(b"user,item,timestamp\nu1,i1,100\n"))
    assert len(data.load(path)[0]) == 1


def test_ties_keep_the_order_of_the_file_and_not_of_the_item_ids(tmp_path):
    log, _ = data.load(write(tmp_path, "user,item,timestamp\nu1,z,100\nu1,a,100\nu1,m,50\n"))
    assert [log.items[i] for i in log.item] == ["m", "z", "a"]


def test_times_are_seconds_milliseconds_or_rfc3339():
    assert data.parse_time("1700000000") == data.parse_time(1700000000000) == data.parse_time("2023-11-14T22:13:20Z")


def test_gaps_are_seconds_since_the_same_users_previous_event(tmp_path):
    log, _ = data.load(write(tmp_path, "user,item,timestamp\nu1,a,100\nu2,b,110\nu1,c,160\n"))
    assert log.gaps().tolist() == [0, 0, 60]


def test_what_is_dropped_is_counted_with_its_reason(tmp_path):
    lines = [EVENT, EVENT, {**EVENT, "event_id": "e3", "type": "impression"}, {**EVENT, "event_id": "e4", "item_id": ""}]
    log, report = data.load(write(tmp_path, "".join(json.dumps(o) + "\n" for o in lines) + "{broken\n"))
    assert len(log) == 1
    assert report.dropped == {"event id seen before": 1, "type impression is no behaviour to learn": 1, "empty user or item": 1, data.BAD_LINE: 1}


def test_a_multi_item_purchase_is_one_event_for_each_item(tmp_path):
    event = {**EVENT, "type": "purchase", "items": [{"item_id": "a", "quantity": 1}, {"item_id": "b", "quantity": 2}]}
    log, _ = data.load(write(tmp_path, json.dumps(event) + "\n"))
    assert [log.items[i] for i in log.item] == ["a", "b"]


def test_the_core_drops_until_nothing_changes(tmp_path):
    rows = "user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for t, (u, i) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "z")]))
    log, report = data.load(write(tmp_path, rows), data.Cleaning(min_user=2, min_item=2))
    assert sorted(log.users) == ["a", "b"] and sum(report.dropped.values()) == 2


def test_a_file_of_no_known_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no known format"):
        data.load(write(tmp_path, "hello\n"))


def test_leave_one_out_holds_out_the_last_two(tmp_path):
    log, _ = data.load(write(tmp_path, "u1 a b c d\nu2 a b\n"))
    s = data.split(log, "loo")
    name = lambda part: [part.items[i] for i in part.item]
    assert (name(s.valid), name(s.test)) == (["c"], ["d"])
    assert sorted(name(s.train)) == ["a", "a", "b", "b"]


def test_a_time_split_never_trains_on_the_future(tmp_path):
    log, _ = data.load(write(tmp_path, "user,item,timestamp\n" + "".join(f"u{t % 3},i{t},{t}\n" for t in range(50))))
    s = data.split(log, "time:0.8")
    assert len(s.train) + len(s.valid) == 40 and len(s.test) == 10
    assert s.train.time.max() < s.valid.time.min() <= s.valid.time.max() < s.test.time.min()


def test_a_time_split_needs_times(tmp_path):
    log, _ = data.load(write(tmp_path, "u1 a b c d\n"))
    with pytest.raises(ValueError, match="no times"):
        data.split(log, "time:0.8")


ITEMS = {
    "freshet.jsonl": ('{"item_id":"i1","title":"Red shoe","brand":"Ace","categories":["shoes","red"],"description":"Fast."}\n', "Red shoe. Ace. shoes, red. Fast."),
    "ml-100k.item": ("item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\ni1\tToy Story\t1995\tAnimation Comedy\n", "Toy Story. Animation, Comedy"),
    "movies.dat": ("i1::Toy Story (1995)::Animation|Comedy\n", "Toy Story (1995). Animation, Comedy"),
    "item_textual_ids.txt": ("i1 mud mask\n", "mud mask"),
    "item.json": ('{\n "i1": {"title": "Glue", "brand": "Ace", "description": "[\'Sticks.\']", "categories": ""}\n}\n', "Glue. Ace. Sticks."),
}  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_item_texts(tmp_path, name):
    content, text = ITEMS[name]
    items = data.read_items(write(tmp_path, content, name))
    assert [(i.id, i.text()) for i in items] == [("i1", text)]


def test_events_without_a_time_among_timed_ones_are_dropped(tmp_path):
    log, report = data.load(write(tmp_path, '{"user":"u","item":"a","timestamp":5}\n{"user":"u","item":"b"}\n'))
    assert len(log) == 1 and not math.isnan(log.time[0])
    assert report.dropped["no time while others have one"] == 1


def test_held_out_items_neither_train_nor_validate_and_come_last(tmp_path):
    log, _ = data.load(write(tmp_path, "user,item,timestamp\n" + "".join(f"u{t % 3},{t % 40},{t}\n" for t in range(400))), data.Cleaning(hold_items=0.2))
    cold = [data.held(id, 0.2) for id in log.items]
    assert cold == sorted(cold) and 0 < sum(cold) < 20
    s = data.hold_out(data.split(log, "time:0.8"), 0.2)
    first = cold.index(True)
    assert s.train.item.max() < first and s.valid.item.max() < first <= s.test.item.max()


def test_who_is_held_out_goes_by_the_id_as_in_the_evaluation():
    assert [id for id in map(str, range(30)) if data.held(id, 0.1)] == ["4", "19", "20", "22", "23"]  # as holdout_test.go has it
    other = {id for id in map(str, range(300)) if data.held(id, 0.1, 0.1)}
    assert other and not other & {id for id in map(str, range(300)) if data.held(id, 0.1)}


def test_items_are_held_out_of_a_time_split_only(tmp_path):
    log, _ = data.load(write(tmp_path, "u1 a b c d\n"))
    with pytest.raises(ValueError, match="hold_items"):
        data.hold_out(data.split(log, "loo"), 0.1)
