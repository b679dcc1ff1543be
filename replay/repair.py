"""Rows of a live store put right from the log, while the server runs.

The repository is made anew aside, which readers and writers do not notice. Then, with the store's write
lock held for a moment, both stores are at the same event, and the rows in doubt are compared and copied.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dvid_es.events import decode
from dvid_es.projections.catalog import checkpoint
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.projections.txn import Pair
from dvid_es.replay.catchup import Progress
from dvid_es.replay.places import remove
from dvid_es.replay.rebuild import build
from dvid_es.streams import Stream

Range = tuple[bytes, bytes]
"""First key, and the key to stop before; without the repository's number."""

Choose = Callable[[LmdbTxn, LmdbTxn], Iterable[Range]]
"""Says from the live and the rebuilt rows which ranges to put right. They must not overlap."""

_ROWS_AT_ONCE = 10_000


def repair(
    live: Store,
    stream: Stream,
    projector: Projector,
    choose: Choose,
    scratch: Path,
    progress: Progress | None = None,
) -> int:
    """Make chosen rows of a repository what its log says; return how many were wrong.

    Args:
        live: the store in use.
        stream: the repository.
        projector: applies the events.
        choose: which rows.
        scratch: a folder for the other store, with space for all rows of the repository; it is
            removed before and after.
        progress: hears of each transaction of the rebuild.

    Raises:
        CorruptLog: an event is damaged or unknown.
        StorageFull: no space; nothing is changed.
    """
    remove(scratch)
    # A stream of its own: what a half made store says of versions must not reach the readers.
    apart = Stream(stream.root, stream.log, stream.packs)
    try:
        with live.read(stream.root) as txn:
            held = checkpoint(txn)
        build(scratch, [apart], projector, upto={stream.root: held}, progress=progress)
        rebuilt = Store(scratch, scratch=True)
        try:
            return _put_right(live, rebuilt, stream, projector, choose)
        finally:
            rebuilt.close()
    finally:
        remove(scratch)


def _put_right(
    live: Store, rebuilt: Store, stream: Stream, projector: Projector, choose: Choose
) -> int:
    with live.write() as batch:  # the writer waits
        ours = batch.scope(stream.root, stream.repo, stream.packs)
        with rebuilt.write() as other:
            theirs = other.scope(stream.root, None, stream.packs)
            for stored in stream.log.read(checkpoint(theirs), checkpoint(ours)):
                projector.apply(theirs, decode(*stored))
        with rebuilt.read(stream.root, stream.packs) as theirs:
            ranges = sorted(set(choose(ours, theirs)))
            wrong = sum(_copy(ours, theirs, start, stop) for start, stop in ranges)
        if not wrong:
            batch.abort()
        return wrong


def _copy(ours: LmdbTxn, theirs: LmdbTxn, start: bytes, stop: bytes) -> int:
    """Make the rows of one range equal, a part at a time: no cursor is open while rows change."""
    wrong = 0
    while True:
        found: list[tuple[Pair | None, Pair | None]] = []
        for pair in _different(ours.scan(start, stop), theirs.scan(start, stop)):
            found.append(pair)
            if len(found) == _ROWS_AT_ONCE:
                break
        for mine, right in found:
            if right is not None:
                ours.put(*right)
            elif mine is not None:
                ours.delete(mine[0])
        wrong += len(found)
        if len(found) < _ROWS_AT_ONCE:
            return wrong


def _different(
    ours: Iterator[Pair], theirs: Iterator[Pair]
) -> Iterator[tuple[Pair | None, Pair | None]]:
    """Iterate over the rows of two sorted iterators that differ: (ours, theirs), None for no row."""
    mine, right = next(ours, None), next(theirs, None)
    while mine is not None or right is not None:
        if right is None or (mine is not None and mine[0] < right[0]):
            yield mine, None
            mine = next(ours, None)
        elif mine is None or right[0] < mine[0]:
            yield None, right
            right = next(theirs, None)
        else:
            if mine != right:
                yield mine, right
            mine, right = next(ours, None), next(theirs, None)
