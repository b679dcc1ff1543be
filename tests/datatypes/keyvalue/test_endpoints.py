from __future__ import annotations

import io
import json
import random
import tarfile
import threading
from typing import Any
from urllib.parse import quote

import pytest

from dvid_es.codecs import messages_pb2 as messages
from dvid_es.settings import Settings


@pytest.fixture(scope="module")
def server(run_server, tmp_path_factory) -> Any:
    data = tmp_path_factory.mktemp("keyvalue") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as live:
        yield live


@pytest.fixture
def root(server) -> str:
    return server.new_repo()


@pytest.fixture
def kv(server, root) -> str:
    return server.new_instance(root, "keyvalue", "kv")


def put(server, kv: str, key: str, value: bytes, **more: Any) -> Any:
    return server.ok("POST", f"{kv}/key/{quote(key, safe='')}", value, **more)


def get(server, kv: str, key: str, **more: Any) -> Any:
    return server.call("GET", f"{kv}/key/{quote(key, safe='')}", **more)


def pairs(**values: bytes) -> bytes:
    message = messages.KeyValues()
    for key, value in values.items():
        message.kvs.add(key=key, value=value)
    return message.SerializeToString()


def test_values_come_back_whatever_their_size(server, kv):
    rnd = random.Random(3)
    for size in (0, 1, 1799, 1800, 1801, 70_000, 256 * 1024 + 1, 3_000_000):
        value = rnd.randbytes(size)
        put(server, kv, "k", value)
        answer = get(server, kv, "k")
        assert answer.status == 200
        assert answer.body == value
        assert answer.headers["content-length"] == str(size)
        assert answer.headers["content-type"] == "application/octet-stream"
        head = server.call("HEAD", f"{kv}/key/k")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))


def test_equal_values_are_stored_once(server, root, kv):
    value = random.Random(4).randbytes(100_000)
    put(server, kv, "a", value)
    before = server.ok("GET", "/api/storage", admintoken="secret").json()["repositories"][root]
    for key in "bcd":
        put(server, kv, key, value)
    after = server.ok("GET", "/api/storage", admintoken="secret").json()["repositories"][root]
    assert after["pack bytes"] == before["pack bytes"]
    assert after["instances"]["kv"]["rows"] > before["instances"]["kv"]["rows"]


def test_a_missing_key_is_404_before_anything_else_is_looked_at(server, kv):
    answer = server.call("GET", f"{kv}/key/none?byte_start=x", headers={"Range": "bytes=0-"})
    assert (answer.status, answer.body) == (404, b'Key "none" not found\n')
    assert server.call("HEAD", f"{kv}/key/none").status == 404
    assert server.call("GET", f"{kv}/key/").status == 400


def test_an_empty_value_is_found_and_empty(server, kv):
    put(server, kv, "empty", b"")
    answer = get(server, kv, "empty")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    ranged = get(server, kv, "empty", headers={"Range": "bytes=0-1"})
    assert (ranged.status, ranged.headers["content-range"]) == (416, "bytes */0")


def test_each_version_sees_its_own_values(server, root, kv):
    put(server, kv, "k", b"v1")
    server.commit(root)
    child = server.new_version(root)
    there = f"/api/node/{child}/kv"
    put(server, there, "k", b"v2")
    assert (get(server, kv, "k").body, get(server, there, "k").body) == (b"v1", b"v2")
    server.ok("DELETE", f"{there}/key/k")
    assert get(server, there, "k").status == 404
    assert get(server, kv, "k").body == b"v1"
    assert server.ok("GET", f"{there}/keys").json() == []
    refused = server.call("POST", f"{kv}/key/k", b"late")
    assert refused.status == 400
    assert b"locked node" in refused.body


def test_a_batch_is_one_event(server, kv):
    before = int(put(server, kv, "first", b"").headers["x-dvid-es-seq"])
    body = pairs(a=b"1", b=b"2" * 1000, c=b"")
    answer = server.ok("POST", f"{kv}/keyvalues", body)
    assert int(answer.headers["x-dvid-es-seq"]) == before + 1
    assert get(server, kv, "b").body == b"2" * 1000


def test_a_refused_batch_leaves_nothing(server, kv):
    message = messages.KeyValues()
    message.kvs.add(key="good", value=b"1")
    message.kvs.add(key="", value=b"no name")
    assert server.call("POST", f"{kv}/keyvalues", message.SerializeToString()).status == 400
    too_long = messages.KeyValues()
    too_long.kvs.add(key="good", value=b"1")
    too_long.kvs.add(key="x" * 65_001, value=b"1")
    assert server.call("POST", f"{kv}/keyvalues", too_long.SerializeToString()).status == 400
    assert server.call("POST", f"{kv}/keyvalues", b"\xff\xff").status == 400
    assert server.ok("GET", f"{kv}/keys").json() == []


