"""A small write on the short way: its handler is run by hand, without a task and a future.

It waits for nothing but what becomes of its write, and goes on when the event loop hears of that.
"""

import logging
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
    """The answer to a small write; all of it but `_told` is for the event loop."""

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

    def begin(self) -> None:
        """Let the handler go as far as its write."""
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
        """Run by the writer."""
        self._deliveries.deliver(self._protocol.loop, lambda: self._heard(write))

    def _heard(self, write: Write) -> None:
        try:
            if self._go_on(write):
                self._end()
        except Exception:
            logger.exception("a write ended without an answer")
            self._protocol.close()

    def _end(self) -> None:
        """Count and send the answer, then look at what the client has sent meanwhile."""
        self._request.finish()
        assert self._response is not None
        body = self._response.body or b""
        monitor = self._request.server.monitor
        monitor.active -= 1
        monitor.puts += 1
        monitor.bytes_in += len(self._request.body)
        monitor.bytes_out += len(body)
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            transport.write(last_head(self._response, "POST") + body)
            self._protocol.answered()
