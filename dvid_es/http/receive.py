"""Large request bodies, received into memory of the right size.

Sanic collects a body in pieces and joins them, which for 128 MiB costs more than everything that is then
done with them: the operating system hands out fresh pages, twice, and each byte is copied five times.
Here the operating system writes the body to where it stays.
"""

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sanic import Request

LARGE_BYTES = 1 << 20
"""Bodies from this size on are received here, for handlers that take a buffer for bytes."""

KEPT_BYTES = 128 << 20
"""Most memory that is kept for the next bodies."""

KEPT_SECONDS = 20.0
"""How long it is kept without another large body."""


class Buffers:
    """Memory of bodies that nobody looks at any more, for those that follow soon.

    Who writes a volume sends many bodies of one size, and fresh pages are cleared by the operating
    system, which takes as long as receiving does.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: list[NDArray[np.uint8]] = []
        self._back: deque[NDArray[np.uint8]] = deque()
        """Came back, and is not among the kept yet."""
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, length: int) -> memoryview:
        """Return memory for a body, which comes back when the last view of it is gone."""
        with self._lock:
            self._taken += 1
            fits = [place for place, one in enumerate(self._kept) if one.nbytes == length]
            # numpy asks for huge pages, which bytearray does not.
            memory = self._kept.pop(fits[-1]) if fits else np.empty(length, np.uint8)
        self._settle()
        loop = asyncio.get_running_loop()
        loop.call_later(KEPT_SECONDS, self._forget, self._taken)
        lease = memory[:]
        weakref.finalize(lease, self._give, memory).atexit = False
        return memoryview(lease)

    def _give(self, memory: NDArray[np.uint8]) -> None:
        """Keep memory that came back.

        Any thread may have held its last view, also one that is in here: a collection of garbage may begin
        anywhere. So this waits for nobody.
        """
        self._back.append(memory)
        self._settle()

    def _settle(self) -> None:
        """Keep what came back, as far as it is not too much; who holds the lock does it for others."""
        while self._back and self._lock.acquire(blocking=False):
            try:
                while self._back:
                    self._kept.append(self._back.popleft())
                while sum(one.nbytes for one in self._kept) > KEPT_BYTES:
                    self._kept.pop(0)
            finally:
                self._lock.release()

    def _forget(self, taken: int) -> None:
        """Let go of all if nothing was taken since."""
        with self._lock:
            if taken == self._taken:
                self._kept.clear()
        self._settle()


BUFFERS = Buffers()


def _ignore(body: memoryview, count: int) -> None:
    """Do nothing while a body arrives."""


def announced_bytes(raw: Request) -> int:
    """Return the length of a body that a header announces; 0 if none does."""
    text: str = raw.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


class Arriving:
    """A large body that is not received yet: for handlers that begin to work on it meanwhile."""

    def __init__(self, raw: Request, length: int) -> None:
        """Receive nothing yet.

        Args:
            raw: the request.
            length: bytes of the body, as its header announces.
        """
        self._raw = raw
        self._length = length

    def __len__(self) -> int:
        """Return the bytes of the whole body."""
        return self._length

    async def receive(self, arrived: Callable[[memoryview, int], None] = _ignore) -> memoryview:
        """Return the body.

        Args:
            arrived: told on the event loop, again and again, of the memory of the body and how many bytes
                of it are there; those do not change any more.
        """
        return await receive_into_buffer(self._raw, self._length, arrived)


async def receive_whole(request: Any) -> None:
    """Receive the body of a request (a NodeRequest) whose handler has not done so."""
    if isinstance(request.body, Arriving):
        request.body = await request.body.receive()


async def receive_into_buffer(
    raw: Request, length: int, arrived: Callable[[memoryview, int], None] = _ignore
) -> memoryview:
    """Return a body of `length` bytes, as its header announced and Sanic enforces."""
    body = BUFFERS.take(length)
    at = 0
    stream: Any = raw.stream
    assert stream is not None, "the body was received before"
    # The first read also tells the client to go on, and refuses bodies that are too large.
    while at < length and (not at or stream.recv_buffer):
        data = await stream.read()
        if not data:
            return body[:at]
        body[at : at + len(data)] = data
        at += len(data)
    if at < length:
        await _Receiver(stream.protocol, body, at, arrived).receive()
        stream.request_bytes_left = 0
    await stream.read()  # lets Sanic note that this was the end
    arrived(body, length)
    return body


class _Receiver(asyncio.BufferedProtocol):
    """Stands in for Sanic's protocol of a connection while the rest of a body comes in."""

    def __init__(
        self, protocol: Any, body: memoryview, at: int, arrived: Callable[[memoryview, int], None]
    ) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._body = body
        self._rest = body[at:]
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._received = self._loop.create_future()

    async def receive(self) -> None:
        """Return when all bytes are there; a client that hangs up cancels the caller, as ever."""
        transport = self._transport
        # Paused, as a transport looks at the kind of its protocol when it starts to read.
        transport.pause_reading()
        transport.set_protocol(self)
        transport.resume_reading()
        try:
            await self._received
        finally:
            if not transport.is_closing():
                transport.pause_reading()
                transport.set_protocol(self._protocol)
                transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._rest

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol._time = self._loop.time()  # when Sanic last heard of the client
        self._rest = self._rest[nbytes:]
        self._arrived(self._body, len(self._body) - len(self._rest))
        if not self._rest:
            self._transport.pause_reading()
            self._received.set_result(None)

    def eof_received(self) -> Any:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
