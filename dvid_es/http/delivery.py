"""Answers of the writer on their way to the event loop: one wake-up for a whole batch.

`asyncio.wrap_future` wakes the loop once for each future, and a batch ends many of them at once.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from functools import partial

from dvid_es.writer import Write, Writer, Written


class Deliveries:
    """Hands what became of writes to the requests that wait for it."""

    def __init__(self, writer: Writer) -> None:
        """Wait for the answers of this writer."""
        self._writer = writer
        self._ready: deque[tuple[asyncio.Future[Written], Future[Written]]] = deque()
        self._scheduled = False

    def submit(self, write: Write) -> "asyncio.Future[Written]":
        """Queue a write; the future is of the running loop.

        Cancelling it takes the write back as long as the writer has not begun with it.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Written] = loop.create_future()
        done = self._writer.submit(write)
        done.add_done_callback(partial(self._collect, loop, waiter))
        waiter.add_done_callback(partial(_take_back, done))
        return waiter

    def _collect(
        self,
        loop: asyncio.AbstractEventLoop,
        waiter: "asyncio.Future[Written]",
        done: "Future[Written]",
    ) -> None:
        """Run by the writer: note an answer, and wake the loop unless that is under way."""
        self._ready.append((waiter, done))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First this, then the queue: an answer that comes in between wakes the loop once more.
        self._scheduled = False
        while self._ready:
            waiter, done = self._ready.popleft()
            if waiter.done() or done.cancelled():
                continue
            problem = done.exception()
            if problem is None:
                waiter.set_result(done.result())
            else:
                waiter.set_exception(problem)


def _take_back(done: "Future[Written]", waiter: "asyncio.Future[Written]") -> None:
    if waiter.cancelled():
        done.cancel()
