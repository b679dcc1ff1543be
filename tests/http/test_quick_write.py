from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dvid_es.commands import Write, Written
from dvid_es.errors import InvalidRequest
from dvid_es.http.quick import BODY_BYTES_MAX, WAITING_BYTES_MAX, QuickProtocol
from dvid_es.settings import Settings
from tests.http.quick_rig import LongProtocol, Rig, at, get


def post(target: str, body: bytes = b"value", *lines: str) -> bytes:
    head = "\r\n".join((f"POST {target} HTTP/1.1", "Host: x:80", *lines))
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def masked(answers: bytes) -> bytes:
    """Answers without what each write moves on."""
    if b'"dryrun"' in answers:  # the sequence in its body may have one digit more
        answers = re.sub(rb"content-length: \d+", b"content-length", answers)
    return re.sub(rb'(X-DVID-ES-Seq|MutationID"|"offset"|"mutation_id"): ?\d+', rb"\1", answers)


def both(rig: Rig, *parts: bytes, hurried: bool = False) -> tuple[bytes, bool]:
    """Send the same the long way, then the short way; return the answers and whether one was quick."""
    results = []
    for kind in (LongProtocol, QuickProtocol):
        monitor, before = rig.server.monitor, rig.quick_answers
        counted = monitor.puts, monitor.gets, monitor.bytes_in
        answers, requests = rig.ask(kind, *parts, hurried=hurried)
        now = monitor.puts, monitor.gets, monitor.bytes_in
        counts = [b - a for a, b in zip(counted, now, strict=True)]
        results.append((masked(answers), requests, counts))
        quick = rig.quick_answers > before
    assert results[0] == results[1]
    assert rig.server.monitor.active == 0
    assert rig.transactions == 0
    return results[1][0], quick


