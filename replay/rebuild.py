"""Making projections anew from the logs, aside, and putting them in place when they are whole."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from dvid_es.errors import InvalidRequest
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.replay import snapshot
from dvid_es.replay.catchup import Progress, catch_up
from dvid_es.replay.places import Places, mark_clean, remove, settle, swap_in, write_layout
from dvid_es.streams import Stream

logger = logging.getLogger(__name__)


def rebuild(
    places: Places,
    streams: Iterable[Stream],
    projector: Projector,
    *,
    root: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Replace the live store by one made from the logs; return how many events were applied.

    The old store stays live until the new one is whole and durable; a crash leaves one of the two.
    Nobody may have the store open. Snapshots that are ahead of the logs are removed: whoever rebuilds
    accepts the logs as they are.

    Args:
        places: of the data folder; its lock is held.
        streams: all repositories.
        projector: applies the events.
        root: the one repository to make anew, the others being copied; None for all.
        progress: hears of each transaction.

    Raises:
        InvalidRequest: there is no repository `root`.
        CorruptStore: with `root`, the live store cannot be copied, or is ahead for another repository.
        CorruptLog: an event is damaged or unknown.
        StorageFull: no space; the old store is as it was.
    """
    streams = list(streams)
    settle(places)
    try:
        if root is None:
            write_layout(places.rebuild)
        else:
            if root not in {stream.root for stream in streams}:
                raise InvalidRequest(f"could not find repository {root}")
            _copy_without(places, root)
        applied = build(places.rebuild, streams, projector, progress=progress)
    except BaseException:
        remove(places.rebuild)
        raise
    swap_in(places)
    mark_clean(places)
    for name in snapshot.discard_ahead(places, {stream.root: stream.log.end for stream in streams}):
        logger.warning("snapshot %s was ahead of a log and is removed", name)
    return applied


def build(
    folder: Path,
    streams: Iterable[Stream],
    projector: Projector,
    *,
    upto: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> int:
    """Apply to the store in `folder` what it lacks, make it durable, close it; return the events.

    Args:
        folder: of a store that nobody has open; made if it is not there.
        streams: the logs to read.
        projector: applies the events.
        upto: by root UUID, the offset to stop before.
        progress: hears of each transaction.
    """
    store = Store(folder, scratch=True)
    try:
        applied = catch_up(store, streams, projector, progress, upto)
        store.sync()
    finally:
        store.close()
    return applied


def _copy_without(places: Places, root: str) -> None:
    live = Store(places.projections, read_only=True)
    try:
        live.copy_to(places.rebuild)
    finally:
        live.close()
    write_layout(places.rebuild)
    copy = Store(places.rebuild, scratch=True)
    try:
        copy.drop(root)
    finally:
        copy.close()
