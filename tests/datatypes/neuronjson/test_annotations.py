"""neuronjson: writes, reads and queries over versions, beside a model of plain values."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dvid_es.codecs import messages_pb2 as messages
from dvid_es.datatypes.neuronjson import columns, commands, endpoints, query
from dvid_es.http.streaming import Snapshot
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.neuronjson import annotation_model as model
from tests.datatypes.neuronjson.annotation_requests import NODE, batch, get, put, sequence, timeless

BODIES = range(1, 9)
NAMES = ["a", "b", "type", "x y", "user", "é<&>", "a_user", "a_time", "b_user", "_user"]
TEXTS = ["", "KC", "KCab", "APL", 'é\u2028\t"\\<>']


class Walk:
    """Random writes over versions, beside what must come of them."""

    def __init__(self, live: Live, seed: int) -> None:
        self.live = live
        self.dice = random.Random(seed)
        self.root = live.new_repo()
        live.new_instance(self.root, "neuronjson", "n")
        self.records: dict[str, dict[int, dict[str, Any]]] = {self.root: {}}
        self.open = [self.root]
        self.past: dict[str, list[tuple[str, dict[int, dict[str, Any]]]]] = {}

    def value(self) -> Any:
        dice = self.dice
        return dice.choice(
            [
                None, dice.randrange(5), dice.randrange(5), dice.choice(TEXTS), dice.choice(TEXTS),
                2**64 - 1, -(2**63), 2**53 + 1, 0.5, 3.0, -2.25, 1e21, True, False,
                [dice.randrange(5) for _ in range(dice.randrange(3))], [2**64 - 1, 5],
                [dice.choice(TEXTS) for _ in range(dice.randrange(1, 3))], [1, "a"], [0.5, 2],
                {"k": [1, {"z": None}], "b": 2**60 + 1}, [[1], []],
            ]
        )  # fmt: skip

    def posting(self, body: int) -> dict[str, Any]:
        dice = self.dice
        found: dict[str, Any] = {"bodyid": body}
        for name in dice.sample(NAMES, dice.randrange(4)):
            metas = [None, "eve", "2001-02-03T04:05:06Z", ""]
            found[name] = dice.choice(metas) if model.is_meta(name) else self.value()
        return found

    def step(self) -> None:
        uuid = self.dice.choice(self.open)
        kinds = [self.post] * 8 + [self.batch, self.delete, self.version]
        self.dice.choice(kinds)(uuid, f"{NODE}/{uuid}/n", self.records[uuid])

    def how(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Options of a request, and the same for the model."""
        query, told = {"u": self.dice.choice(["ann", "bob"])}, dict[str, Any]()
        if self.dice.random() < 0.25:
            query["replace"], told["replace"] = "true", True
        if self.dice.random() < 0.3:
            names = self.dice.choice(["a", "a,b", "type,a_user", "a_time,x y"])
            query[self.dice.choice(["conditional", "conditionals"])] = names
            told["conditional"] = tuple(names.split(","))
        return query, told

    def post(self, uuid: str, node: str, records: dict[int, dict[str, Any]]) -> None:
        body = self.dice.choice(BODIES)
        new, (query, told) = self.posting(body), self.how()
        self.live.ok("POST", f"{node}/key/{body}", json_body=new, **query)
        records[body] = model.posted(records.get(body), new, query["u"], **told)

    def batch(self, uuid: str, node: str, records: dict[int, dict[str, Any]]) -> None:
        some = [self.posting(self.dice.choice(BODIES)) for _ in range(4)]  # also twice the same
        message, (query, told) = messages.KeyValues(), self.how()
        for new in some:
            message.kvs.add(key=str(new["bodyid"]), value=json.dumps(new).encode())
            body = new["bodyid"]
            records[body] = model.posted(records.get(body), new, query["u"], **told)
        self.live.ok("POST", f"{node}/keyvalues", message.SerializeToString(), **query)

    def delete(self, uuid: str, node: str, records: dict[int, dict[str, Any]]) -> None:
        body = self.dice.choice(BODIES)
        self.live.ok("DELETE", f"{node}/key/{body}")
        records.pop(body, None)

    def version(self, uuid: str, node: str, records: dict[int, dict[str, Any]]) -> None:
        if len(self.records) < 5:
            self.live.commit(uuid)
            self.open.remove(uuid)
            for number in range(2):
                body = {"branch": f"b{len(self.records)}-{number}"}
                child = self.live.ok("POST", f"{NODE}/{uuid}/branch", json_body=body).json()
                self.records[child["child"]] = dict(records)
                self.open.append(child["child"])

    def check(self) -> None:
        for uuid, records in self.records.items():
            node, bodies = f"{NODE}/{uuid}/n", sorted(records)
            assert self.ask(node, "keys") == [str(body) for body in bodies]
            for body in BODIES:
                answer = self.live.call("GET", f"{node}/key/{body}", show="all")
                found = timeless(answer.json()) if answer.status == 200 else None
                assert exact(found) == exact(records.get(body)), uuid
            counts: dict[str, int] = {}
            for record in records.values():
                for name in record:
                    counts[name] = counts.get(name, 0) + 1
            self.check_counts(node, counts)
            for _ in range(4):
                self.check_shown(node, records)
                self.check_query(node, records)

    def ask(self, node: str, path: str, **query: Any) -> Any:
        return timeless(self.live.ok("GET", f"{node}/{path}", **query).json())

    def check_shown(self, node: str, records: dict[int, dict[str, Any]]) -> None:
        how = {
            "show": self.dice.choice(["", "user", "time", "all"]),
            "fields": self.dice.choice(["", "a", "type,b", "bodyid,a", "a_user,x y", "user"]),
        }
        wanted = {body: model.shown(record, **how) for body, record in sorted(records.items())}
        assert self.ask(node, "all", **how) == [one for one in wanted.values() if len(one) > 1]
        first, last = sorted(self.dice.sample(range(10), 2))
        found = self.ask(node, f"keyrangevalues/{first}/{last}", json="true", **how)
        assert found == {str(b): one for b, one in wanted.items() if first <= b <= last}

    def check_query(self, node: str, records: dict[int, dict[str, Any]]) -> None:
        self.remember(node, records)
        queries = [self.query() for _ in range(self.dice.choice((1, 1, 2)))]
        body = json.dumps(queries if len(queries) > 1 else queries[0]).encode()
        found = self.live.ok("GET", f"{node}/query", body, onlyid="true").json()
        wanted = [
            one for one in sorted(records)
            if any(model.matches(query, records[one]) for query in queries)
        ]  # fmt: skip
        assert found == wanted, queries
        whole = self.live.ok("POST", f"{node}/query", body, show="all").json()
        assert timeless(whole) == [records[one] for one in wanted]
        at, past = self.dice.choice(self.past[node])
        found = self.live.ok("GET", f"{node}/query", body, at=at, show="all").json()
        assert timeless(found) == [
            past[one] for one in sorted(past)
            if any(model.matches(query, past[one]) for query in queries)
        ]  # fmt: skip

    def check_counts(self, node: str, counts: dict[str, int]) -> None:
        assert self.ask(node, "fields", counts="true") == counts
        assert self.ask(node, "fields") == sorted(counts)

    def remember(self, node: str, records: dict[int, dict[str, Any]]) -> None:
        sequence = self.live.ok("GET", f"{node}/info").headers["x-dvid-es-seq"]
        self.past.setdefault(node, []).append((sequence, dict(records)))

    def query(self) -> dict[str, Any]:
        dice = self.dice
        values = [
            lambda: dice.randrange(5), lambda: [dice.randrange(5), 2**64 - 1], lambda: 0.5,
            lambda: [0.5, -2.25, 2.0], lambda: dice.choice(TEXTS), lambda: dice.sample(TEXTS, 2),
            lambda: "re/" + dice.choice(["K", "^KC$", "[a-z]", "^$", "B|L", "é"]), lambda: 3,
            lambda: ["re/^K", "APL"], lambda: "exists/0", lambda: "exists/1", lambda: "ann",
        ]  # fmt: skip
        names = dice.sample(["a", "b", "type", "x y", "user", "a_user", "b_user"], 1)
        if dice.random() < 0.3:
            names.append("é<&>")
        return {name: dice.choice(values)() for name in names}


