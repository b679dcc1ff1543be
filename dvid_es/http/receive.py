"""Large request bodies, received into memory of the right size.

Sanic collects a body in pieces and joins them, which for 128 MiB costs more than everything that is then
done with them: the operating system hands out fresh pages, twice, and each byte is copied five times.
Here the operating system writes the body to where it stays.
"""

import asyncio
from typing import Any

import numpy as np
from sanic import Request

LARGE_BYTES = 1 << 20
"""Bodies from this size on are received here, for handlers that take a buffer for bytes."""


def announced_bytes(raw: Request) -> int:
    """Return the length of a body that a header announces; 0 if none does."""
    text: str = raw.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


async def receive_into_buffer(raw: Request, length: int) -> memoryview:
    """Return a body of `length` bytes, as its header announced and Sanic enforces."""
    # numpy asks for huge pages, which bytearray does not.
    body = memoryview(np.empty(length, np.uint8))
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
        await _Receiver(stream.protocol, body[at:]).receive()
        stream.request_bytes_left = 0
    await stream.read()  # lets Sanic note that this was the end
    return body


class _Receiver(asyncio.BufferedProtocol):
    """Stands in for Sanic's protocol of a connection while the rest of a body comes in."""

    def __init__(self, protocol: Any, rest: memoryview) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._rest = rest
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