def test_batches_answer_in_the_order_asked_for_in_three_forms(server, kv):
    server.ok("POST", f"{kv}/keyvalues", pairs(a=b"[1]", b=b'{"x": 2}', c=b"9" * 2000))
    wanted = ["b", "none", "a", "b"]
    text = server.ok("GET", f"{kv}/keyvalues?json=true", json_body=wanted).text
    assert text == '{"b":{"x": 2},"none":{},"a":[1],"b":{"x": 2}}'
    packed = server.ok("GET", f"{kv}/keyvalues?tar=true", json_body=["c", "none", "a"])
    assert packed.headers["content-type"] == "application/tar"
    with tarfile.open(fileobj=io.BytesIO(packed.body)) as tar:
        assert [(item.name, item.size, item.mode) for item in tar] == [
            ("c", 2000, 0o755),
            ("none", 0, 0o755),
            ("a", 3, 0o755),
        ]
    asked = messages.Keys(keys=wanted)
    asked.key_ranges.add(key="c", byte_start=1, byte_end=2)
    answer = server.ok("GET", f"{kv}/keyvalues", asked.SerializeToString())
    found = messages.KeyValues.FromString(answer.body)
    assert [(pair.key, pair.value) for pair in found.kvs] == [
        ("b", b'{"x": 2}'),
        ("none", b""),
        ("a", b"[1]"),
        ("b", b'{"x": 2}'),
        ("c", b"99"),
    ]


def test_a_value_that_is_no_json_spoils_no_answer_under_check(server, kv):
    for number in range(400):
        put(server, kv, f"k{number:03}", b'"%s"' % (b"x" * 1000))
    put(server, kv, "k999", b"not json")
    for query in ("NaN", "[1,]", '{"a":1} x'):
        put(server, kv, "k998", query.encode())
        answer = server.call("GET", f"{kv}/keyrangevalues/k0/k9981?json=true&check=true")
        assert answer.status == 400
        assert b"k998" in answer.body
    answer = server.call("GET", f"{kv}/keyvalues?json=true&check=true", json_body=["k000", "k999"])
    assert answer.status == 400
    body = server.ok("GET", f"{kv}/keyrangevalues/k0/k9?json=true&check=true").json()
    assert len(body) == 400


def test_keys_are_escaped_in_json(server, kv):
    names = ['say "hi"', "back\\slash", "new\nline", "<b>&", "世界"]
    for name in names:
        put(server, kv, name, b"1")
    answer = server.ok("GET", f"{kv}/keyrangevalues/%20/%F4%8F%BF%BF?json=true").json()
    assert answer == dict.fromkeys(names, 1)
    assert server.ok("GET", f"{kv}/keys").json() == sorted(names, key=str.encode)


def test_long_answers_are_streamed_and_whole(server, kv):
    expected = {f"key{number:05}": random.Random(number).randbytes(900) for number in range(2500)}
    names = list(expected)
    random.Random(1).shuffle(names)
    for start in range(0, len(names), 500):
        part = {name: expected[name] for name in names[start : start + 500]}
        server.ok("POST", f"{kv}/keyvalues", pairs(**part))
    answer = server.ok("GET", f"{kv}/keyrangevalues/key/key~")
    assert answer.headers["transfer-encoding"] == "chunked"
    found = messages.KeyValues.FromString(answer.body)
    assert [(pair.key, pair.value) for pair in found.kvs] == sorted(expected.items())
    assert server.ok("GET", f"{kv}/keys").json() == sorted(expected)
    with tarfile.open(
        fileobj=io.BytesIO(server.ok("GET", f"{kv}/keyrangevalues/key/key~?tar=true").body)
    ) as tar:
        assert tar.getnames() == sorted(expected)
    assert len(server.ok("GET", f"{kv}/mutations").json()) == 2500


def test_a_long_answer_shows_one_state_while_others_write(server, kv):
    value = b"0" * 3000
    server.ok("POST", f"{kv}/keyvalues", pairs(**{f"k{n:04}": value for n in range(2000)}))
    sequence = int(server.ok("GET", f"{kv}/keys").headers["x-dvid-es-seq"])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            put(server, kv, f"k{1999 - number % 2000:04}", b"changed")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            answer = server.ok("GET", f"{kv}/keyrangevalues/k/l?at={sequence}")
            values = [pair.value for pair in messages.KeyValues.FromString(answer.body).kvs]
            assert values == [value] * 2000
            shown = server.ok("GET", f"{kv}/keyrangevalues/k/l")
            at = shown.headers["x-dvid-es-seq"]
            again = server.ok("GET", f"{kv}/keyrangevalues/k/l?at={at}")
            assert shown.body == again.body
    finally:
        stop.set()
        writer.join()


