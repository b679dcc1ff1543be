from __future__ import annotations

import random
import socket
import threading
import time

import pytest
from sanic.exceptions import BadRequest
from sanic.server.protocols.http_protocol import HttpProtocol

from dvid_es.http.guard import check_head
from dvid_es.http.quick import QuickProtocol


@pytest.fixture(autouse=True, params=["quick", "long"])
def way(request, monkeypatch):
    if request.param == "long":
        monkeypatch.setattr(QuickProtocol, "data_received", HttpProtocol.data_received)


GOOD = [
    b"GET /api/heartbeat HTTP/1.1\r\nHost: x",
    b"GET /api/heartbeat HTTP/1.0",
    b"GET http://localhost:8000/api/heartbeat HTTP/1.1\r\nHost: x",
    b"OPTIONS * HTTP/1.1\r\nHost: x",
    b'GET /key/%00%zz"<>\\^`{|}#? HTTP/1.1\r\nHost: x',
    b"POST /a HTTP/1.1\r\nhost:x\r\nContent-Length:  5 \r\nX-Empty:\r\nU: \xc3\xa9\t\xff",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked",
]
BAD = {
    "no version": b"GET /\r\nHost: x",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x",
    "version 2": b"GET / HTTP/2.0\r\nHost: x",
    "lower case method": b"get / HTTP/1.1\r\nHost: x",
    "unknown method": b"TRACE / HTTP/1.1\r\nHost: x",
    "target without slash": b"GET api HTTP/1.1\r\nHost: x",
    "tab in target": b"GET /a\tb HTTP/1.1\r\nHost: x",
    "byte over 127 in target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x",
    "no host": b"GET / HTTP/1.1",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nhost: y",
    "space before the colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5",
    "folded header": b"GET / HTTP/1.1\r\nHost: x\r\n folded: y",
    "header without colon": b"GET / HTTP/1.1\r\nHost: x\r\nnothing",
    "header without name": b"GET / HTTP/1.1\r\nHost: x\r\n: y",
    "NUL in value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c",
    "bare line feed": b"GET / HTTP/1.1\r\nHost: x\nContent-Length: 5",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc",
    "DEL in value": b"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f",
    "length with sign": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5",
    "length with underscore": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0",
    "length in other digits": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ٣".encode(),
    "empty length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:",
    "endless length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 16,
    "list of lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5",
    "other coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip",
    "two codings": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
}


@pytest.mark.parametrize("head", GOOD)
def test_a_well_formed_head_passes(head):
    check_head(head)


@pytest.mark.parametrize("head", BAD.values(), ids=BAD.keys())
def test_a_head_that_is_not_well_formed_is_refused(head):
    with pytest.raises(BadRequest):
        check_head(head)


def test_long_heads_are_judged_in_linear_time():
    started = time.perf_counter()
    for tail in (b"A: b\r\n" * 20_000, b":" * 120_000, b"a" * 120_000, b"A:" + b" " * 120_000):
        with pytest.raises(BadRequest):
            check_head(b"GET / HTTP/1.1\r\nHost: x\r\n" + tail + b"\x00")
    assert time.perf_counter() - started < 1


