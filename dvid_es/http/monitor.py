"""What a running server counts: requests, users, throttled operations."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dvid_es.clock import Clock
from dvid_es.errors import InvalidRequest, Overloaded

USERS_MAX = 10_000


@dataclass(slots=True)
class Latency:
    """Signs of life of one user."""

    last_ping_ns: int = 0
    last_ms: int = 0
    least_ms: int = 0
    most_ms: int = 0


class Rates(NamedTuple):
    """What happened in a second, on average since it was asked for before."""

    gets: int
    puts: int
    bytes_in: int
    bytes_out: int
    disk_read: int
    disk_written: int


class Monitor:
    """Counters of one server; only its event loop touches them."""

    def __init__(self, clock: Clock, max_throttled: int) -> None:
        """Start counting now."""
        self.clock = clock
        self.started_ns = clock.now_ns()
        self.active = 0
        """Requests that are being answered."""
        self.gets = self.puts = self.bytes_in = self.bytes_out = 0
        """Answered requests, and bytes of their bodies (of what was not streamed)."""
        self.users: dict[str, Latency] = {}
        self.max_throttled = max_throttled
        self.throttled = 0
        self.gc_percent = 100
        """What clients of DVID set; Python has no such thing, so it is only remembered."""
        self.info: tuple[str, ...] = ()
        """What server/info says that does not change, before and behind its times; made on demand."""
        self._before = self._totals()
        self._asked_ns = self.started_ns

    @staticmethod
    def now() -> float:
        """Return seconds of the event loop's clock, never 0."""
        return asyncio.get_running_loop().time() or 1e-9

    def _totals(self) -> Rates:
        return Rates(self.gets, self.puts, self.bytes_in, self.bytes_out, *_disk_bytes())

    def rates(self) -> Rates:
        """Return what happened per second since this was asked for before."""
        now_ns = self.clock.now_ns()
        totals, before = self._totals(), self._before
        seconds = max((now_ns - self._asked_ns) / 1e9, 1e-3)
        self._before, self._asked_ns = totals, now_ns
        return Rates(
            *(round((now - then) / seconds) for now, then in zip(totals, before, strict=True))
        )

    def ping(self, user: str, started: float) -> None:
        """Note a sign of life of a user, and how long its request took; "" is nobody."""
        if not user:
            return
        milliseconds = int(1000 * (self.now() - started))
        known = self.users.pop(user, None)
        if known is None:
            if len(self.users) >= USERS_MAX:
                del self.users[next(iter(self.users))]  # silent for the longest time
            known = Latency(least_ms=milliseconds)
        known.last_ping_ns = self.clock.now_ns()
        known.last_ms = milliseconds
        known.least_ms = min(known.least_ms, milliseconds)
        known.most_ms = max(known.most_ms, milliseconds)
        self.users[user] = known

    @contextmanager
    def throttle(self) -> Iterator[None]:
        """Take one of the places for throttled operations.

        Raises:
            Overloaded: all are taken.
        """
        if self.throttled >= self.max_throttled:
            raise Overloaded(
                f"Server already running {self.throttled} throttled operations"
                f" (max = {self.max_throttled})"
            )
        self.throttled += 1
        try:
            yield
        finally:
            self.throttled -= 1

    def set_max_throttled(self, number: int) -> int:
        """Set the number of places; return the one before.

        Raises:
            InvalidRequest: less than one.
        """
        if number < 1:
            raise InvalidRequest(f"throttle must be at least 1, not {number}")
        before, self.max_throttled = self.max_throttled, number
        return before


def _disk_bytes() -> tuple[int, int]:
    """Return bytes that this process has had the disk read and write; 0 where nobody counts them."""
    try:
        lines = Path("/proc/self/io").read_text("ascii").splitlines()
    except OSError:
        return 0, 0
    found = dict(line.split(": ") for line in lines)
    return int(found.get("read_bytes", 0)), int(found.get("write_bytes", 0))
