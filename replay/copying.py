"""A repository as it was after one of its events, in a data folder of its own."""

import shutil
from pathlib import Path

from dvid_es.errors import InvalidRequest
from dvid_es.events import decode_headers
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.logs.base import Entry, Log
from dvid_es.replay.catchup import Progress

_EVENTS_PER_APPEND = 2000


def copy_events(source: Log, target: Log, stop: int, progress: Progress | None = None) -> None:
    """Append the first `stop` events of a log to an empty one, and make them durable.

    Raises:
        InvalidRequest: the target has events, or the source has fewer.
        CorruptLog: an event of the source is damaged.
        StorageFull: no space.
    """
    if target.end or stop > source.end:
        raise InvalidRequest(
            f"{target.end} events are there, {source.end} can be had: none is copied"
        )
    for start in range(0, stop, _EVENTS_PER_APPEND):
        some = source.read(start, min(start + _EVENTS_PER_APPEND, stop))
        target.append([Entry(*stored[1:]) for stored in some])
        if progress is not None:
            progress(source.stream_id, target.end, stop)
    target.sync()


def copy_packs(source: Path, target: Path) -> None:
    """Copy the packs of a repository that nobody writes to."""
    if source.is_dir():
        shutil.copytree(source, target)


def stop_of_mutation(log: Log, mutation_id: int) -> int:
    """Return the number of events up to the last one of a mutation, which is included.

    Raises:
        InvalidRequest: no event has this id.
    """
    assert mutation_id >= FIRST_MUTATION_ID
    found = -1
    for start in range(0, log.end, _EVENTS_PER_APPEND):
        some = list(log.read(start, min(start + _EVENTS_PER_APPEND, log.end)))
        headers = decode_headers([stored.header for stored in some])
        for stored, header in zip(some, headers, strict=True):
            if header.mutation_id == mutation_id:
                found = stored.offset
    if found < 0:
        raise InvalidRequest(f"{mutation_id} is the id of no mutation of this repository")
    return found + 1