def ask(port: int, data: bytes, *, patience: float = 5) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as link:
        link.sendall(data)
        found = b""
        try:
            while part := link.recv(65536):
                found += part
                link.settimeout(0.01)
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize("head", BAD.values(), ids=BAD.keys())
def test_the_server_answers_400_and_hangs_up(live, head):
    answer = ask(live.port, head + b"\r\n\r\nGET /api/heartbeat HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1, "what follows a bad head is not a request"
    assert b"Traceback" not in answer


def test_requests_in_one_packet_are_answered_in_order(live):
    one = b"GET /api/heartbeat HTTP/1.1\r\nHost: x\r\n\r\n"
    two = b"GET /api/server/note HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = ask(live.port, one + two)
    assert answer.count(b"HTTP/1.1 200") == 2


def test_a_body_of_another_length_than_announced_is_no_second_request(live):
    smuggled = b"GET /api/server/info HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /api/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    answer = ask(live.port, head + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) == 404


def test_a_head_over_the_limit_is_refused(live):
    long = b"GET /api/heartbeat?" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert status(ask(live.port, long)) == 200
    for size in (70_000, 400_000):
        answer = ask(live.port, b"GET /?" + b"a" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(answer) in (0, 413, 414)


def test_malformed_requests_never_get_5xx_and_never_hang(live):
    root = live.new_repo()
    kv = live.new_instance(root, "keyvalue", "kv").encode()
    live.ok("POST", f"{kv.decode()}/key/a", b"value")
    rnd = random.Random(5)
    body = b'{"throttle": "1"}'
    set_throttle = (
        b"POST /api/server/settings?admintoken=secret HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    seeds = [
        b"GET %s/key/a?byte_start=0&byte_end=1 HTTP/1.1\r\nHost: x\r\n\r\n" % kv,
        b"GET %s/key/a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n" % kv,
        b'GET %s/keyvalues?json=true HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n["a"]' % kv,
        b"POST %s/key/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        % kv,
        b"GET %s/keyrange/a/b?at=3&min_seq=0 HTTP/1.1\r\nHost: x\r\n\r\n" % kv,
        set_throttle,
        b"OPTIONS %s/key/a HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\n\r\n" % kv,
        b"GET /api/help/keyvalue HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/repo/%s/info HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n\r\n" % root.encode(),
    ]
    bits = [b"\0", b"\r\n", b"\n", b" ", b"\t", b":", b"%", b"%00", b"%ff", b"/", b"//", b"..", b"?",
            b"&", b"=", b"\xff", b"99999999999999999999", b"-1", b"HTTP/1.1", b"Content-Length: 7\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"Expect: 100-continue\r\n",
            b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"If-Match: \"x\r\n"]  # fmt: skip
    assert {status(ask(live.port, seed)) for seed in seeds} == {200, 206}
    counts: dict[int, int] = {}
    started = time.monotonic()
    for number in range(1000):
        data = bytearray(rnd.choice(seeds))
        for _ in range(rnd.randrange(1, 3)):
            at = rnd.randrange(len(data))
            action = rnd.random()
            if action < 0.5:
                data[at:at] = rnd.choice(bits)
            elif action < 0.75:
                del data[at : at + rnd.randrange(1, 9)]
            else:
                data[at] = rnd.randrange(256)
        found = status(ask(live.port, bytes(data), patience=0.03))
        assert found < 500, f"input {number}: {found} for {bytes(data)!r}"
        counts[found] = counts.get(found, 0) + 1
    assert counts.get(200, 0) > 50, f"the inputs are too wild to test anything: {counts}"
    assert counts.get(400, 0) > 150
    assert time.monotonic() - started < 120
    assert live.ok("GET", f"{kv.decode()}/key/a").body == b"value"


def test_a_client_that_sends_slowly_delays_nobody(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as slow:
        for byte in b"GET /api/heartbeat HTTP/1.1\r\nHo":
            slow.sendall(bytes((byte,)))
            assert live.ok("GET", "/api/heartbeat").text == "OK"
        slow.sendall(b"st: x\r\n\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")


def test_clients_that_stop_reading_hold_no_transaction_and_delay_nobody(live):
    root = live.new_repo()
    kv = live.new_instance(root, "keyvalue", "kv")
    value = random.Random(1).randbytes(4 << 20)
    for number in range(8):
        live.ok("POST", f"{kv}/key/big{number}", bytes((number,)) + value)
    stalled = []
    for _ in range(5):
        link = socket.create_connection(("127.0.0.1", live.port), timeout=10)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(b"GET %s/keyrangevalues/a/z HTTP/1.1\r\nHost: x\r\n\r\n" % kv.encode())
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        stalled.append(link)
    try:
        for number in range(20):
            live.ok("POST", f"{kv}/key/more{number}", b"x")
            assert live.ok("GET", f"{kv}/key/more{number}").body == b"x"
        assert len(live.ok("GET", f"{kv}/keyrangevalues/a/z").body) > 8 * len(value)
        with live.engine.store.read(root):
            assert live.engine.store.open_readers() == 1
        assert live.engine.store.open_readers() == 0, (
            "a stalled client keeps the store from reusing pages"
        )
    finally:
        for link in stalled:
            link.close()


def test_many_clients_at_once_are_all_answered(live):
    failures = []

    def many() -> None:
        for _ in range(30):
            if live.call("GET", "/api/heartbeat").status != 200:
                failures.append(1)

    threads = [threading.Thread(target=many) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
