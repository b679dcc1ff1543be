"""Answers of the writer on their way to the event loop: one wake-up for a whole batch."""

import asyncio
from collections import deque

from dvid_es.commands import Write, Written
from dvid_es.writer import Writer


class Deliveries:
    """Hands what became of writes to the requests that wait for it."""

    def __init__(self, writer: Writer) -> None:
        """Wait for the answers of this writer."""
        self._writer = writer
        self._ready: deque[Write] = deque()
        self._scheduled = False

    async def written(self, write: Write) -> Written:
        """Queue a write, and return what became of it.

        Cancelling this takes the write back as long as the writer has not begun with it.

        Raises:
            DvidError: it was refused.
        """
        waiter: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        write.waiter = waiter
        write.tell = self._collect
        self._writer.submit(write)
        try:
            return await waiter
        except asyncio.CancelledError:
            write.withdrawn = True
            raise

    def _collect(self, write: Write) -> None:
        """Run by the writer: note an answer, and wake the loop unless that is under way."""
        self._ready.append(write)
        if not self._scheduled:
            self._scheduled = True
            try:
                write.waiter.get_loop().call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has ended, and with it who waited: the writer goes on
                self._scheduled = False

    def _deliver(self) -> None:
        # First this, then the queue: an answer that comes in between wakes the loop once more.
        self._scheduled = False
        while self._ready:
            write = self._ready.popleft()
            waiter = write.waiter
            if waiter.done():
                continue
            if write.written is not None:
                waiter.set_result(write.written)
            else:
                waiter.set_exception(write.problem)
