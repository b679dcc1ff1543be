from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvid_es.datatypes.neuronjson import commands
from dvid_es.datatypes.neuronjson.published import PUBLISHED
from dvid_es.datatypes.neuronjson.touched import TABLES
from dvid_es.events import decode
from tests.conftest import Live
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.neuronjson import annotation_model as model
from tests.datatypes.neuronjson.annotation_requests import NODE, batch, get, put, sequence, timeless

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
