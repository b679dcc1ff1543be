"""How much of an answer the operating system holds for a client on the same machine.

Left alone, it comes to hold all of an answer that is not read yet, megabytes in memory that nobody touched
lately. With less, the same pages are written, read and used again while they are in the processor's
caches: an answer of 2 MiB takes two thirds of the time. A client elsewhere gets what the operating system
finds best, for on a long line it is this room that limits how much is under way.
"""

import asyncio
import socket
import sys
from functools import cache
from typing import Any

ROOM_BYTES = 512 << 10
"""Half of it makes both sides wait for each other."""


def limit_room(transport: asyncio.BaseTransport) -> None:
    """Limit what is held for the client of a new connection, if it is on this machine."""
    connection: Any = transport.get_extra_info("socket")
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    addressed = isinstance(peer, tuple) and isinstance(own, tuple)
    if connection is not None and addressed and peer[0] == own[0] and _is_granted():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM_BYTES)


@cache
def _is_granted() -> bool:
    """Say whether programs may ask for so much: the system would give less without a word."""
    given = (
        2 * ROOM_BYTES if sys.platform == "linux" else ROOM_BYTES
    )  # Linux counts what it needs itself
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM_BYTES)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= given