QUICK = {
    "a value": post("KV/key/w"),
    "nothing": post("KV/key/w", b""),
    "as long as it may be": post("KV/key/w", bytes(BODY_BYTES_MAX)),
    "a user": post("KV/key/w?u=me&app=test"),
    "a dry run": post("KV/key/w?dryrun=true"),
    "once": post("KV/key/w", b"once", "Idempotency-Key: once"),
    "a bad idempotency key": post("KV/key/w", b"once", "Idempotency-Key: " + "k" * 300),
    "if it is there": post("KV/key/w", b"x", "If-Match: *"),
    "if it is as it was": post("KV/key/w", b"x", 'If-Match: "12345"'),
    "no key": post("KV/key"),
    "a page": post("KV/key/w", b"x", "Origin: https://b.a.org"),
    "as requests says it": post(
        "KV/key/w", b"x", "User-Agent: python-requests/2", "Accept-Encoding: gzip", "Connection: keep-alive"
    ),
    "merge of nobody": post("KV/../seg/merge".replace("KV/../seg", "SEG"), b"[1, 2]"),
    "merge of text": post("SEG/merge", b"hello"),
    "cleave of nobody": post("SEG/cleave/5", b"[7]"),
    "by branch": post("/api/node/:master/kv/key/w"),
}  # fmt: skip
LONG = {
    "no such name": post("/api/node/:master/other/key/w"),
    "no such version": post("/api/node/ffff/kv/key/w"),
    "no such word": post("KV/keyring/w"),
    "another word": post("KV/keyvalues", b"", "Content-Type: x"),
    "waits": post("KV/key/w?min_seq=1"),
    "takes a place": post("KV/key/w?throttle=on"),
    "bad escape": post("KV/key/%zz"),
    "two slashes": post("KV//key/w"),
    "dots": post("KV/./key/w"),
    "long": post("KV/key/w", bytes(BODY_BYTES_MAX + 9000)),
    "closes": post("KV/key/w", b"x", "Connection: close"),
    "chunks": get("KV/key/w", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
    "two lengths": post("KV/key/w", b"x", "Content-Length: 1"),
    "two other lengths": post("KV/key/w", b"x", "Content-Length: 0"),
    "no number": post("KV/key/w", b"x").replace(b"Length: 1", b"Length: +1"),
    "expects": post("KV/key/w", b"", "Expect: 100-continue"),
    "no length": get("KV/key/w", method="POST"),
    "1.0": post("KV/key/w").replace(b"/1.1", b"/1.0"),
    "two in one": post("KV/key/w") + post("KV/key/w"),
    "one and a half": post("KV/key/w") + post("KV/key/w")[:9],
    "no host": post("KV/key/w").replace(b"Host: x:80\r\n", b""),
}  # fmt: skip


def to(kv: str, data: bytes) -> bytes:
    return at(kv, data.replace(b"SEG", kv[:-3].encode() + b"/seg"))


@pytest.mark.parametrize("data", QUICK.values(), ids=QUICK.keys())
def test_a_quick_write_is_answered_like_a_long_one(rig: Rig, kv: str, data: bytes) -> None:
    answers, quick = both(rig, to(kv, data), to(kv, data))
    assert answers.count(b"HTTP/1.1 ") == 2
    assert quick


@pytest.mark.parametrize("data", LONG.values(), ids=LONG.keys())
def test_every_other_write_goes_the_long_way(rig: Rig, kv: str, data: bytes) -> None:
    _, quick = both(rig, to(kv, data))
    assert not quick


def test_what_was_written_is_there(rig: Rig, kv: str) -> None:
    for number in range(5):
        answers, _ = rig.ask(
            QuickProtocol, post(f"{kv}/key/seen", b"%d" % number), get(f"{kv}/key/seen")
        )
        assert answers.endswith(b"\r\n\r\n%d" % number)


def test_a_write_may_be_cut_at_every_byte(rig: Rig, kv: str) -> None:
    data = post(f"{kv}/key/cut", b"cut", "A: b")
    for cut in range(1, len(data)):
        answers, quick = both(rig, data[:cut], data[cut:])
        assert answers.startswith(b"HTTP/1.1 200"), data[:cut]
        assert not quick, f"half a write was decided: {data[:cut]!r}"


def test_a_body_over_the_limit_is_refused_the_same_way(tmp_path: Path) -> None:
    rig = Rig(Settings(data=tmp_path, max_body_bytes=1000))
    try:
        root = json.loads(rig.post("/api/repos"))["root"]
        rig.post(f"/api/repo/{root}/instance", b'{"typename": "keyvalue", "dataname": "kv"}')
        for size, status in ((1000, b"200"), (1001, b"413")):
            answers, quick = both(rig, post(f"/api/node/{root}/kv/key/a", bytes(size)))
            assert answers.startswith(b"HTTP/1.1 " + status)
            assert quick == (size == 1000)
    finally:
        rig.close()


LINES = st.sampled_from(
    ["A: b", "Content-Length: 0", "Content-Length: 5", "Content-Length:5", "content-length: 05",
     "Content-Length: 5 ", "Content-Length: -5", "Content-Length: 4", "Content-Length: 6",
     "Transfer-Encoding: chunked", "Connection: close", "Expect: 100-continue", "If-None-Match: *",
     "Upgrade: websocket", "Host: y", "é: é", ": x"]
)  # fmt: skip


@st.composite
def writes(draw: Callable[[Any], Any]) -> bytes:
    lines = ["Host: x", *(draw(LINES) for _ in range(draw(st.integers(0, 2))))]
    if draw(st.integers(0, 4)):
        lines.append("Content-Length: 5")
    target = draw(st.sampled_from(["KV/key/f", "KV/key/f?u=a", "KV/key/", "SEG/merge", "KV/keys"]))
    body = draw(st.sampled_from([b"12345", b"1234", b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]))
    return "\r\n".join((f"POST {target} HTTP/1.1", *lines, "", "")).encode() + body


@given(
    st.lists(writes() | st.just(get("KV/key/a")), min_size=1, max_size=3),
    st.lists(st.integers(0, 300), max_size=2),
    st.booleans(),
)
@hypothesis_settings(max_examples=300)
def test_any_writes_get_the_same_answers_both_ways(
    rig: Rig, kv: str, sent: list[bytes], cuts: list[int], hurried: bool
) -> None:
    parts = []
    for data in (to(kv, one) for one in sent):
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        parts += [data[a:b] for a, b in pairwise(places)]
    both(rig, *parts, hurried=hurried)


class Gate:
    """Holds back what the writer says."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: list[Write] = []
        monkeypatch.setattr(rig.server.deliveries, "submit", self.held.append)

    def open(self) -> None:
        for write in self.held:
            if not write.is_ended:
                write.succeed(Written(b"", 7))


async def turns() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def under_way(rig: Rig, sent: Sequence[bytes]) -> tuple[Any, Any]:
    protocol, wire = await rig.connect(QuickProtocol)
    for data in sent:
        protocol.data_received(data)
        await turns()
    assert wire.written == b""
    return protocol, wire


def test_what_follows_a_write_is_answered_after_it(
    rig: Rig, kv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(rig, monkeypatch)
    sent = [post(f"{kv}/key/a"), get(f"{kv}/key/a"), post(f"{kv}/key/b"), get(f"{kv}/keys")]

    async def run() -> bytes:
        protocol, wire = await under_way(rig, sent)
        assert len(gate.held) == 1, "the second write waits for the first"
        gate.open()
        await turns()
        assert wire.written.count(b"HTTP/1.1 200") == 2
        gate.open()
        await rig.settled(protocol)
        written: bytes = wire.written
        await rig.hang_up(protocol, wire)
        return written

    written = rig.loop.run_until_complete(run())
    bodies = [part.partition(b"\r\n\r\n")[2] for part in written.split(b"HTTP/1.1 200")[1:]]
    assert len(bodies) == 4
    assert bodies[1] == b"value of a"
    assert bodies[3].startswith(b'["a"')


def test_a_client_that_sends_on_is_made_to_wait(
    rig: Rig, kv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, heard = Gate(rig, monkeypatch), []

    async def run() -> None:
        protocol, wire = await under_way(rig, [post(f"{kv}/key/a")])
        wire.pause_reading = lambda: heard.append("pause")
        wire.resume_reading = lambda: heard.append("resume")
        protocol.data_received(b"x" * (WAITING_BYTES_MAX - 1))
        assert not heard
        protocol.data_received(b"x")
        assert heard == ["pause"]
        gate.open()
        await turns()
        assert "resume" in heard
        await rig.hang_up(protocol, wire)

    rig.loop.run_until_complete(run())


def test_a_write_that_nobody_waits_for_is_taken_back(
    rig: Rig, kv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(rig, monkeypatch)

    async def run() -> None:
        protocol, wire = await under_way(rig, [post(f"{kv}/key/a")])
        await rig.hang_up(protocol, wire)
        await turns()
        assert gate.held[0].withdrawn
        gate.held[0].fail(InvalidRequest("taken back"))
        await turns()
        assert wire.written == b""

    rig.loop.run_until_complete(run())
    assert rig.server.monitor.active == 0


def test_a_connection_with_a_write_under_way_is_not_idle(
    rig: Rig, kv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(rig, monkeypatch)

    async def run() -> None:
        protocol, wire = await under_way(rig, [post(f"{kv}/key/a")])
        protocol._time = 0.0
        protocol.check_timeouts()
        await turns()
        assert not protocol.close_if_idle()
        assert not wire.closed
        gate.open()
        await rig.settled(protocol)
        assert wire.written.startswith(b"HTTP/1.1 200")
        assert protocol.close_if_idle()
        assert wire.closed
        await rig.hang_up(protocol, wire)

    rig.loop.run_until_complete(run())


def test_only_handlers_that_answer_in_one_piece_are_quick_writes(rig: Rig) -> None:
    found = {
        (name, key): handler
        for name, datatype in rig.server.datatypes.items()
        for key, handler in datatype.endpoints.items()
        if hasattr(handler, "quick_write")
    }
    assert {
        ("keyvalue", "POST key"),
        ("labelmap", "POST merge"),
        ("labelmap", "POST cleave"),
    } <= set(found)
    for (_, key), handler in found.items():
        assert key.startswith("POST ")
        assert not hasattr(handler, "takes_buffer")
        source = inspect.getsource(inspect.unwrap(handler))
        assert ".send(" not in source
        assert set(re.findall(r"request\.raw\.(\w+)", source)) <= {"headers"}
