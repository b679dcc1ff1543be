from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dvid_es.http.app import SILENT
from dvid_es.http.quick import HEAD_BYTES_MAX, KNOWN_MAX, Heads, QuickProtocol
from dvid_es.settings import Settings
from tests.http.quick_rig import Rig, at, get

QUICK = {
    "a value": get("KV/key/a"),
    "an empty value": get("KV/key/empty"),
    "a value in the packs": get("KV/key/long"),
    "no value": get("KV/key/nothing"),
    "an escape": get("KV/key/%61"),
    "head": get("KV/key/a", method="HEAD"),
    "head of nothing": get("KV/key/b", method="HEAD"),
    "head of info": get("KV/info", method="HEAD"),
    "range": get("KV/key/a", "Range: bytes=2-4"),
    "range twice": get("KV/key/a", "Range: bytes=2-4", "Range: bytes=1-1"),
    "part by query": get("KV/key/a?byte_start=1&byte_end=3"),
    "info": get("KV/info"),
    "info at a sequence": get("KV/info?at=2&u=me&app=x"),
    "server": get("/api/server/info"),
    "a page": get("KV/key/a", "Origin: https://b.a.org"),
    "a strange page": get("KV/key/a", "Origin: https://c.org", "X-Name: é"),
    "as requests says it": get(
        "KV/key/a", "User-Agent: python-requests/2", "Accept-Encoding: gzip", "Accept: */*",
        "Connection: keep-alive",
    ),
    "branch": get("/api/node/:master/kv/key/a"),
}  # fmt: skip
LONG = {
    "no such name": get("/api/node/:master/other/key/a"),
    "no such version": get("/api/node/ffff/kv/key/a"),
    "no such word": get("KV/keyring/a"),
    "no key": get("KV/key"),
    "not modified": get("KV/key/a", 'If-None-Match: *'),
    "range beyond": get("KV/key/a", "Range: bytes=20-30"),
    "range and query": get("KV/key/a?byte_start=1&byte_end=3", "Range: bytes=2-4"),
    "a future": get("KV/key/a?at=x"),
    "waits": get("KV/key/a?min_seq=1"),
    "takes a place": get("KV/key/a?throttle=on"),
    "bad escape": get("KV/key/%zz"),
    "two slashes": get("KV//key/a"),
    "dots": get("KV/../kv/key/a"),
    "whole address": get("http://x/api/server/info"),
    "strange characters": get('KV/key/%00"<>\\^`{|}#?'),
    "another word": get("KV/keys"),
    "alive?": get("/api/heartbeat?u=me"),
    "close": get("KV/key/a", "Connection: close"),
    "close after keep-alive": get("KV/key/a", "Connection: keep-alive", "Connection: close"),
    "upgrade": get("KV/key/a", "Connection: Upgrade", "Upgrade: websocket"),
    "1.0": get("KV/key/a").replace(b"/1.1", b"/1.0"),
    "1.10": get("KV/key/a").replace(b"/1.1", b"/1.10"),
    "1.0 kept alive": get("KV/key/a", "Connection: keep-alive").replace(b"/1.1", b"/1.0"),
    "body": get("KV/key/a", "Content-Length: 2") + b"[]",
    "no body": get("KV/key/a", "Content-Length: 0"),
    "chunks": get("KV/key/a", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "expects": get("KV/key/a", "Expect: 100-continue", "Content-Length: 0"),
    "no host": get("KV/key/a").replace(b"Host: x:80\r\n", b""),
    "two hosts": get("KV/key/a", "Host: y"),
    "folded": get("KV/key/a", " more: x"),
    "space before colon": get("KV/key/a", "Range : bytes=2-4"),
    "bare line end": get("KV/key/a", "A: b\nContent-Length: 2"),
    "NUL": get("KV/key/a", "A: \0"),
    "two spaces": get(" KV/key/a"),
    "line end first": b"\r\n" + get("KV/key/a"),
    "two in one": get("KV/key/a") + get("KV/info"),
    "one and a half": get("KV/key/a") + get("KV/info")[:9],
    "half": get("KV/key/a")[:-2],
    "other method": get("KV/key/a", method="OPTIONS"),
    "lower case": get("KV/key/a", method="get"),
    "long head": get("KV/key/a", "A: " + "b" * HEAD_BYTES_MAX),
}  # fmt: skip


@pytest.mark.parametrize("data", QUICK.values(), ids=QUICK.keys())
def test_a_quick_answer_is_the_long_one_byte_for_byte(rig: Rig, kv: str, data: bytes) -> None:
    answers, quick = rig.same(at(kv, data), at(kv, data))
    assert answers.count(b"HTTP/1.1 ") == 2
    assert quick


@pytest.mark.parametrize("data", LONG.values(), ids=LONG.keys())
def test_everything_else_goes_the_long_way(rig: Rig, kv: str, data: bytes) -> None:
    _, quick = rig.same(at(kv, data))
    assert not quick


def test_answers_have_the_headers_of_the_long_way(rig: Rig, kv: str) -> None:
    answers, _ = rig.same(at(kv, QUICK["a page"]))
    head, _, body = answers.partition(b"\r\n\r\n")
    assert body == b"value of a"
    names = [line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:]]
    assert names[:2] == ["Accept-Ranges", "ETag"]
    assert names[-3:] == ["content-length", "connection", "content-type"]
    assert "X-DVID-ES-Seq" in names
    assert "Access-Control-Allow-Origin" in names


