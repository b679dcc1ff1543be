"""neuronjson: writes, reads and queries over versions, beside a model of plain values."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvid_es.codecs import messages_pb2 as messages
from dvid_es.datatypes.neuronjson import columns, commands, endpoints, query
from dvid_es.datatypes.neuronjson.published import PUBLISHED
from dvid_es.datatypes.neuronjson.touched import TABLES
from dvid_es.events import decode
from dvid_es.http.streaming import Snapshot
from dvid_es.settings import Settings
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.neuronjson import annotation_model as model

NODE = "/api/node"
BODIES = range(1, 9)
NAMES = ["a", "b", "type", "x y", "user", "é<&>", "a_user", "a_time", "b_user", "_user"]
TEXTS = ["", "KC", "KCab", "APL", 'é\u2028\t"\\<>']
_NOW = re.compile(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def server(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = tmp_path_factory.mktemp("neuronjson") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def node(server: Live) -> str:
    return server.new_instance(server.new_repo(), "neuronjson", "n")


def put(live: Live, node: str, value: dict[str, Any], user: str = "ann", **query: Any) -> Any:
    return live.ok("POST", f"{node}/key/{value['bodyid']}", json_body=value, u=user, **query)


def get(live: Live, node: str, body: int, **query: Any) -> Any:
    return timeless(live.ok("GET", f"{node}/key/{body}", **query).json())


def timeless(value: Any) -> Any:
    """A value with the times of this run replaced."""
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items()}
    if isinstance(value, list):
        return [timeless(one) for one in value]
    return model.NOW if isinstance(value, str) and _NOW.fullmatch(value) else value


def batch(**records: Any) -> bytes:
    message = messages.KeyValues()
    for key, value in records.items():
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        message.kvs.add(key=key.removeprefix("b"), value=raw)
    return message.SerializeToString()


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


def sequence(server: Live, node: str) -> str:
    return server.ok("GET", f"{node}/info").headers["x-dvid-es-seq"]


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


# -- schemas ----------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"}, "m": {"type": ["integer", "null"]}, "s": {"pattern": "^(a+)+$"},
        "deep": {"properties": {"i": {"type": "integer"}}},
    },
}  # fmt: skip


def test_a_schema_rules_what_is_posted_and_makes_integers_of_texts(server: Live, node: str) -> None:
    server.ok("POST", f"{node}/json_schema", json_body=SCHEMA)
    put(server, node, {"bodyid": 5, "n": "-12", "m": "+3", "s": "aaa"})
    assert get(server, node, 5) == {"bodyid": 5, "m": 3, "n": -12, "s": "aaa"}
    before = sequence(server, node)
    for wrong in (
        {"n": "x"}, {"n": "1.5"}, {"n": 1.5}, {"n": "99999999999999999999"}, {"s": "b"}, {"m": []},
        {"deep": {"i": "7"}}, {"n": None}, {"s": "a" * 5000 + "b"},
    ):  # fmt: skip
        answer = server.call("POST", f"{node}/key/5", json_body={"bodyid": 5, **wrong}, u="ann")
        assert (answer.status, answer.text[:11]) == (400, "jsonschema:"), wrong
    records = batch(b5={"bodyid": 5, "a": 1}, b6={"bodyid": 6, "n": "x"})
    assert server.call("POST", f"{node}/keyvalues", records, u="ann").status == 400
    assert sequence(server, node) == before


def test_expressions_for_names_in_a_schema_take_linear_time(server: Live, node: str) -> None:
    schema = {
        "properties": {"bodyid": {}}, "additionalProperties": {"type": "string"},
        "patternProperties": {"^(x+)+$": {"type": "integer"}, "^n_": {"minimum": 5}},
        "unevaluatedProperties": False,
    }  # fmt: skip
    server.ok("POST", f"{node}/json_schema", json_body=schema)
    put(server, node, {"bodyid": 5, "xx": 1, "n_a": 7, "other": "text", "x" * 5000 + "!": "y"})
    for wrong in ({"xx": "1x"}, {"n_a": 4}, {"other": 1}, {"x" * 5000: "z"}):
        refused = server.call("POST", f"{node}/key/5", json_body={"bodyid": 5, **wrong}, u="ann")
        assert refused.status == 400, wrong
    server.ok("POST", f"{node}/json_schema", b'{"additionalProperties":false}')
    assert server.call("POST", f"{node}/key/5", b'{"bodyid":5}', u="ann").status == 400


@pytest.mark.parametrize(
    "text",
    [
        b"", b"no schema", b"[]", b"5", b'{"type":"nothing"}', b'{"$ref":"http://localhost:9/x"}',
        b'{"$ref":"#/nowhere"}', b'{"patternProperties":{"(":{}}}', b'{"pattern":"("}', b"\xff",
        b'{"properties":5}', b'{"$schema":"http://unknown/","minimum":1}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_schema_rule_nothing(server: Live, node: str, text: bytes) -> None:
    server.ok("POST", f"{node}/json_schema", text)
    assert server.ok("GET", f"{node}/json_schema").body == text
    put(server, node, {"bodyid": 5, "n": "x"})


def test_schemas_belong_to_versions(server: Live, node: str) -> None:
    root = node.split("/")[3]
    server.ok("POST", f"{node}/json_schema", json_body=SCHEMA)
    server.ok("POST", f"{node}/schema", b"x" * 5000)
    server.commit(root)
    child = f"{NODE}/{server.new_version(root)}/n"
    assert server.call("POST", f"{child}/key/5", b'{"bodyid":5,"n":"x"}', u="a").status == 400
    server.ok("DELETE", f"{child}/json_schema")
    put(server, child, {"bodyid": 5, "n": "x"})
    assert server.call("HEAD", f"{child}/json_schema").status == 404
    assert server.ok("HEAD", f"{node}/json_schema").status == 200
    assert server.ok("GET", f"{child}/key/schema").body == b"x" * 5000
    answer = server.ok("GET", f"{child}/keyvalues", b'["schema","5"]', json="true").body
    assert answer == b'{"schema":' + b"x" * 5000 + b',"5":{"bodyid":5,"n":"x"}}'
    refused = server.call("GET", f"{child}/keyvalues", b'["schema"]', json="true", check="true")
    assert refused.status == 400


def test_a_schema_that_comes_between_parsing_and_deciding_counts(
    server: Live, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, between = commands.PutRecords.decide, [True]

    def late(self: Any, context: Any) -> Any:
        seen = replace(self, schema=-1) if between else self  # as if none had been there
        return decide(seen, context)

    server.ok("POST", f"{node}/json_schema", json_body=SCHEMA)
    monkeypatch.setattr(commands.PutRecords, "decide", late)
    put(server, node, {"bodyid": 5, "n": "12"})
    assert get(server, node, 5) == {"bodyid": 5, "n": 12}
    monkeypatch.setattr(
        "dvid_es.datatypes.neuronjson.endpoints.prepare",
        lambda key, raw, schema: commands.prepare(key, raw, None),
    )
    assert server.call("POST", f"{node}/key/5", b'{"bodyid":5,"n":"x"}', u="a").status == 400


# -- versions ---------------------------------------------------------------------------------


def merged(server: Live, root: str, what: str, **more: Any) -> Any:
    """A version merge of two branches that annotated body 5 differently."""
    server.ok("POST", f"{NODE}/{root}/n/schema", b"old")
    put(server, f"{NODE}/{root}/n", {"bodyid": 4, "a": 1})
    server.commit(root)
    parents = []
    for number, name in enumerate(("a", "b")):
        body = {"branch": name}
        child = server.ok("POST", f"{NODE}/{root}/branch", json_body=body).json()["child"]
        put(server, f"{NODE}/{child}/n", {"bodyid": 5, "x": number})
        server.ok("POST", f"{NODE}/{child}/n/schema", name.encode())
        server.commit(child)
        parents.append(child)
    body = {"parents": parents, "note": "", **more}
    return server.ok("POST", f"/api/repo/{root}/{what}", json_body=body).json()


def test_a_version_merge_leaves_conflicts_until_they_are_settled(
    live: Live, tmp_path: Path
) -> None:
    root = live.new_repo()
    live.new_instance(root, "neuronjson", "n")
    made = merged(live, root, "merge", mergeType="conflict-free")
    assert made["conflicts"] == {"n": ["5", "schema"]}
    node = f"{NODE}/{made['child']}/n"
    for path in ("key/5", "schema"):
        assert live.call("GET", f"{node}/{path}").status == 400
    assert live.call("GET", f"{node}/keyvalues", b"[5]", json="true").status == 400
    assert live.call("GET", f"{node}/query", b'{"bodyid":5}').status == 400
    assert live.ok("GET", f"{node}/keys").json() == ["4"]
    assert live.ok("GET", f"{node}/query", b'{"x":"exists/1"}').json() == []
    refused = live.call("POST", f"{node}/key/5", b'{"bodyid":5,"y":1}', u="ann")
    assert (refused.status, "replace=true" in refused.text) == (400, True)
    put(live, node, {"bodyid": 5, "y": 1}, replace="true")
    live.ok("DELETE", f"{node}/schema")
    assert get(live, node, 5) == {"bodyid": 5, "y": 1}
    assert live.call("GET", f"{node}/schema").status == 404
    check_rebuilt(live, tmp_path)


def test_resolving_takes_the_annotations_of_the_first_parent(live: Live, tmp_path: Path) -> None:
    root = live.new_repo()
    live.new_instance(root, "neuronjson", "n")
    made = merged(live, root, "resolve", data=["n"])
    node = f"{NODE}/{made['child']}/n"
    assert get(live, node, 5, show="user") == {"bodyid": 5, "x": 0, "x_user": "ann"}
    assert live.ok("GET", f"{node}/schema").body == b"a"
    check_rebuilt(live, tmp_path)


def test_an_unversioned_instance_is_the_same_everywhere(server: Live) -> None:
    root = server.new_repo()
    node = server.new_instance(root, "neuronjson", "n", versioned="false")
    server.commit(root)
    child = f"{NODE}/{server.new_version(root)}/n"
    put(server, child, {"bodyid": 5, "a": 1})
    put(server, node, {"bodyid": 6, "a": 2})
    for place in (node, child):
        assert server.ok("GET", f"{place}/keys").json() == ["5", "6"]


# -- moving -----------------------------------------------------------------------------------


def test_a_list_of_objects_is_ingested_like_posts(server: Live, node: str) -> None:
    put(server, node, {"bodyid": 5, "a": 1, "b": 2})
    body = json.dumps(
        [{"bodyid": 5, "a": 3}, {"bodyid": 6, "a": 4}, {"bodyid": 5, "c": 5}]
    ).encode()
    server.ok("POST", f"{node}/ingest-neuronjson", body, u="bob")
    assert get(server, node, 5, show="user") == {
        "bodyid": 5, "a": 3, "a_user": "bob", "b": 2, "b_user": "ann", "c": 5, "c_user": "bob",
    }  # fmt: skip
    before = sequence(server, node)
    for wrong in (b"", b"{}", b'[{"bodyid":7},{"a":1}]', b'[{"bodyid":7},5]', b"[", b"[" * 9999):
        assert server.call("POST", f"{node}/ingest-neuronjson", wrong, u="bob").status == 400
    assert server.call("POST", f"{node}/ingest-neuronjson", body).status == 400
    assert sequence(server, node) == before


def test_annotations_of_a_keyvalue_instance_are_taken_over_as_they_are(
    live: Live, tmp_path: Path
) -> None:
    root = live.new_repo()
    kv = live.new_instance(root, "keyvalue", "kv")
    node = live.new_instance(root, "neuronjson", "n")
    values = {
        "5": b'{"bodyid":5, "b": 1.0, "a_user":"eve", "gone": null}', "6": b'{"a":[2, 1]}',
        "007": b"{}", "x": b"{}", "8": b"[1]", "9": b"no JSON", "0": b"{}", "schema": b"y" * 3000,
        "json_schema": b"{}", "99999999999999999999": b"{}", "7": b'{"bodyid":8}',
    }  # fmt: skip
    for key, value in values.items():
        live.ok("POST", f"{kv}/key/{key}", value)
    for number in range(2000, 3300, 50):
        live.ok("POST", f"{kv}/key/{number}", b'{"n":%d}' % number)
    told = live.ok("POST", f"{node}/import-kv/kv").json()
    assert told == {
        "imported": 3 + 26, "schemas": ["json_schema", "schema"],
        "skipped": ["0", "007", "8", "9", "99999999999999999999", "x"],
    }  # fmt: skip
    assert get(live, node, 5, show="all") == {"bodyid": 5, "b": 1, "a_user": "eve"}
    assert get(live, node, 6, show="all") == {"bodyid": 6, "a": [2, 1]}
    assert get(live, node, 7) == {"bodyid": 7}
    assert live.ok("GET", f"{node}/schema").body == b"y" * 3000
    assert live.ok("GET", f"{node}/query", b'{"n":2050}', onlyid="true").json() == [2050]
    before = sequence(live, node)
    for path, more in (("none", {}), ("n", {}), ("kv", {"dryrun": "true"}), ("", {})):
        assert live.call("POST", f"{node}/import-kv/{path}", **more).status == 400
    assert sequence(live, node) == before
    live.ok("DELETE", f"{kv}/key/schema")
    live.ok("DELETE", f"{kv}/key/json_schema")
    before = int(sequence(live, node))
    live.ok("POST", f"{node}/import-kv/kv")
    assert int(sequence(live, node)) == before
    check_rebuilt(live, tmp_path)


def test_changes_are_told_by_version(server: Live, node: str) -> None:
    root = node.split("/")[3]
    assert server.ok("GET", f"{node}/version-changes").json() == {}
    for value in (1, 2):
        put(server, node, {"bodyid": 5, "a": value})
    put(server, node, {"bodyid": 6, "a": 1})
    put(server, node, {"bodyid": 7, "a": 1})
    server.ok("DELETE", f"{node}/key/7")
    server.commit(root)
    child = server.new_version(root)
    below = f"{NODE}/{child}/n"
    then = sequence(server, node)
    server.ok("DELETE", f"{below}/key/5")
    put(server, below, {"bodyid": 6, "b": 1}, replace="true")
    told = timeless(server.ok("GET", f"{node}/version-changes").json())
    fields = {"a_user": "ann", "a_time": model.NOW}
    first = [
        {"bodyid": 5, "a": 2, **fields}, {"bodyid": 6, "a": 1, **fields},
        {"bodyid": 7, "tombstone": True},
    ]  # fmt: skip
    second = [
        {"bodyid": 5, "tombstone": True},
        {"bodyid": 6, "b": 1, "b_user": "ann", "b_time": model.NOW},
    ]
    assert told == {root: first, child: second}
    assert timeless(server.ok("GET", f"{below}/version-changes", at=then).json()) == {root: first}


# -- refusals ---------------------------------------------------------------------------------

GOOD = b'{"bodyid":5,"a":2}'
BAD: list[tuple[str, str, bytes | None]] = [
    ("POST", "key/5", GOOD), ("POST", "key/5?u=", GOOD), ("POST", "key/6?u=a", GOOD),
    ("POST", "key/0?u=a", b'{"bodyid":0}'), ("POST", "key/x?u=a", GOOD), ("POST", "key?u=a", GOOD),
    ("POST", "key/5?u=a", b""), ("POST", "key/5?u=a", b"[]"), ("POST", "key/5?u=a", b"null"),
    ("POST", "key/5?u=a", b'{"bodyid":5,'), ("POST", "key/5?u=a", b'{"a":1}'),
    ("POST", "key/5?u=a", b'{"bodyid":null}'), ("POST", "key/5?u=a", b'{"bodyid":"5"}'),
    ("POST", "key/5?u=a", b'{"bodyid":5.0}'), ("POST", "key/5?u=a", b'{"bodyid":true}'),
    ("POST", "key/5?u=a", b'{"bodyid":-5}'), ("POST", "key/5?u=a", b'{"bodyid":5,"a":NaN}'),
    ("POST", "key/5?u=a", b'{"bodyid":5,"bodyid_user":"x"}'), ("POST", "key/5?u=a", b"\xff"),
    ("POST", "key/5?u=a", b'{"bodyid":5,"bodyid_time":null}'),
    ("POST", "key/5?u=a", b'{"bodyid":5,"a":' + b"[" * 150 + b"]" * 150 + b"}"),
    ("POST", "key/5?u=a", b'{"bodyid":5,"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
    ("PUT", "key/5?u=a", GOOD), ("GET", "key/x", None), ("HEAD", "key/x", None), ("GET", "key", None),
    ("DELETE", "key/x", None), ("DELETE", "key/-1", None), ("PUT", "schema", b"x"),
    ("POST", "key/schema", b"x"), ("PUT", "keyvalues?u=a", b""), ("HEAD", "keyvalues", None),
    ("POST", "keyvalues", batch(b5=GOOD)), ("POST", "keyvalues?u=a", b"garbage"),
    ("POST", "keyvalues?u=a", batch(b5=GOOD, b6=GOOD)), ("POST", "keyvalues?u=a", batch(bx=GOOD)),
    ("POST", "keyvalues?u=a", batch(b5=GOOD, bschema=b"x")),
    ("GET", "keyvalues?json=true", b"{}"), ("GET", "keyvalues?json=true", b'[1,"2"]'),
    ("GET", "keyvalues?json=true", b'["x"]'), ("GET", "keyvalues?json=true", b"[1.5]"),
    ("GET", "keyvalues?json=true", b"[-1]"), ("GET", "keyvalues?json=true", b""),
    ("GET", "keyvalues?tar=true", b"[5]"), ("GET", "keyvalues?json=true&tar=true", b"[5]"),
    ("GET", "keyvalues", b"garbage"), ("GET", "keyrange/1", None), ("GET", "keyrange/1x/2", None),
    ("GET", "keyrangevalues/1", None), ("GET", "keyrangevalues/1/2?json=true&jsontar=true", None),
    ("GET", "keyrange/18446744073709551616/z", None), ("GET", "query", b""), ("GET", "query", b"[]"),
    ("GET", "query", b"5"), ("GET", "query", b"[5]"), ("GET", "query", b"null"),
    ("GET", "query", b'{"a":'), ("PUT", "query", b'{"a":1}'), ("HEAD", "query", None),
    ("GET", "nothing", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def some(server: Live) -> str:
    node = server.new_instance(server.new_repo(), "neuronjson", "n")
    put(server, node, {"bodyid": 5, "a": 1})
    return node


@pytest.mark.parametrize(("method", "path", "body"), BAD)
def test_bad_requests_change_nothing(
    server: Live, some: str, method: str, path: str, body: bytes | None
) -> None:
    before = sequence(server, some)
    answer = server.call(method, f"{some}/{path}", body)
    assert answer.status == 400, answer
    assert sequence(server, some) == before
    assert get(server, some, 5, show="all")["a"] == 1


def test_queries_that_find_nothing_are_no_errors(server: Live, some: str) -> None:
    for asked in (
        '{"a":[1,"x"]}', '{"a":["x",1]}', '{"a":[true]}', '{"a":[[1]]}', '{"a":{}}', '{"a":[]}',
        '{"a":null}', '{"a":1.5}', '{"a":"re/("}', '{"a":"re/' + "x" * 20_000 + '"}', "{}",
        '{"a":"re/(?=x)"}', '{"a":"re/' + "(a{1,999}){1,999}" * 3 + '"}', '{"bodyid":[-5,0]}',
    ):  # fmt: skip
        assert server.ok("GET", f"{some}/query", asked.encode()).json() == [], asked


def test_hostile_expressions_take_linear_time(server: Live, node: str) -> None:
    put(server, node, {"bodyid": 5, "a": "a" * 50_000})
    found = server.ok("GET", f"{node}/query", b'{"a":"re/^(a+)+$"}', onlyid="true").json()
    assert found == [5]
    assert server.ok("GET", f"{node}/query", b'{"a":"re/^(a+)+b$"}').json() == []


def test_locked_versions_take_queries_and_no_writes(server: Live) -> None:
    root = server.new_repo()
    node = server.new_instance(root, "neuronjson", "n")
    put(server, node, {"bodyid": 5, "a": 1})
    server.commit(root)
    before = sequence(server, node)
    for method, path, body in (
        ("POST", "key/5?u=a", GOOD), ("DELETE", "key/5", None), ("POST", "schema", b"x"),
        ("POST", "keyvalues?u=a", batch(b5=GOOD)), ("DELETE", "json_schema", None),
    ):  # fmt: skip
        assert server.call(method, f"{node}/{path}", body).status == 400
    assert sequence(server, node) == before
    assert server.ok("POST", f"{node}/query", b'{"a":1}', onlyid="true").json() == [5]


# -- what others hear -------------------------------------------------------------------------


def test_the_feed_and_tables_tell_of_bodies_and_fields(server: Live) -> None:
    root = server.new_repo()
    node = server.new_instance(root, "neuronjson", "n")
    put(server, node, {"bodyid": 5, "a": 1, "b": 2})
    put(server, node, {"bodyid": 5, "a": 1, "b": None})
    server.ok("POST", f"{node}/keyvalues", batch(b6={"bodyid": 6}, b7={"bodyid": 7}), u="bob")
    server.ok("DELETE", f"{node}/key/6")
    path = f"/api/repo/{root}/events?instance=n"
    lines = server.ok("GET", path, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    told = [json.loads(line) for line in lines if '"neuronjson.' in line]
    assert [(one["type"], one["labels"]) for one in told] == [
        ("neuronjson.put", {"annotated": [5]}),
        ("neuronjson.put", {"annotated": [5]}),
        ("neuronjson.put", {"annotated": [6, 7]}),
        ("neuronjson.deleted", {"deleted": [6]}),
    ]
    assert [one["data"].get("changed") for one in told] == [
        [["a", "b", "bodyid"]],
        [["b"]],
        [["bodyid"], ["bodyid"]],
        None,
    ]
    engine = server.engine
    stream, repo, _ = engine.resolve(root)
    with engine.store.read(root, stream.packs) as txn:
        (page,) = TABLES["annotations"].read(txn, repo.names["n"], txn.view(1))
        assert page[0].tolist() == [5, 7]
        assert json.loads(page[1][0])["b_user"] == "ann"


def test_kafka_hears_of_posts_as_dvid_tells_them(live: Live) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "neuronjson", "n", versioned="false")
    put(live, node, {"bodyid": 5, "a": 1})
    live.ok("POST", f"{node}/key/schema", b"xyz", u="ann")
    live.ok("POST", f"{node}/json_schema", b"{}")
    live.commit(root)
    child = live.new_version(root)
    below = f"{NODE}/{child}/n"
    live.ok("POST", f"{below}/keyvalues", batch(b6=b'{"bodyid":6}', b7=b'{ "bodyid":7}'), u="bob")
    live.ok("DELETE", f"{below}/key/6")
    stream, _, _ = live.engine.resolve(root)
    told = []
    with live.engine.store.read(root, stream.packs) as txn:
        for one in stream.log.read():
            record = decode(*one)
            tell = PUBLISHED.get(type(record.event))
            told += [json.loads(text) for text in tell(record, txn)] if tell else []
    times = [message.pop("Timestamp") for message in told]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d [\d:.]+ .\d{4} \S+.*", time) for time in times)
    assert told == [
        {"Action": "postneuronjson", "Key": "5", "Bytes": 21, "UUID": root},
        {"Action": "postneuronjson", "Key": "schema", "Bytes": 3, "UUID": root},
        {"Action": "ingestneuronjson", "Key": "6", "Bytes": 12, "UUID": child},
        {"Action": "ingestneuronjson", "Key": "7", "Bytes": 13, "UUID": child},
    ]
