"""At start: apply what the projections have not seen yet."""

import logging
from collections.abc import Callable, Iterable

from dvid_es.errors import CorruptStore
from dvid_es.events import decode
from dvid_es.projections.catalog import checkpoint
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.streams import Stream

logger = logging.getLogger(__name__)

EVENTS_PER_TRANSACTION = 2000
"""Bounds the memory of one LMDB transaction, and what a crash in between does again."""


def catch_up(
    store: Store,
    streams: Iterable[Stream],
    projector: Projector,
    progress: Callable[[str, int, int], None] | None = None,
) -> int:
    """Fold all events that `store` lacks, publish each stream's documents; return their number.

    Raises:
        CorruptStore: the store is ahead of a log: log files are missing.
        CorruptLog: an event is damaged or unknown.
    """
    applied = 0
    for stream in streams:
        applied += _catch_up_one(store, stream, projector, progress)
    return applied


def _catch_up_one(
    store: Store,
    stream: Stream,
    projector: Projector,
    progress: Callable[[str, int, int], None] | None,
) -> int:
    with store.read(stream.root, stream.packs) as reading:
        position = checkpoint(reading)
    end = stream.log.end
    if position > end:
        raise CorruptStore(
            f"repository {stream.root}: the projections hold {position} events, its log only {end}."
            " Log files are missing: put them back, or rebuild from what is there: dvid-es rebuild"
        )
    start = position
    while position < end:
        stop = min(end, position + EVENTS_PER_TRANSACTION)
        with store.write() as batch:
            txn = batch.scope(stream.root, None, stream.packs)
            for stored in stream.log.read(position, stop):
                projector.apply(txn, decode(*stored))
        position = stop
        if progress is not None:
            progress(stream.root, position, end)
    if position > start:
        logger.info("applied %d events of repository %s", position - start, stream.root)
    if end:
        with store.read(stream.root, stream.packs) as reading:
            stream.publish(reading.repo, end - 1)
    return position - start