def exact(value: Any) -> Any:
    """A text in which true is not 1, and a whole float is a whole number."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(6))
def test_every_read_follows_random_writes_over_versions(
    live: Live, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 3:  # tables are made, and brought up to what is read, all the time
        monkeypatch.setattr(columns, "DIRECT_MAX", seed)
        monkeypatch.setattr(columns, "ADVANCE_MIN", seed % 2 + 1)
        monkeypatch.setattr(columns, "COLUMNS_MAX", 2)
        monkeypatch.setattr(columns, "COLUMN_BYTES_MAX", (200, 400, 10_000)[seed % 3])
    walk = Walk(live, seed)
    for number in range(90):
        walk.step()
        if number % 30 == 29:
            walk.check()
    assert len(walk.records) > 1
    check_rebuilt(live, tmp_path)


def test_many_annotations_come_in_every_format_across_pages(server: Live, node: str) -> None:
    records = {body: {"bodyid": body, "type": f"T{body % 7}", "n": body} for body in range(1, 2502)}
    some = {f"b{body}": record for body, record in records.items()}
    server.ok("POST", f"{node}/keyvalues", batch(**some), u="ann")
    assert server.ok("GET", f"{node}/keys").json() == [str(body) for body in records]
    assert server.ok("GET", f"{node}/all").json() == list(records.values())
    assert server.ok("GET", f"{node}/all", fields="bodyid").json()[-1] == {"bodyid": 2501}
    packed = server.ok("GET", f"{node}/all", headers={"Accept-Encoding": "gzip, deflate"})
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == list(records.values())
    found = server.ok("GET", f"{node}/query", b'{"type":"T3"}', onlyid="true").json()
    assert found == [body for body in records if body % 7 == 3]
    asked = [2501, 7, 9999, 7]
    answer = server.ok("GET", f"{node}/keyvalues", json_body=asked, json="true")
    assert answer.body.startswith(b'{"2501":{')
    assert answer.body.count(b'"7":') == 2
    archive = server.ok("GET", f"{node}/keyvalues", b'["7","9999"]', jsontar="true").body
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert [(one.name, one.size > 0) for one in members] == [("7", True), ("9999", False)]
    message = messages.Keys(keys=["9999", "7"]).SerializeToString()
    found = messages.KeyValues.FromString(server.ok("GET", f"{node}/keyvalues", message).body)
    assert [(one.key, bool(one.value)) for one in found.kvs] == [("9999", False), ("7", True)]
    ranged = server.ok("GET", f"{node}/keyrangevalues/2499/z").body
    assert [one.key for one in messages.KeyValues.FromString(ranged).kvs] == [
        "2499",
        "2500",
        "2501",
    ]
    assert server.ok("GET", f"{node}/fields", counts="true").json()["n"] == 2501


def test_a_batch_of_large_annotations_is_several_events_but_one_write(
    server: Live, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "EVENT_BYTES", 4000)
    records = {f"b{body}": {"bodyid": body, "text": "x" * 1500} for body in range(1, 8)}
    before = sequence(server, node)
    dry = server.ok("POST", f"{node}/keyvalues", batch(**records), u="ann", dryrun="true").json()
    assert sequence(server, node) == before
    assert len(dry["events"]) == 4
    server.ok("POST", f"{node}/keyvalues", batch(**records), u="ann")
    assert int(sequence(server, node)) == int(before) + 4
    assert len(server.ok("GET", f"{node}/keys").json()) == 7
    monkeypatch.setattr(commands, "RECORD_BYTES_MAX", 1000)
    refused = server.call("POST", f"{node}/key/9", b'{"bodyid":9,"t":"' + b"x" * 999 + b'"}', u="a")
    assert refused.status == 400


def test_writing_what_is_there_already_writes_nothing(server: Live, node: str) -> None:
    put(server, node, {"bodyid": 5, "a": [1, 2], "b": {"c": 1.5}})
    before = sequence(server, node)
    put(server, node, {"bodyid": 5, "b": {"c": 1.5}}, user="bob")
    put(server, node, {"bodyid": 5, "a": 3}, user="bob", conditional="a")
    server.ok("DELETE", f"{node}/key/6")
    server.ok("DELETE", f"{node}/schema")
    server.ok("POST", f"{node}/keyvalues", b"", u="bob")
    assert sequence(server, node) == before
    assert get(server, node, 5, show="user") == {
        "a": [1, 2], "a_user": "ann", "b": {"c": 1.5}, "b_user": "ann", "bodyid": 5,
    }  # fmt: skip


def test_numbers_of_64_bits_stay_exact_wherever_they_are(server: Live, node: str) -> None:
    text = (
        '{"bodyid":18446744073709551615,"deep":{"a":[18446744073709551615,1]},'
        '"ints":[9007199254740993],"most":18446744073709551615}'
    )
    server.ok("POST", f"{node}/key/18446744073709551615", text.encode(), u="ann")
    assert server.ok("GET", f"{node}/key/18446744073709551615").text == text
    assert server.ok("GET", f"{node}/keyrange/5/z").json() == ["18446744073709551615"]
    for number in (b"1e400", b"1" + b"0" * 400):
        refused = server.call("POST", f"{node}/key/7", b'{"bodyid":7,"n":%s}' % number, u="ann")
        assert refused.status == 400


def test_earlier_moments_show_earlier_annotations(server: Live, node: str) -> None:
    put(server, node, {"bodyid": 5, "a": 1})
    then = sequence(server, node)
    put(server, node, {"bodyid": 5, "a": 2})
    put(server, node, {"bodyid": 6, "a": 1})
    assert get(server, node, 5, at=then) == {"a": 1, "bodyid": 5}
    assert server.ok("GET", f"{node}/keys", at=then).json() == ["5"]
    assert server.ok("GET", f"{node}/query", b'{"a":1}', at=then, onlyid="true").json() == [5]
    assert server.ok("GET", f"{node}/query", b'{"a":1}', onlyid="true").json() == [6]
    assert server.ok("GET", f"{node}/fields", at=then, counts="true").json()["a"] == 1


def test_what_comes_between_working_out_and_deciding_is_not_lost(
    server: Live, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_out, still_so, taken = endpoints.work_out, commands._still_so, list[bool]()
    between: list[dict[str, Any]] = []

    def interrupted(*words: Any) -> Any:
        worked = work_out(*words)
        for value in between:
            put(server, node, value, user="eve")
        return worked

    def noted(*words: Any) -> bool:
        taken.append(still_so(*words))
        return taken[-1]

    monkeypatch.setattr(endpoints, "work_out", interrupted)
    monkeypatch.setattr(commands, "_still_so", noted)
    records = {f"b{body}": {"bodyid": body, "a": 1} for body in (5, 6, 7)}
    server.ok("POST", f"{node}/keyvalues", batch(**records), u="bob")
    assert taken == [True]
    between += [{"bodyid": 6, "b": 2}, {"bodyid": 8, "b": 2}]
    records = {f"b{body}": {"bodyid": body, "c": 3} for body in (5, 6, 7, 8)}
    server.ok("POST", f"{node}/keyvalues", batch(**records), u="bob")
    assert taken == [True, False]
    assert get(server, node, 6, show="user") == {
        "bodyid": 6, "a": 1, "a_user": "bob", "b": 2, "b_user": "eve", "c": 3, "c_user": "bob",
    }  # fmt: skip
    assert get(server, node, 8) == {"bodyid": 8, "b": 2, "c": 3}
    assert get(server, node, 5) == {"bodyid": 5, "a": 1, "c": 3}


def test_field_times_are_the_newest_at_any_version(server: Live, node: str) -> None:
    put(server, node, {"bodyid": 5, "a": 1, "a_time": "2001-01-01T00:00:00Z"})
    put(server, node, {"bodyid": 6, "a": 1, "a_time": "2002-01-01T00:00:00Z", "b": 1})
    put(server, node, {"bodyid": 7, "a": 1, "a_time": 2003})
    times = server.ok("GET", f"{node}/fieldtimes").json()
    assert timeless(times) == {"a": "2002-01-01T00:00:00Z", "b": model.NOW}
    server.ok("DELETE", f"{node}/key/6")
    assert server.ok("GET", f"{node}/fieldtimes").json() == {"a": "2001-01-01T00:00:00Z"}


def test_concurrent_posts_to_one_body_lose_no_field(server: Live, node: str) -> None:
    def post(number: int) -> None:
        put(server, node, {"bodyid": 5, f"f{number}": number}, user=f"u{number}")
        assert server.ok("GET", f"{node}/query", b'{"bodyid":"exists/1"}').status == 200

    threads = [threading.Thread(target=post, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = get(server, node, 5, show="user")
    assert {found[f"f{n}_user"] for n in range(24)} == {f"u{n}" for n in range(24)}


def test_queries_beside_writes_see_one_moment(
    server: Live, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "DIRECT_MAX", 3)
    monkeypatch.setattr(columns, "ADVANCE_MIN", 2)
    some = {f"b{body}": {"bodyid": body, "side": "L", "other": "R"} for body in range(1, 21)}
    server.ok("POST", f"{node}/keyvalues", batch(**some), u="ann")
    last: dict[int, str] = {}

    def write(client: int) -> None:
        dice = random.Random(client)
        for _ in range(40):
            body, side = 5 * client + dice.randrange(1, 6), dice.choice("LR")
            other = "LR".replace(side, "")
            put(server, node, {"bodyid": body, "side": side, "other": other})
            last[body] = side

    def ask(number: int) -> None:
        both = json.dumps([{"side": "L", "other": "R"}, {"side": "R", "other": "L"}]).encode()
        for turn in range(40):
            field = json.dumps({f"new{number}{turn % 9}": "exists/0"}).encode()
            for body in (both, field):
                found = server.ok("GET", f"{node}/query", body, onlyid="true").json()
                assert found == list(range(1, 21))

    failed: list[BaseException] = []

    def run(work: Any, number: int) -> None:
        try:
            work(number)
        except BaseException as problem:
            failed.append(problem)

    threads = [
        threading.Thread(target=run, args=(work, number))
        for number in range(4)
        for work in ((write, ask) if number < 3 else (write,))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    left = server.ok("GET", f"{node}/query", b'{"side":"L"}', onlyid="true").json()
    assert left == [body for body in range(1, 21) if last.get(body, "L") == "L"]


def test_tables_are_made_in_a_transaction_that_sees_all_of_the_others(live: Live) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "neuronjson", "n")
    put(live, node, {"bodyid": 5, "a": 1})
    stream, repo, _ = live.engine.resolve(root)
    asked = columns.Columns(repo.names["n"].id)
    opened = []

    @contextmanager
    def opening() -> Iterator[Any]:
        opened.append(asked._lock.locked())
        with live.engine.store.read(root, stream.packs) as txn:
            yield txn

    with live.engine.store.read(root, stream.packs) as txn:
        view = txn.view(1).at(int(sequence(live, node)))
    snapshot = Snapshot(opening, view)
    found = asked.matching(snapshot, query.parse(b'{"a":1}'))
    assert found is not None
    assert found.tolist() == [5]
    assert asked.field_counts(snapshot) == {"a": 1, "a_time": 1, "a_user": 1, "bodyid": 1}
    assert opened == [True, True]
