"""What a running server counts: requests, users, throttled operations."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(slots=True)
class Second:
    """What happened within one second."""

    gets: int = 0
    puts: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Monitor:
    """Counters of one server; only its event loop touches them."""

    def __init__(self, clock: Clock, max_throttled: int) -> None:
        """Start counting now."""
        self.clock = clock
        self.started_ns = clock.now_ns()
        self.active = 0
        """Requests that are being answered."""
        self.users: dict[str, Latency] = {}
        self.max_throttled = max_throttled
        self.throttled = 0
        self.gc_percent = 100
        """What clients of DVID set; Python has no such thing, so it is only remembered."""
        self._second = 0
        self._now = Second()
        self._before = Second()

    def start(self) -> float:
        """Count a request that begins, and return when."""
        self.active += 1
        return asyncio.get_running_loop().time()

    def count(self, method: str, bytes_in: int, bytes_out: int) -> None:
        """Count an answered request."""
        now = self._current()
        if method in ("GET", "HEAD"):
            now.gets += 1
        else:
            now.puts += 1
        now.bytes_in += bytes_in
        now.bytes_out += bytes_out

    def last_second(self) -> Second:
        """Return the counts of the last whole second."""
        self._current()
        return self._before

    def _current(self) -> Second:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._before = self._now if second == self._second + 1 else Second()
            self._now = Second()
            self._second = second
        return self._now

    def ping(self, user: str, started: float) -> None:
        """Note a sign of life of a user, and how long its request took; "" is nobody."""
        if not user:
            return
        milliseconds = int(1000 * (asyncio.get_running_loop().time() - started))
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
