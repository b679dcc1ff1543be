"""Long answers written to the connection by the kernel threads that make them.

The event loop would hold the interpreter while the operating system copies megabytes, and each way from
thread to thread takes as long as making some of the answer. So threads make parts and write them, as
long as the client keeps up. What the client does not take at once goes the ordinary way, where nobody
waits for it but this answer.
"""

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from sanic.exceptions import RequestCancelled
from sanic.http.constants import Stage

from dvid_es.http.answers import Buffer
from dvid_es.http.headers import encoded_head
from dvid_es.http.node import OCTETS, NodeRequest

logger = logging.getLogger(__name__)

TURN_BYTES = 16 << 20
"""Threads that have written so many bytes let other work have its turn."""


PATIENCE_MS = 2
"""So long a thread waits for a client that is behind: the way to another thread takes about as long."""


class Made(NamedTuple):
    """The body of an answer that is made while it is sent."""

    length: int | None
    """Its bytes; None if that is not known before all of it is made: it goes out in chunks then."""

    parts: Iterator[Callable[[], Buffer]]
    """Each makes some of it, not nothing, in any thread."""

    heavy: bool = True
    """Whether making a part takes so long that two threads make them side by side."""


async def write_made(request: NodeRequest, begin: Callable[[], Made]) -> None:
    """Answer a GET with parts that threads make and write themselves.

    An error in the first part is an ordinary one; later the connection is cut, so that nobody takes half for
    the whole.

    Args:
        request: what is answered; its headers are those of the state that it has read by now.
        begin: called in such a thread first, so that looking something up and answering with it take one way
            to a thread; it ends the transaction of the request.
    """
    stream: Any = request.raw.stream
    response = await request.raw.respond(
        status=200,
        headers={
            **request.common_headers(),
            "connection": "keep-alive" if stream.keep_alive else "close",
        },
        content_type=OCTETS,
    )
    outgoing = Outgoing(encoded_head(response), begin, request.engine.pool.submit)
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
    """Have parts made and written by threads; return what is made and not written."""
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
    """An answer under way: its head and its parts.

    One thread makes a part while another one writes the part before, if there is a thread to spare.
    """

    def __init__(
        self, head: bytes, begin: Callable[[], Made], submit: Callable[..., Future[None]]
    ) -> None:
        """Make nothing yet.

        Args:
            head: without what says how long the body is.
            begin: gives the body.
            submit: calls a function in another thread, soon or never.
        """
        self._head = head.removesuffix(b"\r\n")
        self._begin = begin
        self._submit = submit
        self._body: Made | None = None
        self._changed = threading.Condition()  # guards what follows while two threads write
        self._taken = 0  # parts that are made or in the making
        self._written = 0  # parts that are written, or left to be
        self._bytes = 0  # written in this turn
        self._left: list[Buffer] = []
        self._failure: BaseException | None = None
        self.begun = False
        """Whether some of it may have been written."""
        self.ended = False
        """Whether there are no more parts."""

    def make(self) -> list[Buffer]:
        """Return the next part, the first one behind the head."""
        body = self._open()
        number, part = self._take(body)
        framed = self._framed(body, number, part())
        self._written = self._taken
        self.begun = True
        return framed

    def write_to(self, socket: int) -> list[Buffer]:
        """Make parts and write them to a socket that does not wait.

        Returns:
            What was made and is left because the client is slow, or gone.
        """
        body = self._open()
        self._bytes, self._left = 0, []
        helper: Future[None] | None = None
        if body.heavy:
            with contextlib.suppress(RuntimeError):  # the server stops, and takes on nothing new
                helper = self._submit(self._write_parts, body, socket)
        self._write_parts(body, socket)
        if helper is not None and not helper.cancel():
            helper.result()
        if self._failure is not None:
            raise self._failure
        return self._left

    def _open(self) -> Made:
        if self._body is None:
            self._body = self._begin()
        return self._body

    def _take(self, body: Made) -> tuple[int, Callable[[], Buffer]]:
        """Return number and maker of the next part; the one behind the last is empty."""
        number, self._taken = self._taken, self._taken + 1
        part = next(body.parts, None)
        self.ended = part is None
        return number, part or bytes

    def _framed(self, body: Made, number: int, piece: Buffer) -> list[Buffer]:
        """Return what is sent for a part, the first one behind the head."""
        if body.length is None:
            end, framed = b"transfer-encoding: chunked", [b"%x\r\n" % len(piece), piece, b"\r\n"]
        else:
            end, framed = b"content-length: %d" % body.length, [piece] if piece else []
        return framed if number else [self._head + end + b"\r\n\r\n", *framed]

    def _write_parts(self, body: Made, socket: int) -> None:
        """Make parts and write each when its turn comes, until all is done or the client is slow."""
        try:
            while True:
                with self._changed:
                    if self._is_over():
                        return
                    number, part = self._take(body)
                pieces = self._framed(body, number, part())
                with self._changed:
                    while self._written != number and self._failure is None:
                        self._changed.wait()
                    if self._failure is not None:
                        return
                    self.begun = True
                # Nobody else gets this far before the part is counted as written.
                size = sum(map(len, pieces))
                self._left += pieces if self._left else _write(socket, pieces)
                del pieces  # its memory may be that of the next part
                with self._changed:
                    self._written, self._bytes = number + 1, self._bytes + size
                    self._changed.notify_all()
        except BaseException as failure:
            with self._changed:
                self._failure = self._failure or failure
                self._changed.notify_all()

    def _is_over(self) -> bool:
        """Say whether this turn has come to its end."""
        full = self._bytes >= TURN_BYTES
        return self.ended or full or bool(self._left) or self._failure is not None


def _write(socket: int, buffers: list[Buffer]) -> list[Buffer]:
    """Write to a socket that does not wait; return what it does not take."""
    while buffers:
        try:
            size = os.writev(socket, buffers)
        except BlockingIOError:
            if not _is_ready(socket):
                break
        except ConnectionError:
            break
        else:
            buffers = _behind(buffers, size)
    return buffers


def _is_ready(socket: int) -> bool:
    """Wait a moment for a client that is only just behind; say whether it is not any more."""
    ready = select.poll()
    ready.register(socket, select.POLLOUT)
    return bool(ready.poll(PATIENCE_MS))


def _behind(buffers: list[Buffer], size: int) -> list[Buffer]:
    """Return buffers without the first `size` bytes."""
    left = list[Buffer]()
    for buffer in buffers:
        if size < len(buffer):
            left.append(memoryview(buffer)[size:])
        size = max(0, size - len(buffer))
    return left
