"""The events of one repository for all who follow it: read and rendered once, kept for a while.

Followers that keep up share the newest messages. One that is far behind reads the log for itself, in
pieces, until it has caught up; how slow it is costs nobody else anything.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from itertools import islice

from dvid_es.events import Record, decode
from dvid_es.feed.messages import Declared, Message, message_of
from dvid_es.projections.catalog import Repo
from dvid_es.streams import Stream

EVENTS_PER_READ = 256
KEPT_BYTES = 8 << 20
"""Of JSON, for all followers of a repository together."""


class Tail:
    """The newest messages of a repository. Used from one event loop."""

    def __init__(self, stream: Stream, declared: Declared, executor: Executor) -> None:
        """Start with none."""
        self.stream = stream
        self.followers = 0
        self.closing = False
        """Whether the server is about to stop: followers end, and come back to the next one."""

        self._declared = declared
        self._executor = executor
        self._kept: deque[Message] = deque()
        self._bytes = 0
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def end(self) -> int:
        """Sequence of the next event: all before it are durable and visible."""
        repo = self.stream.repo
        return 0 if repo is None else repo.sequence + 1

    def wake(self) -> None:
        """Note that there are more events; from the event loop."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, start: int, seconds: float) -> None:
        """Wait until there is an event at `start`, or for some time."""
        changed = self._changed
        if self.end <= start:
            try:
                await asyncio.wait_for(changed.wait(), seconds)
            except TimeoutError:
                return

    async def read(self, start: int) -> list[Message]:
        """Return some of the messages from `start` on, in order; none if there is none yet."""
        if start >= self.end:
            return []
        found = self._look_up(start)
        if not found and self._is_far_behind(start):
            return await self._render(start)
        while not found:
            async with self._reading:
                found = self._look_up(start)
                if not found:
                    self._keep(await self._render(start))
                    found = self._look_up(start)
        return found

    def _look_up(self, start: int) -> list[Message]:
        kept = self._kept
        if not kept or not kept[0].sequence <= start <= kept[-1].sequence:
            return []
        first = start - kept[0].sequence
        return list(islice(kept, first, first + EVENTS_PER_READ))

    def _is_far_behind(self, start: int) -> bool:
        return bool(self._kept) and start < self._kept[0].sequence

    async def _render(self, start: int) -> list[Message]:
        stop = min(start + EVENTS_PER_READ, self.end)
        repo = self.stream.repo
        assert repo is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._rendered, repo, start, stop)

    def _rendered(self, repo: Repo, start: int, stop: int) -> list[Message]:
        fetch = self.stream.packs.get
        records: Iterable[Record] = (decode(*one) for one in self.stream.log.read(start, stop))
        return [
            message_of(
                record, repo, self._declared,
                lambda bulk: bulk if isinstance(bulk, bytes) else fetch(bulk),
            )
            for record in records
        ]  # fmt: skip

    def _keep(self, messages: list[Message]) -> None:
        if self._kept and messages and messages[0].sequence != self._kept[-1].sequence + 1:
            self._kept.clear()
            self._bytes = 0
        for message in messages:
            self._kept.append(message)
            self._bytes += len(message.text)
        while self._bytes > KEPT_BYTES and len(self._kept) > EVENTS_PER_READ:
            self._bytes -= len(self._kept.popleft().text)


class Feed:
    """The tails of all repositories that somebody follows."""

    def __init__(self, declared: Declared, executor: Executor) -> None:
        """Render what `declared` knows, in threads of `executor`."""
        self._declared = declared
        self._executor = executor
        self._tails: dict[str, Tail] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def join(self, stream: Stream) -> Tail:
        """Return the tail of a repository for one more follower; `leave` must follow."""
        self._loop = asyncio.get_running_loop()
        tail = self._tails.get(stream.root)
        if tail is None:
            tail = self._tails[stream.root] = Tail(stream, self._declared, self._executor)
        tail.followers += 1
        return tail

    def leave(self, tail: Tail) -> None:
        """Note that a follower is gone; what nobody follows is not kept."""
        tail.followers -= 1
        if not tail.followers:
            self._tails.pop(tail.stream.root, None)

    def close(self) -> None:
        """End all followers; from the event loop."""
        for tail in self._tails.values():
            tail.closing = True
            tail.wake()

    def published(self, repos: list[Repo]) -> None:
        """Wake the followers of repositories; from any thread."""
        loop = self._loop
        tails = self._tails
        # The last follower may leave, and the loop end, at any moment: the writer must not hear of it.
        waking = [tail.wake for repo in repos if (tail := tails.get(repo.root)) is not None]
        if loop is not None and waking:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_all, waking)


def _all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
