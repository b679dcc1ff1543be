"""The feed: whole, in order, without gap or repeat, by whatever way it is followed."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest
from websockets.sync.client import connect

from dvid_es.events import BY_NUMBER, decode
from dvid_es.feed import tail as feed_tail
from dvid_es.feed.schema import event_schemas
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import mapping_ops

SHAPE = (64, 64, 64)


@pytest.fixture
def root(live: Any) -> str:
    """A repository with some history of every kind of datatype."""
    root: str = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    live.new_instance(root, "keyvalue", "kv")
    volume = oracle.cells(SHAPE, 12, 5)
    live.ok("POST", f"{seg(root)}/raw/0_1_2/64_64_64/0_0_0?downres=true&u=loader", volume.tobytes())
    live.ok("POST", f"{seg(root)}/merge?u=ann&app=neu3", json_body=[1, 2, 3])
    live.ok("POST", f"/api/node/{root}/kv/key/a?u=ann", b"x" * 5000)
    live.ok("POST", f"{seg(root)}/cleave/1?u=bob", json_body=[2])
    live.ok("POST", f"{seg(root)}/mappings", mapping_ops({7: 8}))
    live.ok("POST", f"{seg(root)}/renumber?u=bob", json_body=[900, 4])
    live.ok(
        "POST",
        f"{seg(root)}/raw/0_1_2/32_32_32/32_32_32?mutate=true",
        volume[:32, :32, :32].tobytes(),
    )
    live.ok("POST", f"/api/node/{root}/commit", json_body={"note": "done"})
    child = live.ok("POST", f"/api/node/{root}/newversion", json_body={}).json()["child"]
    made = live.ok("POST", f"{seg(child)}/merge?u=ann", json_body=[5, 6]).json()
    live.ok("POST", f"{seg(child)}/undo?u=ann", json_body={"mutation": made["MutationID"]})
    return root


def seg(uuid: str) -> str:
    return f"/api/node/{uuid}/seg"


def log_of(live: Any, root: str) -> list[Any]:
    return [decode(*one) for one in live.engine.streams.get(root).log.read()]


class Follower:
    """A connection that reads server-sent events one by one."""

    def __init__(self, live: Any, root: str, query: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        self.connection.request("GET", f"/api/repo/{root}/events?{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        lines: dict[str, str] = {}
        while line := self.answer.readline():
            text = line.decode().rstrip("\n")
            if text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                lines[name] = value
            elif not text and lines:
                message = json.loads(lines["data"])
                assert lines["id"] == str(message["sequence"])
                assert lines["event"] == message["type"]
                lines = {}
                yield message

    def take(self, count: int) -> list[dict[str, Any]]:
        found = iter(self)
        return [next(found) for _ in range(count)]

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def all_of(live: Any, root: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
    follower = Follower(live, root, query, **headers)
    try:
        return list(follower)
    finally:
        follower.close()


def test_every_event_of_the_log_is_sent_whole_and_in_order(live: Any, root: str) -> None:
    records = log_of(live, root)
    found = all_of(live, root)
    assert [message["sequence"] for message in found] == list(range(len(records)))
    names = {known.kind: known.name for known in BY_NUMBER.values()}
    assert [message["type"] for message in found] == [names[type(one.event)] for one in records]
    merge = next(message for message in found if message["type"] == "labelmap.merge")
    assert (merge["user"], merge["app"], merge["instance"]) == ("ann", "neu3", "seg")
    assert merge["labels"] == {"target": [1], "merged": [2, 3]}
    assert merge["data"]["target"] == 1
    assert merge["version"] == root
    put = next(message for message in found if message["type"] == "keyvalue.put")
    assert put["data"]["keys"] == ["a"]
    assert put["data"]["values"][0]["bytes"] == 5000


def test_lines_of_json_and_a_websocket_say_the_same(live: Any, root: str) -> None:
    found = all_of(live, root)
    path = f"/api/repo/{root}/events"
    lines = live.ok("GET", path, headers={"Accept": "application/x-ndjson"}).body
    assert [json.loads(line) for line in lines.splitlines() if line] == found
    with connect(f"ws://127.0.0.1:{live.port}{path}") as socket:
        assert [json.loads(text) for text in socket] == found


def test_what_is_sent_is_what_the_schema_says(live: Any, root: str) -> None:
    schema = live.ok("GET", "/api/events/schema").json()
    assert schema == json.loads(json.dumps(event_schemas()))
    assert set(schema["$defs"]) == {known.name for known in BY_NUMBER.values()}
    kinds = set()
    for message in all_of(live, root):
        jsonschema.validate(message, {**schema["$defs"][message["type"]], "$defs": schema["$defs"]})
        kinds.add(message["type"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**message, "extra": 1}, schema["$defs"][message["type"]])
    assert len(kinds) >= 10
    document = live.ok("GET", "/api/events/asyncapi").json()
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["events"]["address"] == "/api/repo/{uuid}/events"
    assert document["channels"]["kafka"]["address"] == "{prefix}dvid_es-{root}-events"
    assert {name: one["payload"] for name, one in document["components"]["messages"].items()} == (
        schema["$defs"]
    )


def test_an_answer_ends_with_the_last_sequence_asked_for(live: Any, root: str) -> None:
    found = all_of(live, root)
    assert all_of(live, root, "from=3&to=3") == found[3:4]
    assert all_of(live, root, "from=3&to=6&follow=true") == found[3:7]
    assert all_of(live, root, f"to={len(found) + 10}") == found
    assert all_of(live, root, "from=5&to=4") == []
    follower = Follower(live, root, f"from={len(found)}&to={len(found) + 1}&follow=true")
    for value in (b"1", b"2", b"3"):
        live.ok("POST", f"/api/node/{child_of(live, root)}/kv/key/b", value)
    assert [message["sequence"] for message in follower] == [len(found), len(found) + 1]
    follower.close()
    assert live.call("GET", f"/api/repo/{root}/events?to=x").status == 400


def test_a_follower_hears_what_is_written_later(live: Any, root: str) -> None:
    follower = Follower(live, root, "from=now&follow=true&type=keyvalue.put")
    for value in (b"1", b"2", b"3"):
        sequence = live.ok("POST", f"/api/node/{child_of(live, root)}/kv/key/b", value).headers[
            "x-dvid-es-seq"
        ]
        (message,) = follower.take(1)
        assert message["sequence"] == int(sequence)
    follower.close()


def child_of(live: Any, root: str) -> str:
    nodes = live.ok("GET", f"/api/repo/{root}/info").json()["DAG"]["Nodes"]
    uuid: str = max(nodes.values(), key=lambda node: node["VersionID"])["UUID"]
    return uuid


def test_followers_that_stop_anywhere_go_on_without_gap_or_repeat(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_tail, "EVENTS_PER_READ", 7)
    monkeypatch.setattr(feed_tail, "KEPT_BYTES", 2000)
    child = child_of(live, root)
    first = len(log_of(live, root))
    total = first + 300
    stop = threading.Event()

    def write() -> None:
        for number in range(300):
            live.ok("POST", f"/api/node/{child}/kv/key/k{number % 5}", str(number).encode())
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    results: list[list[int]] = []

    def follow(seed: int, by_header: bool) -> None:
        rng = np.random.default_rng(seed)
        seen: list[int] = []
        while len(seen) < total:
            had = {"Last-Event-ID": str(seen[-1])} if by_header and seen else {}
            query = "follow=true" if by_header else f"follow=true&from={len(seen)}"
            follower = Follower(live, root, query, **had)
            count = min(int(rng.integers(1, 60)), total - len(seen))
            seen += [message["sequence"] for message in follower.take(count)]
            follower.close()
        results.append(seen)

    followers = [threading.Thread(target=follow, args=(n, n % 2 == 0)) for n in range(6)]
    for thread in followers:
        thread.start()
    for thread in (*followers, writer):
        thread.join(120)
    assert stop.is_set()
    assert results == [list(range(total))] * 6


FILTERS = {
    "instance=kv": lambda m: m.get("instance") == "kv",
    "instance=kv,seg": lambda m: m.get("instance") in ("kv", "seg"),
    "type=labelmap.merge,labelmap.cleave": lambda m: (
        m["type"] in ("labelmap.merge", "labelmap.cleave")
    ),
    "user=bob": lambda m: m["user"] == "bob",
    "body=2": lambda m: 2 in labels_of(m),
    "body=900,6": lambda m: {900, 6} & labels_of(m),
    "user=ann&body=1": lambda m: m["user"] == "ann" and 1 in labels_of(m),
}


def labels_of(message: dict[str, Any]) -> set[int]:
    return {label for labels in message.get("labels", {}).values() for label in labels}


def test_filters_choose_what_they_say(live: Any, root: str) -> None:
    everything = all_of(live, root)
    for query, chooses in FILTERS.items():
        expected = [message for message in everything if chooses(message)]
        assert expected, query
        assert all_of(live, root, query) == expected, query


def test_a_box_chooses_the_events_that_write_voxels_in_it(live: Any, root: str) -> None:
    whole, part = (m["sequence"] for m in all_of(live, root, "type=labelmap.blocks-put"))
    for box, expected in {
        "0,0,0,1,1,1": [whole], "33,33,33,34,34,34": [whole, part], "0,0,0,64,64,64": [whole, part],
        "31,31,31,32,32,32": [whole], "64,0,0,99,99,99": [], "-9,-9,-9,0,0,0": [],
    }.items():  # fmt: skip
        assert [m["sequence"] for m in all_of(live, root, f"box={box}")] == expected, box


def test_undo_and_redo_name_the_labels_that_they_touch(live: Any, root: str) -> None:
    (undo,) = all_of(live, root, "type=labelmap.undo")
    assert {5, 6} <= labels_of(undo)


def test_cursors_are_kept_over_a_restart(run_server: Any, tmp_path: Any) -> None:
    from dvid_es.settings import Settings

    with run_server(Settings(data=tmp_path / "data")) as live:
        uuid = live.new_repo()
        live.new_instance(uuid, "keyvalue", "kv")
        for value in (b"1", b"2", b"3"):
            live.ok("POST", f"/api/node/{uuid}/kv/key/a", value)
        cursors = f"/api/repo/{uuid}/cursors"
        assert live.ok("GET", cursors).json() == {}
        had = all_of(live, uuid, "cursor=mine")
        last = had[2]["sequence"]
        assert live.ok("POST", f"{cursors}/mine", json_body={"sequence": last}).json() == {
            "sequence": last
        }
        live.ok("POST", f"{cursors}/other", json_body={"sequence": -1})
    with run_server(Settings(data=tmp_path / "data")) as live:
        assert live.ok("GET", cursors).json() == {"mine": last, "other": -1}
        assert live.ok("GET", f"{cursors}/mine").json() == {"sequence": last}
        assert all_of(live, uuid, "cursor=mine") == had[3:]
        assert all_of(live, uuid, "cursor=other") == had
        live.ok("DELETE", f"{cursors}/mine")
        assert live.call("GET", f"{cursors}/mine").status == 404
        assert live.call("DELETE", f"{cursors}/mine").status == 404


BODIES = [
    b"", b"{}", b"[]", b'{"sequence": -2}', b'{"sequence": 1e3}', b'{"sequence": "1"}',
    b'{"sequence": 99999}', b'{"sequence": true}',
]  # fmt: skip


def test_wrong_cursors_are_refused(live: Any, root: str) -> None:
    for body in BODIES:
        assert live.call("POST", f"/api/repo/{root}/cursors/mine", body).status == 400, body
    for name in ("-x", "a/b", "x" * 101, ""):
        answer = live.call("POST", f"/api/repo/{root}/cursors/{name}", b'{"sequence": 1}')
        assert answer.status == 400, name
    assert live.ok("GET", f"/api/repo/{root}/cursors").json() == {}


WRONG = [
    "from=x", "from=-1", "from=99999", "instance=none", "type=labelmap.none", "body=0", "body=x",
    "body=18446744073709551616", "box=1,2,3", "box=0,0,0,0,1,1", "box=a,b,c,d,e,f",
]  # fmt: skip


def test_wrong_questions_are_refused(live: Any, root: str) -> None:
    for query in WRONG:
        answer = live.call("GET", f"/api/repo/{root}/events?{query}")
        assert answer.status == 400, query
        assert answer.text.strip()
    assert live.call("GET", f"/api/repo/{'0' * 32}/events").status == 400


def test_a_follower_that_does_not_read_holds_up_nobody(live: Any, root: str) -> None:
    child = child_of(live, root)
    idle = Follower(live, root, "follow=true")
    first = len(log_of(live, root))
    busy = Follower(live, root, f"follow=true&from={first}")
    value = bytes(1500)
    for _ in range(400):
        live.ok("POST", f"/api/node/{child}/kv/key/big", value)
    assert [m["sequence"] for m in busy.take(400)] == list(range(first, first + 400))
    busy.close()
    assert [m["sequence"] for m in idle.take(first + 400)] == list(range(first + 400))
    idle.close()


def test_a_hundred_followers_share_what_is_rendered(
    live: Any, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[int] = []
    render = feed_tail.message_of

    def counted(record: Any, *rest: Any) -> Any:
        rendered.append(record.offset)
        return render(record, *rest)

    monkeypatch.setattr(feed_tail, "message_of", counted)
    followers = [Follower(live, root, "from=now&follow=true") for _ in range(100)]
    child = child_of(live, root)
    first = len(log_of(live, root))
    for number in range(20):
        live.ok("POST", f"/api/node/{child}/kv/key/k", str(number).encode())
    for follower in followers:
        assert [m["sequence"] for m in follower.take(20)] == list(range(first, first + 20))
    for follower in followers:
        follower.close()
    assert sorted(rendered) == list(range(first, first + 20))


def test_a_follower_that_leaves_meanwhile_does_not_disturb_the_writer(live: Any, root: str) -> None:
    class Leaving(dict[str, Any]):
        """The last follower leaves between the question and the look."""

        def __contains__(self, key: object) -> bool:
            return True

    feed = feed_tail.Feed(live.application.ctx.server.feed._declared, live.engine.pool)
    feed._tails = Leaving()
    feed.published([live.engine.streams.get(root).repo])

    loop = asyncio.new_event_loop()
    loop.close()
    woken = feed_tail.Tail(live.engine.streams.get(root), feed._declared, live.engine.pool)
    feed._tails, feed._loop = {root: woken}, loop
    feed.published([live.engine.streams.get(root).repo])
