"""annotation: requests that are refused change nothing, and no request is answered by a 500."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.datatypes.annotation.kit import Pair, element, pair, slabs
from tests.datatypes.labelmap.split_cases import state

GOOD = json.dumps([element(3, 3, 3, Tags=["a"])]).encode()

REFUSED = [
    ("POST", "elements", b""), ("POST", "elements", b"[{"), ("POST", "elements", b"{}"),
    ("POST", "elements", b'[{"Pos":[3,3,3]},{"Kind":"Foo"}]'), ("POST", "elements", b"[] x"),
    ("POST", "elements", b'[{"Pos":[3,3,3],"Tags":[""]}]'), ("POST", "elements", b"\xff\xfe"),
    ("POST", "elements", b'[{"Pos":[3,3,99999999999999999999999]}]'), ("PUT", "elements", GOOD),
    ("DELETE", "elements", b""), ("DELETE", "element/4_4_4", b""), ("DELETE", "element", b""),
    ("DELETE", "element/1_1", b""), ("DELETE", "element/1_1_1_1", b""), ("DELETE", "element/1_1_x", b""),
    ("DELETE", "element/3000000000_1_1", b""), ("POST", "element/1_1_1", b""),
    ("POST", "move/4_4_4/5_5_5", b""), ("POST", "move/1_1_1", b""), ("POST", "move/1_1_1/5_5", b""),
    ("POST", "move/1_1_1/a_b_c", b""), ("POST", "move", b""), ("GET", "move/1_1_1/5_5_5", b""),
    ("POST", "blocks", b""), ("POST", "blocks", b"[]"), ("POST", "blocks", b'{"0,0":[]}'),
    ("POST", "blocks", b'{"0,0,0":[{"Kind":"Foo"}]}'), ("POST", "blocks", b'{"0,0,0":{}}'),
    ("POST", "blocks", b'{"0,0,0":[],"x":[]}'), ("DELETE", "blocks", b""),
    ("POST", "labels", b""), ("POST", "labels", b"[]"), ("POST", "labels", b'{"1":[]}'),
    ("POST", "labels", b'{"1":"[]","x":"[]"}'), ("POST", "labels", b'{"1":"[{]"}'),
    ("POST", "labels", b'{"1":"[{\\"Kind\\":\\"Foo\\"}]"}'), ("POST", "labels", b'{"-1":"[]"}'),
    ("POST", "labels", b'{"18446744073709551616":"[]"}'), ("POST", "labels/1", b"{}"),
    ("GET", "labels", b""),
    ("POST", "tag/a", b""), ("POST", "label/1", b""), ("POST", "roi/x", b""), ("POST", "scan", b""),
    ("POST", "all-elements", b""), ("GET", "reload", b""), ("GET", "delete-all", b""),
    ("POST", "delete-all/x", b""), ("POST", "nothing", b""),
    ("POST", "sync", b'{"sync":"none"}'), ("POST", "sync", b'{"sync":"kv"}'),
    ("POST", "sync", b'{"sync":"syn"}'), ("POST", "sync", b"{}"), ("GET", "sync", b""),
]  # fmt: skip


@pytest.fixture
def made(live: Any) -> Pair:
    made = pair(live, slabs())
    live.new_instance(made.root, "keyvalue", "kv")
    made.post(element(1, 1, 1, Tags=["a"]), element(40, 1, 1, "Gap"))
    return made


def test_refused_requests_leave_everything_as_it_was(live: Any, made: Pair) -> None:
    before, end = state(live), live.engine.streams.all()[0].log.end
    for method, path, body in REFUSED:
        answer = live.call(method, f"{made.syn()}/{path}", body)
        assert answer.status == 400, f"{method} {path} {body!r}: {answer.status} {answer.body!r}"
        assert answer.body.rstrip().endswith(b")."), "a message with the path"
        assert state(live) == before, f"{method} {path} {body!r} changed something"
    assert live.engine.streams.all()[0].log.end == end


@pytest.mark.parametrize(
    "path",
    [
        "elements", "elements/9_9_9", "elements/9_9/0_0_0", "elements/a_b_c/0_0_0", "elements/9_9_9/x",
        "element/1_1_1", "blocks/9_9_9", "blocks/9_9_9/0_0", "label", "label/0", "label/x", "label/-1",
        "label/1.5", "label/18446744073709551616", "tag", "roi", "roi/none", "roi/seg", "roi/a,b,c",
        "roi/none,abcdef0123", "all-elements/x", "scan/x", "elements/99999999999_9_9/0_0_0",
    ],
)  # fmt: skip
def test_wrong_reads_are_refused_with_a_message(live: Any, made: Pair, path: str) -> None:
    answer = live.call("GET", f"{made.syn()}/{path}")
    assert answer.status == 400, answer.body
    assert answer.body.rstrip().endswith(b").")


def test_what_would_be_written_is_told_and_not_written(live: Any, made: Pair) -> None:
    before = state(live)
    for method, path, body in (
        ("POST", "elements", GOOD), ("DELETE", "element/1_1_1", b""), ("POST", "blocks", b'{"0,0,0":[]}'),
        ("POST", "move/1_1_1/9_9_9", b""), ("POST", "labels", b'{"1":"[]"}'), ("POST", "delete-all", b""),
    ):  # fmt: skip
        answer = live.ok(method, f"{made.syn()}/{path}", body, dryrun="true")
        assert b"annotation." in answer.body
        assert state(live) == before


def test_a_repeated_request_with_a_key_is_done_once(live: Any, made: Pair) -> None:
    key = {"Idempotency-Key": "one"}
    for _ in range(2):
        path = f"{made.syn()}/element/1_1_1"
        assert live.call("DELETE", path, headers=key).status == 200
    made.blocks({"0,0,0": [element(n, 1, 1, Tags=["t"]) for n in range(3)]})
    for _ in range(2):
        assert live.call("POST", f"{made.syn()}/reload", b"", headers=key).status == 200
    assert len(made.get("tag/t")) == 3, (
        "a reload is many commands, and the key is of another request"
    )


def test_locked_versions_refuse_all_writes(live: Any, made: Pair) -> None:
    live.commit(made.root)
    before = state(live)
    for method, path, body in (
        ("POST", "elements", GOOD), ("DELETE", "element/1_1_1", b""), ("POST", "blocks", b"{}"),
        ("POST", "move/1_1_1/9_9_9", b""), ("POST", "labels", b"{}"), ("POST", "reload", b""),
        ("POST", "delete-all", b""),
    ):  # fmt: skip
        assert live.call(method, f"{made.syn()}/{path}", body).status == 400
    assert state(live) == before


def test_damaged_requests_are_taken_or_refused_and_never_fail(live: Any, made: Pair) -> None:
    rng = np.random.default_rng(0)
    rels = [{"Rel": "GroupedWith", "To": [40, 1, 1]}]
    whole = json.dumps(
        [element(n, 5, 5, Tags=["x", "y"], Prop={"a": "b"}, Rels=rels) for n in range(3)]
    )
    good = {
        "elements": whole.encode(),
        "blocks": f'{{"0,0,0":{whole},"1,0,0":null}}'.encode(),
        "labels": json.dumps({"1": whole, "2": "[]"}).encode(),
    }
    statuses = set()
    for _ in range(150):
        for path, message in good.items():
            data = bytearray(message)
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(len(data)))] = int(rng.choice(list(b'0"[]{},:-x\\\xff\x00')))
            answer = live.call("POST", f"{made.syn()}/{path}", bytes(data))
            statuses.add(answer.status)
            assert answer.status in (200, 400), (path, bytes(data), answer.body)
    assert statuses == {200, 400}
    live.ok("POST", f"{made.syn()}/reload")
    for path in ("all-elements", "label/1", "tag/x?relationships=verbose", "scan"):
        live.ok("GET", f"{made.syn()}/{path}")
