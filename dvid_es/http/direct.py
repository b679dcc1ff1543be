"""Long answers written to the connection by the kernel thread that makes them.

The event loop would hold the interpreter while the operating system copies megabytes, and each way from
thread to thread takes as long as making some of the answer. So a thread makes pieces and writes them, as
long as the client keeps up. What the client does not take at once goes the ordinary way, where nobody
waits for it but this answer.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any

from sanic.exceptions import RequestCancelled
from sanic.http.constants import Stage

from dvid_es.http.answers import Buffer
from dvid_es.http.headers import encoded_head
from dvid_es.http.node import OCTETS, NodeRequest

logger = logging.getLogger(__name__)

TURN_BYTES = 16 << 20
"""A thread that has written so many bytes lets other work have its turn."""


async def write_made(request: NodeRequest, pieces: Iterator[Buffer], length: int) -> None:
    """Answer a GET with pieces, of which the iterator makes each, in a thread, when it is wanted.

    The transaction of the request must have ended. An error in the first piece is an ordinary one; later
    the connection is cut, so that nobody takes half for the whole.

    Args:
        request: what is answered.
        pieces: none of them is empty.
        length: bytes of all of them.
    """
    stream: Any = request.raw.stream
    response = await request.raw.respond(
        status=200,
        headers={
            **request.common_headers(),
            "content-length": str(length),
            "connection": "keep-alive" if stream.keep_alive else "close",
        },
        content_type=OCTETS,
    )
    outgoing = Outgoing(encoded_head(response), pieces)
    # What Sanic notes when it has sent the head; the bytes of the body are not counted for it.
    stream.stage, stream.response_func = Stage.RESPONSE, stream.http1_response_normal
    stream.response_bytes_left = 0
    try:
        while not outgoing.ended:
            for piece in await _write_some(request, stream.protocol, outgoing):
                await stream.protocol.send(piece)
    except Exception:
        if not outgoing.begun:
            # As if nobody had begun to answer.
            stream.stage, stream.response_func = Stage.HANDLER, stream.http1_response_header
            stream.response, request.raw.responded = None, False
            raise
        logger.exception("the answer to %s %s was cut short", request.method, request.path)
        stream.protocol.transport.abort()
        return
    await response.eof()


async def _write_some(request: NodeRequest, protocol: Any, outgoing: "Outgoing") -> list[Buffer]:
    """Have pieces made and written by a thread; return what is made and not written."""
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise RequestCancelled
    if transport.get_write_buffer_size() or transport.get_extra_info("sslcontext"):
        return await request.in_thread(outgoing.make)
    # If the client hangs up meanwhile, the number of its own socket is soon another client's.
    socket = os.dup(transport.get_extra_info("socket").fileno())
    try:
        return await request.in_thread(outgoing.write_to, socket)
    finally:
        os.close(socket)
        protocol._time = protocol.loop.time()  # when Sanic last heard of the client


class Outgoing:
    """An answer under way: its head and its pieces."""

    def __init__(self, head: bytes, pieces: Iterator[Buffer]) -> None:
        """Make nothing yet."""
        self._head = head
        self._pieces = pieces
        self.begun = False
        """Whether some of it may have been written."""
        self.ended = False
        """Whether there are no more pieces."""

    def make(self) -> list[Buffer]:
        """Return the next piece, the first one behind the head; nothing at the end."""
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
            return []
        made = [piece] if self.begun else [self._head, piece]
        self.begun = True
        return made

    def write_to(self, socket: int) -> list[Buffer]:
        """Make pieces and write them to a socket that does not wait.

        Returns:
            What was made and is left because the client is slow, or gone.
        """
        written = 0
        while written < TURN_BYTES and (left := self.make()):
            while left:
                try:
                    size = os.writev(socket, left)
                except (BlockingIOError, ConnectionError):
                    return left
                written += size
                left = _behind(left, size)
        return []


def _behind(buffers: list[Buffer], size: int) -> list[Buffer]:
    """Return buffers without the first `size` bytes."""
    left = list[Buffer]()
    for buffer in buffers:
        if size < len(buffer):
            left.append(memoryview(buffer)[size:])
        size = max(0, size - len(buffer))
    return left
