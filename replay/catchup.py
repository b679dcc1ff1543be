"""At start: apply what the projections have not seen yet."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dvid_es.errors import CorruptStore, LogUnavailable, StorageFull, WritesHalted
from dvid_es.events import BY_CLASS, Record, decode
from dvid_es.logs.base import Log
from dvid_es.projections.catalog import checkpoint
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.streams import Stream

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Hears of a repository's root UUID, how many of its events are applied, and how many there are."""

EVENTS_PER_TRANSACTION = 10_000
BYTES_PER_TRANSACTION = 4 << 20
"""Facts and headers of one transaction: bounds its memory, and what a crash does again."""

POSTPONED_EVENTS_MAX = 100_000
"""Events that a server may keep in memory until there is space to apply them."""


@dataclass(slots=True)
class Setbacks:
    """Repositories that could not be brought up to their logs, though others could."""

    failed: dict[str, str] = field(default_factory=dict)
    """Why, by root UUID: an event that cannot be applied. What is before it is applied."""

    postponed: dict[str, list[Record]] = field(default_factory=dict)
    """What remains to be applied, by root UUID, because the disk is full."""

    awaited: list[str] = field(default_factory=list)
    """Root UUIDs of those whose brokers do not answer: what their logs hold is not known. They are
    shown as the projections have them."""


def catch_up(
    store: Store,
    streams: Iterable[Stream],
    projector: Projector,
    progress: Progress | None = None,
    upto: Mapping[str, int] | None = None,
    setbacks: Setbacks | None = None,
) -> int:
    """Fold all events that `store` lacks, publish each stream's documents; return their number.

    Args:
        store: what is behind.
        streams: the logs to read.
        projector: applies the events.
        progress: hears of each transaction.
        upto: by root UUID, the offset to stop before; all events where it names none.
        setbacks: if given, is told of repositories that stay behind, and the others go on.

    Raises:
        CorruptStore: the store is ahead of a log: log files are missing. Without `setbacks`: an event
            cannot be applied.
        CorruptLog: an event is damaged or unknown.
        LogUnavailable: brokers do not answer, and no `setbacks`.
        StorageFull: no space, and no `setbacks`, or too much for them.
    """
    streams = list(streams)
    held = checkpoints(store)
    ends = {stream.root: stream.log.end for stream in streams}
    if setbacks is not None:
        setbacks.awaited = [stream.root for stream in streams if not is_known(stream.log)]
        ends |= {root: held.get(root, 0) for root in setbacks.awaited}
    check_not_ahead(held, ends)
    applied = 0
    for stream in streams:
        if setbacks is not None and stream.root in setbacks.awaited:
            stream.awaited = True
            _show(store, stream)
            continue
        end = stream.log.end
        if upto is not None:
            end = min(end, upto.get(stream.root, end))
        applied += _catch_up_one(store, stream, projector, progress, end, setbacks)
    return applied


def is_known(log: Log) -> bool:
    """Say whether it is known what a log holds."""
    try:
        log.settle()
    except LogUnavailable:
        return False
    except WritesHalted:
        return True
    return True


def follow(store: Store, stream: Stream, projector: Projector, stop: int) -> None:
    """Fold the events that `store` lacks, up to the offset `stop`, and publish the documents.

    Raises:
        CorruptStore: an event cannot be applied, or the store is ahead: events are missing.
        CorruptLog: an event is damaged or unknown.
        LogUnavailable: no broker answers; what was applied stays.
        StorageFull: no space; what was applied stays.
    """
    with store.read(stream.root) as reading:
        check_not_ahead({stream.root: checkpoint(reading)}, {stream.root: stream.log.end})
    try:
        _catch_up_one(store, stream, projector, None, stop, None)
    except BaseException:
        _show(store, stream)  # what was applied before
        raise


def checkpoints(store: Store) -> dict[str, int]:
    """Return, by root UUID, how many events of each repository a store holds; none with 0."""
    found = {}
    for root in store.roots:
        with store.read(root) as txn:
            position = checkpoint(txn)
        if position:
            found[root] = position
    return found


def check_not_ahead(held: Mapping[str, int], ends: Mapping[str, int]) -> None:
    """Refuse a store that holds events which the logs lack.

    Args:
        held: by root UUID, how many events the store holds.
        ends: by root UUID, how many events each log holds.

    Raises:
        CorruptStore: saying both numbers.
    """
    for root, position in held.items():
        end = ends.get(root, 0)
        if position > end:
            raise CorruptStore(
                f"repository {root}: the projections hold {position} events, its log only {end}."
                " Log files are missing: put them back, or accept the loss and rebuild from what"
                " is there: dvid-es rebuild"
            )


def _catch_up_one(
    store: Store,
    stream: Stream,
    projector: Projector,
    progress: Progress | None,
    end: int,
    setbacks: Setbacks | None,
) -> int:
    with store.read(stream.root) as reading:
        start = position = checkpoint(reading)
    if position < end:
        try:
            for records in _batches(stream.log, position, end):
                position = _apply(store, stream, projector, records)
                if progress is not None:
                    progress(stream.root, position, end)
        except _CannotApply as stopped:
            position = stopped.offset
            if setbacks is None:
                raise CorruptStore(f"repository {stream.root}: {stopped}") from stopped.__cause__
            setbacks.failed[stream.root] = str(stopped)
            logger.error("writing of repository %s is halted: %s", stream.root, stopped)
        except StorageFull as full:
            if setbacks is None or end - position > POSTPONED_EVENTS_MAX:
                raise
            setbacks.postponed[stream.root] = [
                decode(*stored) for stored in stream.log.read(position, end)
            ]
            logger.error("repository %s lacks %d events: %s", stream.root, end - position, full)
        logger.info("applied %d events of repository %s", position - start, stream.root)
    _show(store, stream)
    return position - start


def _show(store: Store, stream: Stream) -> None:
    """Publish what the projections say of a repository."""
    with store.read(stream.root, stream.packs) as reading:
        if position := checkpoint(reading):
            stream.publish(reading.repo, position - 1)


class _CannotApply(Exception):
    """A fold raised on a stored event; its cause is what it raised."""

    def __init__(self, record: Record, problem: Exception) -> None:
        super().__init__(
            f"the event at offset {record.offset} ({BY_CLASS[type(record.event)].name}) cannot be"
            f" applied: {str(problem) or repr(problem)}"
        )
        self.offset = record.offset


def _apply(store: Store, stream: Stream, projector: Projector, records: list[Record]) -> int:
    """Apply records in one transaction and return the new checkpoint.

    Raises:
        _CannotApply: one of them cannot be; those before it are applied.
    """
    try:
        with store.write() as batch:
            return projector.apply_all(batch.scope(stream.root, None, stream.packs), records)
    except (StorageFull, WritesHalted):
        raise
    except Exception as problem:
        if len(records) == 1:
            raise _CannotApply(records[0], problem) from problem
    for record in records:
        position = _apply(store, stream, projector, [record])
    return position


def _batches(log: Log, start: int, stop: int) -> Iterator[list[Record]]:
    """Return the records of a log in lists that fit one transaction each."""
    records: list[Record] = []
    size = 0
    for stored in log.read(start, stop):
        records.append(decode(*stored))
        size += len(stored[4]) + len(stored[5])
        if size >= BYTES_PER_TRANSACTION or len(records) >= EVENTS_PER_TRANSACTION:
            yield records
            records, size = [], 0
    if records:
        yield records
