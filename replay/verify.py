"""Are the live projections what the log says? Rebuilt aside and compared, part by part."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from dvid_es.errors import CorruptStore
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.projections.txn import Pair
from dvid_es.replay.catchup import Progress, check_not_ahead, checkpoints
from dvid_es.replay.digest import Kinds, Part, digests, kind_of
from dvid_es.replay.rebuild import build
from dvid_es.streams import Stream

_SHOWN_BYTES = 64


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first row of one part that is not what the log says."""

    root: str
    instance: int
    """0 for the repository itself."""

    kind: int
    name: str
    """Of the kind."""

    key: str
    """In hexadecimal, without the repository's number."""

    live: str | None
    """Value in the live store, in hexadecimal and cut short; None if there is no such row."""

    rebuilt: str | None
    """The same for the store made from the log."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    events: dict[str, int]
    """By root UUID, how many events the live store holds and the rebuilt one was given."""

    parts: list[Part]
    """Digests of the live store."""

    differences: list[Difference]
    """One for each part that differs; empty if all is well."""


def verify(
    live: Store,
    streams: list[Stream],
    projector: Projector,
    kinds: Kinds,
    scratch: Path,
    progress: Progress | None = None,
) -> Report:
    """Compare a store with one rebuilt from the logs up to the same events.

    Args:
        live: the store in doubt; only read.
        streams: all repositories.
        projector: applies the events.
        kinds: of all datatypes.
        scratch: an empty folder for the other store, with space for all of it.
        progress: hears of each transaction of the rebuild.

    Raises:
        CorruptStore: the store is ahead of a log.
        CorruptLog: an event is damaged or unknown.
        StorageFull: no space in `scratch`.
    """
    held = checkpoints(live)
    check_not_ahead(held, {stream.root: stream.log.end for stream in streams})
    upto = {stream.root: held.get(stream.root, 0) for stream in streams}
    build(scratch, streams, projector, upto=upto, progress=progress)
    rebuilt = Store(scratch, read_only=True)
    try:
        return compare(live, rebuilt, kinds)
    finally:
        rebuilt.close()


def compare(live: Store, rebuilt: Store, kinds: Kinds) -> Report:
    """Compare two stores at the same events by digest, and show where they part."""
    of_live, of_rebuilt = digests(live, kinds), digests(rebuilt, kinds)
    ours = {part.place: part for part in of_live}
    theirs = {part.place: part for part in of_rebuilt}
    differences = []
    for place in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(place), theirs.get(place)
        if a is None or b is None or a.digest != b.digest:
            differences.append(_first_difference(live, rebuilt, place, kinds))
    return Report(events=checkpoints(live), parts=of_live, differences=differences)


def _first_difference(
    live: Store, rebuilt: Store, place: tuple[str, int, int], kinds: Kinds
) -> Difference:
    root, instance, number = place
    kind = kind_of(number, kinds)
    prefix = instance.to_bytes(4, "big") + bytes([number])
    with live.read(root) as ours, rebuilt.read(root) as theirs:
        for a, b in _side_by_side(_rows(ours, prefix), _rows(theirs, prefix)):
            if a is None or b is None or a[0] != b[0] or kind.content(a[1]) != kind.content(b[1]):
                key = min(row[0] for row in (a, b) if row is not None)
                return Difference(
                    root=root, instance=instance, kind=number, name=kind.name,
                    key=key.hex(), live=_value(a, key), rebuilt=_value(b, key),
                )  # fmt: skip
    raise CorruptStore(f"{root}: two digests of unchanged rows differ: the store cannot be trusted")


def _rows(txn: LmdbTxn, prefix: bytes) -> Iterator[Pair]:
    return txn.scan(prefix, (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big"))


def _side_by_side(
    ours: Iterator[Pair], theirs: Iterator[Pair]
) -> Iterator[tuple[Pair | None, Pair | None]]:
    while True:
        a, b = next(ours, None), next(theirs, None)
        if a is None and b is None:
            return
        yield a, b


def _value(row: Pair | None, key: bytes) -> str | None:
    if row is None or row[0] != key:
        return None
    value = row[1]
    if len(value) <= _SHOWN_BYTES:
        return value.hex()
    return f"{value[:_SHOWN_BYTES].hex()}... ({len(value)} bytes)"
