"""Answers of the writer on their way to the event loop: one wake-up for a whole batch."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from dvid_es.commands import Write, Written
from dvid_es.writer import Writer


class Deliveries:
    """Hands what became of writes to the requests that wait for it."""

    def __init__(self, writer: Writer) -> None:
        """Wait for the answers of this writer."""
        self._writer = writer
        self._ready: deque[Callable[[], None]] = deque()
        self._scheduled = False

    async def written(self, write: Write) -> Written:
        """Queue a write, and return what became of it.

        Cancelling this takes the write back as long as the writer has not begun with it.

        Raises:
            DvidError: it was refused.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Written] = loop.create_future()
        write.tell = lambda told: self.deliver(loop, partial(_settle, waiter, told))
        self.submit(write)
        try:
            return await waiter
        except asyncio.CancelledError:
            write.withdrawn = True
            raise

    def submit(self, write: Write) -> None:
        """Queue a write; it tells in the writer's thread what became of it.

        Raises:
            WritesHalted: too many are waiting.
        """
        self._writer.submit(write)

    def deliver(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Have the event loop call this, which must not raise; by the writer."""
        self._ready.append(call)
        if not self._scheduled:
            self._scheduled = True
            try:
                loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has ended, and with it who waited: the writer goes on
                self._scheduled = False

    def _deliver(self) -> None:
        # First this, then the queue: an answer that comes in between wakes the loop once more.
        self._scheduled = False
        while self._ready:
            self._ready.popleft()()


def _settle(waiter: "asyncio.Future[Written]", write: Write) -> None:
    if waiter.done():
        return
    if write.written is not None:
        waiter.set_result(write.written)
    else:
        waiter.set_exception(write.problem or RuntimeError("told of nothing"))