def test_a_condition_is_decided_with_the_write(server, kv):
    first = put(server, kv, "list", b"[]", headers={"If-None-Match": "*"})
    again = server.call("POST", f"{kv}/key/list", b"[]", headers={"If-None-Match": "*"})
    assert again.status == 412
    tag = get(server, kv, "list").headers["etag"]
    assert tag == f'"{first.headers["x-dvid-es-seq"]}"'
    assert get(server, kv, "list", headers={"If-None-Match": tag}).status == 304
    put(server, kv, "list", b"[1]", headers={"If-Match": tag})
    lost = server.call("POST", f"{kv}/key/list", b"[2]", headers={"If-Match": tag})
    assert lost.status == 412
    assert get(server, kv, "list").body == b"[1]"
    refused = server.call("DELETE", f"{kv}/key/list", headers={"If-Match": tag})
    assert refused.status == 412
    missing = server.call("DELETE", f"{kv}/key/none", headers={"If-Match": "*"})
    assert missing.status == 412
    server.ok("DELETE", f"{kv}/key/list", headers={"If-Match": "*"})


def test_no_update_is_lost_by_clients_that_use_conditions(server, kv):
    put(server, kv, "counter", b"0")

    def count() -> None:
        for _ in range(10):
            while True:
                read = get(server, kv, "counter")
                answer = server.call(
                    "POST",
                    f"{kv}/key/counter",
                    str(int(read.body) + 1).encode(),
                    headers={"If-Match": read.headers["etag"]},
                )
                if answer.status == 200:
                    break
                assert answer.status == 412

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(server, kv, "counter").body == b"40"


def test_a_dry_run_tells_the_event_and_writes_nothing(server, kv):
    answer = server.ok("POST", f"{kv}/key/k?dryrun=true", b"value").json()
    assert [event["event"] for event in answer["events"]] == ["keyvalue.put"]
    assert server.ok("GET", f"{kv}/keys").json() == []
    assert server.ok("GET", f"{kv}/mutations").json() == []


def test_the_past_can_be_read(server, kv):
    first = put(server, kv, "k", b"1").headers["x-dvid-es-seq"]
    put(server, kv, "k", b"2")
    server.ok("DELETE", f"{kv}/key/k")
    assert get(server, kv, "k").status == 404
    assert get(server, kv, "k", at=first).body == b"1"
    assert server.ok("GET", f"{kv}/keys?at={first}").json() == ["k"]
    assert len(server.ok("GET", f"{kv}/mutations?at={first}").json()) == 1


def test_mutations_tell_who_wrote(server, root, kv):
    put(server, kv, "a", b"12345", u="kat", app="neu3")
    server.ok("DELETE", f"{kv}/key/a?u=bob")
    first, second = server.ok("GET", f"{kv}/mutations").json()
    stamp = first.pop("Timestamp")
    assert first == {
        "Action": "postkv",
        "App": "neu3",
        "Bytes": 5,
        "Key": "a",
        "UUID": root,
        "User": "kat",
    }
    assert stamp.split()[2:] == ["+0000", "UTC"]
    assert "." in stamp
    assert (second["Action"], second["User"]) == ("delete", "bob")
    only = server.ok("GET", f"{kv}/mutations?userid=bob").json()
    assert [record["Action"] for record in only] == ["delete"]
    assert server.call("GET", f"{kv}/mutations-range/{root}").status == 400


def test_a_conflict_of_a_version_merge_is_not_an_answer(server, root, kv):
    put(server, kv, "both", b"root")
    put(server, kv, "one", b"root")
    server.commit(root)
    sides = []
    for name in ("left", "right"):
        body = {"branch": name}
        side = server.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        put(server, f"/api/node/{side}/kv", "both", name.encode())
        if name == "left":
            put(server, f"/api/node/{side}/kv", "one", b"left")
        server.commit(side)
        sides.append(side)
    body = {"mergeType": "conflict-free", "parents": sides, "note": ""}
    child = server.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    there = f"/api/node/{child}/kv"
    refused = get(server, there, "both")
    assert refused.status == 400
    assert b'key "both"' in refused.body
    assert server.call("HEAD", f"{there}/key/both").status == 400
    assert server.call("GET", f"{there}/keyvalues?json=true", json_body=["both"]).status == 400
    assert get(server, there, "one").body == b"left"
    put(server, there, "both", b"settled")
    assert get(server, there, "both").body == b"settled"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": 1}', b"[1]", b'["a", {"key": "b"}]', b"\xff", b'[{"key": 1}]', b"[[]]",
     b'[{"key": "a", "byte_start": 1}]', b'[{"key": "a", "byte_start": -1, "byte_end": 2}]',
     b'[{"key": "a", "byte_start": 0.5, "byte_end": 2}]', b"[" * 100_000],
)  # fmt: skip
def test_bodies_that_name_no_keys_are_refused(server, kv, body):
    for form in ("json=true", "tar=true"):
        answer = server.call("GET", f"{kv}/keyvalues?{form}", body)
        assert answer.status == 400
        assert answer.body.endswith(b").\n")