@pytest.mark.parametrize(
    "name", ["a value", "head", "range", "info", "server", "close", "two in one"]
)
def test_a_head_may_be_cut_at_every_byte(rig: Rig, kv: str, name: str) -> None:
    data = at(kv, {**QUICK, **LONG}[name])
    for cut in range(1, len(data)):
        answers, quick = rig.same(data[:cut], data[cut:])
        assert answers.startswith(b"HTTP/1.1 2")
        assert not quick or name == "two in one", f"half a head was answered: {data[:cut]!r}"


NAMES = st.sampled_from(
    ["Host", "Connection", "Range", "Accept", "Origin", "Content-Length", "Transfer-Encoding",
     "Expect", "Upgrade", "If-None-Match", "X-DVID-Admin-Token", "Forwarded", "", "A b", "é"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["x", "", " ", "keep-alive", "Keep-Alive ", "close", "bytes=0-1", "bytes=0-1 ", "bytes=-3", "0", "2",
     "chunked", "100-continue", "websocket", "*", "secret", "for=10.1.2.3", "https://a.org", "a\tb",
     "a\0b", "é"]
)  # fmt: skip
TARGETS = st.sampled_from(
    ["KV/key/a", "KV/key/b", "KV/key/a?byte_start=0", "KV/key/a?at=3", "KV/info", "KV/info/", "KV/key/",
     "KV/key/a/", "KV/keys", "/api/server/info", "/api/server/info/", "/api/server/info/x", "/api/server",
     "/", "*", "KV/key/%41", "KV/key/%", "KV/key/a b", "KV/key/a#b", "KV/./key/a", "KV/key/a?u=b&min_seq=0",
     "KV/tags", "KV/help", "/api/repo/:master/info", "/api/node/:master/log", "KV/key/a?throttle=on"]
)  # fmt: skip


@st.composite
def requests(draw: Callable[[Any], Any]) -> bytes:
    lines = [f"{draw(NAMES)}:{draw(VALUES)}" for _ in range(draw(st.integers(0, 3)))]
    if draw(st.integers(0, 9)):
        lines.insert(0, "Host: x")
    method = draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS", "TRACE"]))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"]))
    data = "\r\n".join((f"{method} {draw(TARGETS)} {version}", *lines, "", "")).encode()
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data)))
        bits = [b"", b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"\xff", data]
        data = data[:place] + draw(st.sampled_from(bits)) + data[place + draw(st.integers(0, 2)) :]
    return data


@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(st.integers(0, 400), max_size=3),
    st.booleans(),
)
@example([get("KV/key/a"), get("KV/key/a"), get("KV/info")], [], False)
@hypothesis_settings(max_examples=600)
def test_any_bytes_get_the_same_answers_both_ways(
    rig: Rig, kv: str, sent: list[bytes], cuts: list[int], hurried: bool
) -> None:
    parts = []
    for data in (at(kv, request) for request in sent):
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        parts += [data[a:b] for a, b in pairwise(places)]
    rig.same(*parts, hurried=hurried)


