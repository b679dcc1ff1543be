"""A small write on the short way: its handler goes on in whatever thread brings the news.

A task, a future and the way back to the event loop take as long as deciding a merge. So a handler marked
`quick_write` is run by hand, and waits for nothing but what becomes of its write. Who writes alone gets the
answer from the writer's own thread, which has nobody else to see to; all others get it from the event loop.
"""

import logging
import os
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any

from sanic.response import HTTPResponse

from dvid_es.commands import Write, Written
from dvid_es.errors import WritesHalted
from dvid_es.http.errors import answer_of
from dvid_es.http.headers import last_head
from dvid_es.http.node import NodeRequest

if TYPE_CHECKING:
    from dvid_es.http.quick import QuickProtocol

logger = logging.getLogger(__name__)


@coroutine
def outcome(write: Write) -> Generator[Write, Written, Written]:
    """Return what became of a write, to a handler that a `QuickWrite` runs.

    Raises:
        DvidError: it was refused.
    """
    return (yield write)


class QuickWrite:
    """The answer to a small write; only one thread at a time has to do with it."""

    def __init__(
        self,
        protocol: "QuickProtocol",
        request: NodeRequest,
        handler: Coroutine[Any, Any, HTTPResponse | None],
    ) -> None:
        """Begin nothing yet."""
        self._protocol = protocol
        self._request = request
        self._handler = handler
        self._deliveries = request.server.deliveries
        self._write: Write | None = None
        self._response: HTTPResponse | None = None
        self._left: bytes | None = None
        """What the writer's thread did not get rid of; None if it has not tried."""
        self._socket = -1
        """The connection's, by a number of our own: when the client hangs up, its number is soon another's."""

    def begin(self) -> None:
        """Let the handler go as far as its write; by the event loop, like `withdraw`."""
        transport: Any = self._protocol.transport
        socket = transport.get_extra_info("socket")
        if (
            self._deliveries.are_few
            and socket is not None
            and not transport.get_extra_info("sslcontext")
            and not transport.get_write_buffer_size()
        ):
            self._socket = os.dup(socket.fileno())
        self._request.server.monitor.active += 1
        if self._go_on(None):
            self._end()

    def withdraw(self) -> None:
        """Take the write back unless the writer has begun with it: the client has hung up."""
        if self._write is not None:
            self._write.withdrawn = True

    def _go_on(self, said: Write | None) -> bool:
        """Let the handler go on until it waits for a write, or has answered; say whether it has."""
        while (write := self._step(said)) is not None:
            self._write, write.tell = write, self._told
            try:
                self._deliveries.submit(write)
            except WritesHalted as problem:
                write.problem, said = problem, write
            else:
                return False
        return True

    def _step(self, said: Write | None) -> Write | None:
        """Return the write that the handler waits for next; None if there is a response."""
        request = self._request
        try:
            if said is not None and said.problem is not None:
                waiting: Write = self._handler.throw(said.problem)
            else:
                waiting = self._handler.send(None if said is None else said.written)
            return waiting
        except StopIteration as end:
            response = end.value
            assert response is not None, "a quick write answers in one piece"
        except Exception as problem:
            response = answer_of(problem, request.method, request.path)
        response.headers.update(request.common_headers())
        self._response = response
        return None

    def _told(self, write: Write) -> None:
        """Run by the writer: answer unless others wait for it, and let the event loop do the rest."""
        if write.alone and self._socket >= 0:
            try:
                if not self._go_on(write):
                    return
                self._left = _unsent(self._socket, self._answer())
            except Exception:
                logger.exception("the writer's thread could not answer a write")
        self._deliveries.deliver(self._protocol.loop, self._end)

    def _answer(self) -> bytes:
        assert self._response is not None
        return last_head(self._response, "POST") + (self._response.body or b"")

    def _end(self) -> None:
        """Send what is not sent, count, and look at what the client has sent meanwhile."""
        try:
            if self._response is None and not self._go_on(self._write):
                return
            self._count()
            transport = self._protocol.transport
            if transport is None or transport.is_closing():
                return
            left = self._answer() if self._left is None else self._left
            if left:
                transport.write(left)
        except Exception:
            logger.exception("a write ended without an answer")
            self._protocol.close()
            return
        self._protocol.answered()

    def _count(self) -> None:
        self._request.finish()
        monitor = self._request.server.monitor
        monitor.active -= 1
        monitor.puts += 1
        monitor.bytes_in += len(self._request.body)
        assert self._response is not None
        monitor.bytes_out += len(self._response.body or b"")
        if self._socket >= 0:
            os.close(self._socket)


def _unsent(socket: int, data: bytes) -> bytes:
    """Write to a socket that does not wait; return what it did not take."""
    try:
        return data[os.write(socket, data) :]
    except BlockingIOError:
        return data
    except ConnectionError:
        return b""  # the event loop hears of it as well
