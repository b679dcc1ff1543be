"""Memory for large answers: what does not fit waits until another one is through.

A client that stops reading holds what its answer takes. While others wait for that, a client that takes
nothing for `PATIENCE_SECONDS` loses its connection; while nobody waits, it keeps it.
"""

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Any

from sanic import Request
from sanic.http.constants import Stage

SMALL_BYTES = 4 << 20
"""Answers of up to so many bytes wait for nobody and are not counted."""

PATIENCE_SECONDS = 10.0
CHECK_SECONDS = 1.0


logger = logging.getLogger(__name__)


class Budget:
    """Bytes that the large answers of a server may take together; only its event loop touches it."""

    def __init__(self, limit: int) -> None:
        """Give out `limit` bytes."""
        self.limit = limit
        self.taken = 0
        self.most = 0
        """The most bytes that were ever taken."""
        self._holders: dict[Share, None] = {}
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def share(self, size: int, raw: Request) -> "Share":
        """Return a part of the budget, for `async with`; more than all of it counts as all of it.

        It is waited for in the order of asking. An answer takes one share and no second one, has ended its
        transaction, and is sent before it gives it back.
        """
        return Share(self, size, raw)

    async def _take(self, size: int) -> None:
        if self._waiting or self.taken + size > self.limit:
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            entry = (size, turn)
            self._waiting.append(entry)
            self._watch(loop)
            try:
                await turn  # `_give_out` has counted it then
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._count(-size)
                elif entry in self._waiting:
                    self._waiting.remove(entry)
                self._give_out()
                raise
        else:
            self._count(size)

    def _count(self, size: int) -> None:
        self.taken += size
        self.most = max(self.most, self.taken)

    def _give_out(self) -> None:
        """Let those go on, in their order, for whom there is room."""
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self.taken + size > self.limit:
                    return
                self._count(size)
                turn.set_result(None)
            self._waiting.popleft()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_later(CHECK_SECONDS, self._check, loop)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hang up on clients that hold what others wait for and do not read."""
        self._timer = None
        if self._waiting:
            for holder in list(self._holders):
                if holder.is_stalled(loop.time()):
                    logger.warning("hung up on a client that held memory and did not read")
                    holder.hang_up()
            self._watch(loop)


class Share:
    """Some bytes of a budget, taken for one answer."""

    def __init__(self, budget: Budget, size: int, raw: Request) -> None:
        """Take nothing yet."""
        self._budget = budget
        self._raw = raw
        self._size = self._counted(size)
        self._seen: tuple[float, int] | None = None
        self._since = 0.0

    async def __aenter__(self) -> "Share":
        """Wait for the bytes."""
        if self._size:
            await self._budget._take(self._size)
        self._budget._holders[self] = None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give them back."""
        del self._budget._holders[self]
        self._give(self._size)

    async def resize(self, size: int) -> None:
        """Hold another size, now that more is known; more of it may have to be waited for."""
        size = self._counted(size)
        if size <= self._size:
            self._give(self._size - size)
        else:
            # All is given back first, or two that want more would wait for each other.
            self._give(self._size)
            await self._budget._take(size)
            self._size = size

    def _give(self, size: int) -> None:
        self._size -= size
        self._budget._count(-size)
        self._budget._give_out()

    def _counted(self, size: int) -> int:
        return min(size, self._budget.limit) if size > SMALL_BYTES else 0

    def is_stalled(self, now: float) -> bool:
        """Say whether the client has taken nothing for long; to be asked again and again."""
        stream: Any = self._raw.stream
        if not self._size or stream is None or stream.stage is not Stage.RESPONSE:
            return False
        protocol = stream.protocol
        seen = (protocol._time, protocol.transport.get_write_buffer_size())
        if seen != self._seen or not seen[1]:
            self._seen, self._since = seen, now
        return now - self._since > PATIENCE_SECONDS

    def hang_up(self) -> None:
        """Cut the connection: the handler is cancelled, and gives back what it holds."""
        transport: Any = self._raw.transport
        transport.abort()
