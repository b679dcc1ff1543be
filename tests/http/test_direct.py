from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvid_es.errors import CorruptPack
from dvid_es.http import direct
from dvid_es.http.direct import Made, Outgoing, write_made

PIECES = [bytes([number]) * (300_000 + number) for number in range(40)]
WHOLE = b"".join(PIECES)


@pytest.fixture(params=[False, True])
def heavy(request: Any) -> bool:
    return bool(request.param)


@pytest.fixture
def made(live: Any, heavy: bool) -> Any:
    """Serve what a test puts into it at /api/made."""
    source: list[Any] = []

    async def handler(request: Any) -> None:
        length = [len(WHOLE), *source[1:]][-1]
        return await write_made(request, lambda: Made(length, makers(source[0]()), heavy=heavy))

    server = live.application.ctx.server
    server.server_routes = {**server.server_routes, "GET api/made": handler}
    return source


def makers(pieces: Iterator[bytes]) -> Iterator[Any]:
    return (lambda piece=piece: piece for piece in pieces)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_pieces_come_whole_and_the_connection_goes_on(live, made):
    made.append(lambda: iter(PIECES))
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/api/made")
        answer = connection.getresponse()
        assert answer.read() == WHOLE
        assert answer.getheader("connection") == "keep-alive"
    connection.request("GET", "/api/server/note")
    assert connection.getresponse().status == 200
    connection.close()
    last = live.ok("GET", "/api/made", headers={"Connection": "close"})
    assert last.body == WHOLE
    assert last.headers["connection"] == "close"


def test_what_a_slow_client_does_not_take_at_once_comes_later(live, made):
    asked = []

    def pieces() -> Iterator[bytes]:
        for piece in PIECES:
            asked.append(len(piece))
            yield piece

    made.append(pieces)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", live.port))
        client.sendall(
            b"GET /api/made HTTP/1.1\r\nHost: x\r\n\r\nGET /api/server/note HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        client.settimeout(60)
        got = bytearray(client.recv(1))
        # Another client is answered while this one does not read, and not all of it is made.
        assert live.ok("GET", "/api/server/note").status == 200
        assert len(asked) < len(PIECES)
        while not got.partition(b"\r\n\r\n")[2][len(WHOLE) :].count(b"HTTP/1.1 200"):
            data = client.recv(1 << 20)
            assert data
            got += data
        assert got.partition(b"\r\n\r\n")[2][: len(WHOLE)] == WHOLE


def test_an_error_in_the_first_piece_is_an_ordinary_one(live, made):
    def pieces() -> Iterator[bytes]:
        raise CorruptPack("the pack is damaged")
        yield b""

    made.append(pieces)
    answer = live.call("GET", "/api/made")
    assert answer.status == 500
    assert b"the pack is damaged" in answer.body


def test_an_error_in_a_later_piece_cuts_the_connection(live, made, caplog):
    def pieces() -> Iterator[bytes]:
        yield from PIECES[:3]
        raise CorruptPack("the pack is damaged")

    made.append(pieces)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        live.call("GET", "/api/made")
    assert "cut short" in caplog.text
    assert live.ok("GET", "/api/server/note").status == 200


def test_a_client_that_hangs_up_leaves_nothing_open(live, made):
    going_on, ended = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            yield PIECES[0]
            going_on.wait(60)
            yield from PIECES[1:]
        finally:
            ended.set()

    made.append(pieces)
    live.ok("GET", "/api/server/note")
    before = open_files()
    with socket.create_connection(("127.0.0.1", live.port)) as client:
        client.sendall(b"GET /api/made HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1)
    going_on.set()
    assert ended.wait(60)
    while live.application.ctx.server.monitor.active:
        live.ok("GET", "/api/server/note")
    assert open_files() <= before


def test_long_answers_take_turns(live, made, monkeypatch):
    monkeypatch.setattr(direct, "TURN_BYTES", 500_000)
    turns = []
    write = Outgoing.write_to
    monkeypatch.setattr(Outgoing, "write_to", lambda *of: turns.append(1) or write(*of))
    made.append(lambda: iter(PIECES))
    assert live.ok("GET", "/api/made").body == WHOLE
    assert len(turns) > 1


def test_a_piece_that_goes_out_in_parts_is_continued_where_it_ended():
    reader, writer = socket.socketpair()
    with reader:
        writer.setblocking(False)
        outgoing = Outgoing(
            b"head\r\n", lambda: Made(1 << 20, makers(iter(PIECES)), heavy=False), None
        )
        left = outgoing.write_to(writer.fileno())
        assert left
        assert not outgoing.ended
        sent = b"headcontent-length: 1048576\r\n\r\n" + PIECES[0]
        written = len(sent) - sum(map(len, left))
        assert 0 < written < len(PIECES[0])
        writer.close()
        got = bytearray()
        while data := reader.recv(1 << 16):
            got += data
        assert got + b"".join(left) == sent


def test_a_body_of_unknown_length_goes_out_in_chunks(live, made):
    made.append(lambda: iter(PIECES[:5]))
    made.append(None)
    for _ in range(2):
        answer = live.ok("GET", "/api/made")
        assert answer.body == b"".join(PIECES[:5])
        assert "content-length" not in answer.headers


def test_an_empty_body_has_a_head(live, made):
    made.append(lambda: iter(()))
    made.append(0)
    answer = live.ok("GET", "/api/made")
    assert (answer.body, answer.headers["content-length"]) == (b"", "0")


def test_two_threads_make_heavy_parts_and_write_them_in_their_order(live):
    both = threading.Barrier(2, timeout=60)
    server = live.application.ctx.server

    def make(number: int) -> bytes:
        if number < 2:
            both.wait()  # one thread alone would wait for ever
        return PIECES[number]

    async def handler(request: Any) -> None:
        parts = (lambda at=at: make(at) for at in range(len(PIECES)))
        return await write_made(request, lambda: Made(len(WHOLE), parts))

    server.server_routes = {**server.server_routes, "GET api/made": handler}
    for _ in range(3):
        assert live.ok("GET", "/api/made").body == WHOLE
