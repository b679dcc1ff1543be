"""A moment in the history of a repository, named by a time, as a sequence."""

from datetime import UTC, datetime

from dvid_es.errors import InvalidRequest
from dvid_es.logs.base import Log


def parse_time(text: str) -> int | None:
    """Return the nanoseconds since 1970 of a time such as 2026-05-01T12:00:00Z; None if it is none.

    A time without an offset is UTC.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    whole = int(found.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + found.microsecond * 1000


def sequence_at_time(log: Log, end: int, time_ns: int) -> int:
    """Return the sequence of the last of the first `end` events that are not later than a time.

    Should the clock have been set back, it is the one before the first later event that a search by
    halves meets.

    Raises:
        InvalidRequest: all events are later.
    """
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        (found,) = log.read(middle, middle + 1)
        if found.time_ns <= time_ns:
            low = middle + 1
        else:
            high = middle
    if not low:
        raise InvalidRequest("this repository did not exist at that time")
    return low - 1