def test_answers_keep_the_order_of_their_requests(rig: Rig, kv: str) -> None:
    slow, quick = get(f"{kv}/keys"), get(f"{kv}/key/a")
    answers, _ = rig.same(slow, quick, quick, hurried=True)
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.index(b'["a"') < answers.index(b"value of a")


def test_what_follows_an_unread_body_head_is_body(rig: Rig, kv: str) -> None:
    smuggled = get(f"{kv}/key/a")
    head = b"POST /api/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    answers, quick = rig.same(head, smuggled)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert not quick


async def _stalled(rig: Rig, kv: str) -> list[bytes]:
    protocol, wire = await rig.connect(QuickProtocol)
    protocol.pause_writing()
    protocol.data_received(get(f"{kv}/key/a"))
    for _ in range(20):
        await asyncio.sleep(0)
    seen = [wire.written]
    protocol.resume_writing()
    await rig.settled(protocol)
    seen.append(wire.written)
    await rig.hang_up(protocol, wire)
    return seen


def test_nothing_is_written_to_a_client_that_does_not_read(rig: Rig, kv: str) -> None:
    before, after = rig.loop.run_until_complete(_stalled(rig, kv))
    assert before == b""
    assert after.startswith(b"HTTP/1.1 200")


async def _times(rig: Rig, kv: str) -> tuple[float, float]:
    protocol, wire = await rig.connect(QuickProtocol)
    protocol._time = 0.0
    before = rig.loop.time()
    protocol.data_received(get(f"{kv}/key/a"))
    found = protocol._time
    await rig.hang_up(protocol, wire)
    return before, found


def test_a_quick_request_is_a_sign_of_life_of_its_connection(rig: Rig, kv: str) -> None:
    before, found = rig.loop.run_until_complete(_times(rig, kv))
    assert found >= before


def test_a_document_that_must_be_made_first_goes_the_long_way(rig: Rig, kv: str) -> None:
    rig.server.documents.clear()
    quick_before = rig.quick_answers
    made = rig.ask(QuickProtocol, get(f"{kv}/info"))
    assert rig.quick_answers == quick_before
    assert rig.ask(QuickProtocol, get(f"{kv}/info")) == made
    assert rig.quick_answers == quick_before + 1


def test_writes_show_at_once_in_quick_answers(rig: Rig, kv: str) -> None:
    for number in range(5):
        rig.post(f"{kv}/key/changing", b"%d" % number)
        answers, quick = rig.same(get(f"{kv}/key/changing"))
        assert answers.endswith(b"\r\n\r\n%d" % number)
        assert quick


def test_only_short_plain_functions_are_quick(rig: Rig) -> None:
    server = rig.server
    tables = [server.server_routes, server.common_routes, server.node_routes, server.repo_routes]
    tables += [datatype.endpoints for datatype in server.datatypes.values()]
    quick = [(key, one) for table in tables for key, one in table.items() if hasattr(one, "quick")]
    assert {"GET key", "HEAD key", "GET info", "GET api/server/info"} <= {key for key, _ in quick}
    for key, handler in quick:
        assert not inspect.iscoroutinefunction(handler), key
        assert not hasattr(handler, "takes_buffer"), key
        assert f"/{key.partition(' ')[2]}" not in SILENT, "those are not counted"
        assert re.match(r"(GET|HEAD|\*) ", key)


def test_few_heads_are_remembered() -> None:
    heads = Heads(1 << 20)
    for number in range(3 * KNOWN_MAX):
        assert heads.read(get("/api/server/info", f"A: {number}")) is not None
        assert len(heads._known) <= KNOWN_MAX
    assert heads.bytes_max == HEAD_BYTES_MAX
    assert Heads(100).read(get("/api/server/info", "A: " + "b" * 100)) is None


def test_blocked_clients_are_refused_the_same_way(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("u=mallory,goodbye\nip=10.0.0.7,away\n")
    rig = Rig(Settings(data=tmp_path / "data", block_list_file=blocked))
    try:
        for lines in ((), ("X-Forwarded-For: 10.0.0.8",)):
            for query in ("", "?u=mallory"):
                answers, _ = rig.same(get(f"/api/server/info{query}", *lines))
                refused = bool(query) or not lines
                assert answers.startswith(b"HTTP/1.1 429" if refused else b"HTTP/1.1 200")
    finally:
        rig.close()
