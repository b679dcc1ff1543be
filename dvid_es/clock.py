"""The only reader of time and entropy; everything else is given a Clock."""

import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """Source of wall time and of new identifiers."""

    def now_ns(self) -> int:
        """Return the wall time in nanoseconds since 1970, UTC."""

    def new_uuid(self) -> str:
        """Return a random version 4 UUID as 32 lower-case hexadecimal digits."""


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Return the wall time in nanoseconds since 1970, UTC."""
        return time.time_ns()

    def new_uuid(self) -> str:
        """Return a random version 4 UUID as 32 lower-case hexadecimal digits."""
        return uuid.uuid4().hex


class FixedClock:
    """A clock for tests: each reading is one second later, each UUID one higher."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        """Start at `start_ns`."""
        self._now_ns = start_ns
        self._count = 0

    def now_ns(self) -> int:
        """Return one second more than at the last call."""
        self._now_ns += 1_000_000_000
        return self._now_ns

    def new_uuid(self) -> str:
        """Return the next of 0...01, 0...02 and so on."""
        self._count += 1
        return f"{self._count:032x}"
