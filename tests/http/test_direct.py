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
from dvid_es.http.direct import Outgoing, write_made

PIECES = [bytes([number]) * (300_000 + number) for number in range(40)]
WHOLE = b"".join(PIECES)


@pytest.fixture
def made(live: Any) -> Any:
    """Serve what a test puts into it at /api/made."""
    source: list[Any] = []

    async def handler(request: Any) -> None:
        return await write_made(request, source[0](), len(WHOLE))

    server = live.application.ctx.server
    server.server_routes = {**server.server_routes, "GET api/made": handler}
    return source


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
        outgoing = Outgoing(b"head", iter(PIECES))
        left = outgoing.write_to(writer.fileno())
        assert left
        assert not outgoing.ended
        written = len(b"head") + sum(map(len, PIECES[:1])) - sum(map(len, left))
        assert 0 < written < len(PIECES[0])
        writer.close()
        got = bytearray()
        while data := reader.recv(1 << 16):
            got += data
        assert got + b"".join(left) == b"head" + PIECES[0]
