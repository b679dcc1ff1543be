from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dvid_es.http import sendroom
from dvid_es.http.sendroom import ROOM_BYTES, limit_room
from tests.http.quick_rig import Rig


class Transport(asyncio.BaseTransport):
    def __init__(self, connection: socket.socket | None, peer: Any, own: Any) -> None:
        super().__init__({"socket": connection, "peername": peer, "sockname": own})


def room(connection: Any) -> int:
    size: int = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return size


@pytest.fixture
def connection():
    with socket.socket() as one:
        yield one


@pytest.fixture
def granted(monkeypatch):
    monkeypatch.setattr(sendroom, "_is_granted", lambda: True)


@pytest.fixture
def asked(connection):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM_BYTES)
        given = room(one)
    assert given != room(connection)
    return given


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.7"])
def test_a_client_on_this_machine_gets_limited_room(connection, granted, asked, address):
    limit_room(Transport(connection, (address, 4000), (address, 80)))
    assert room(connection) == asked


@pytest.mark.parametrize(
    ("peer", "own"),
    [(("10.0.0.8", 4000), ("10.0.0.7", 80)), ("", "/run/dvid.sock"), (None, None)],
)
def test_any_other_client_keeps_what_the_system_gives(connection, granted, peer, own):
    before = room(connection)
    limit_room(Transport(connection, peer, own))
    assert room(connection) == before


def test_where_the_system_grants_less_nothing_is_asked_for(connection, monkeypatch):
    monkeypatch.setattr(sendroom, "_is_granted", lambda: False)
    before = room(connection)
    limit_room(Transport(connection, ("127.0.0.1", 4000), ("127.0.0.1", 80)))
    assert room(connection) == before


def test_a_connection_without_a_socket_is_let_be(granted):
    limit_room(Transport(None, ("127.0.0.1", 4000), ("127.0.0.1", 80)))


def test_connections_of_the_server_are_limited(settings, granted, asked):
    rig = Rig(settings)
    try:
        (listener,) = rig.listening.server.sockets
        with socket.create_connection(listener.getsockname()):

            async def accepted() -> list[int]:
                async with asyncio.timeout(10):
                    while not rig.listening.connections:
                        await asyncio.sleep(0)
                return [
                    room(one.transport.get_extra_info("socket"))
                    for one in rig.listening.connections
                ]

            assert rig.loop.run_until_complete(accepted()) == [asked]
    finally:
        rig.close()