def test_no_body_is_an_internal_error(server, kv):
    put(server, kv, "a", b"[1]")
    rnd = random.Random(8)
    asked = messages.Keys(keys=["a", "b"])
    asked.key_ranges.add(key="a", byte_start=1, byte_end=1)
    seeds = [
        ("POST", "keyvalues", pairs(a=b"1", b=b"22", c=bytes(600))),
        ("GET", "keyvalues", asked.SerializeToString()),
        (
            "GET",
            "keyvalues?json=true",
            b'[{"key": "a", "byte_start": 1, "byte_end": 1}, {"key": "b"}]',
        ),
        ("GET", "keyvalues?tar=true", b'["a", "b\\u0000", "\\ud800"]'),
    ]
    seen = set()
    for number in range(400):
        method, path, seed = seeds[number % len(seeds)]
        body = bytearray(seed)
        for _ in range(rnd.randrange(3)):
            body[rnd.randrange(len(body))] = rnd.randrange(256)
        status = server.call(method, f"{kv}/{path}", bytes(body)).status
        assert status in (200, 400), bytes(body)
        seen.add(status)
    assert seen == {200, 400}


def test_head_of_a_long_answer_has_no_body(server, kv):
    server.ok("POST", f"{kv}/keyvalues", pairs(**{f"k{n}": bytes(2000) for n in range(400)}))
    assert server.ok("HEAD", f"{kv}/keyrangevalues/a/z").body == b""
    assert len(server.ok("GET", f"{kv}/keyrangevalues/a/z").body) > 400 * 2000


def test_every_version_agrees_with_a_dictionary(server):
    rnd = random.Random(11)
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    values: dict[str, dict[str, bytes]] = {root: {}}
    is_open = [root]
    names = [f"k{number}" for number in range(8)] + ["x" * 500 + c for c in "ab"] + ["nul\0", "é"]
    for step in range(300):
        version = rnd.choice(is_open)
        there = f"/api/node/{version}/kv"
        key = rnd.choice(names)
        action = rnd.random()
        if action < 0.5:
            value = rnd.randbytes(rnd.choice((0, 3, 700)))
            put(server, there, key, value)
            values[version][key] = value
        elif action < 0.7:
            server.ok("DELETE", f"{there}/key/{quote(key, safe='')}")
            values[version].pop(key, None)
        elif action < 0.8:
            chosen = {name: str(step).encode() for name in rnd.sample(names[:8], 3)}
            server.ok("POST", f"{there}/keyvalues", pairs(**chosen))
            values[version] |= chosen
        elif action < 0.85 and len(values) < 9:
            server.commit(version)
            is_open.remove(version)
            for branch in (f"b{step}", f"c{step}"):
                child = server.ok(
                    "POST", f"/api/node/{version}/branch", json_body={"branch": branch}
                ).json()["child"]
                values[child] = dict(values[version])
                is_open.append(child)
    for version, expected in values.items():
        there = f"/api/node/{version}/kv"
        assert server.ok("GET", f"{there}/keys").json() == sorted(expected, key=str.encode)
        answer = server.ok("GET", f"{there}/keyrangevalues/%00/%F4%8F%BF%BF")
        found = {pair.key: pair.value for pair in messages.KeyValues.FromString(answer.body).kvs}
        assert found == expected
        for key in names:
            answer = get(server, there, key)
            assert (answer.body if answer.status == 200 else None) == expected.get(key)


def test_everything_is_there_after_a_restart_and_from_the_log_alone(run_server, tmp_path):
    settings = Settings(data=tmp_path / "data")
    with run_server(settings) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
        for number in range(20):
            put(live, kv, f"k{number}", b"v" * number * 100)
        live.ok("DELETE", f"{kv}/key/k3")
        before = live.ok("GET", f"{kv}/keyrangevalues/a/z").body, live.ok("GET", f"{kv}/mutations")
    for path in (settings.data / "projections").glob("*"):
        path.unlink()
    with run_server(settings) as live:
        assert live.ok("GET", f"{kv}/keyrangevalues/a/z").body == before[0]
        assert json.loads(live.ok("GET", f"{kv}/mutations").body) == before[1].json()
