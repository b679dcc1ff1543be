"""What listeners of a labelmap are told of its events; see projections/labels.py."""

from collections.abc import Callable, Mapping

import numpy as np

from dvid_es.datatypes.labelmap.bodies.events import Cleaved, Merged, Renumbered
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.splits.events import BodySplit
from dvid_es.datatypes.labelmap.undo.events import Redone, Undone
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut
from dvid_es.events import Event, Record
from dvid_es.projections.labels import Told
from dvid_es.projections.txn import ReadTxn

BACKWARDS = {"merge": "cleave", "cleave": "merge", "renumber": "merge", "split": "merge"}
"""What an undo looks like to those who know no undo."""

FORWARDS = {"merge": "merge", "cleave": "cleave", "renumber": "merge", "split": "split"}


def written(record: Record, txn: ReadTxn) -> Told | None:
    """Tell of written voxels, not of those of lower scales."""
    event = record.event
    assert isinstance(event, BlocksPut)
    return None if event.scale else Told("", event.coords)


def merged(record: Record, txn: ReadTxn) -> Told:
    """Tell of merged bodies."""
    event = record.event
    assert isinstance(event, Merged)
    bodies = from_bytes(txn.bulk(event.bodies)).tolist()
    parts = _cut(txn.bulk(event.supervoxels), txn.bulk(event.sizes))
    moved = ((body, event.target, svs) for body, svs in zip(bodies, parts, strict=True))
    return Told("merge", None, tuple(moved))


def _cut(supervoxels: bytes, sizes: bytes) -> list[np.ndarray]:
    """Return the supervoxels of each body."""
    ends = np.cumsum(np.frombuffer(sizes, "<u4"), dtype=np.int64)
    return np.split(from_bytes(supervoxels), ends[:-1]) if len(ends) else []


def cleaved(record: Record, txn: ReadTxn) -> Told:
    """Tell of a cleave."""
    event = record.event
    assert isinstance(event, Cleaved)
    svs = from_bytes(txn.bulk(event.supervoxels))
    return Told("cleave", None, ((event.body, event.new_body, svs),))


def renumbered(record: Record, txn: ReadTxn) -> Told:
    """Tell of a renumbering, which is a merge to listeners."""
    event = record.event
    assert isinstance(event, Renumbered)
    svs = from_bytes(txn.bulk(event.supervoxels))
    return Told("merge", None, ((event.old, event.new, svs),))


def split(record: Record, txn: ReadTxn) -> Told:
    """Tell of a split body."""
    event = record.event
    assert isinstance(event, BodySplit)
    return Told("split", event.coords)


def reversed_(record: Record, txn: ReadTxn) -> Told | None:
    """Tell of an undo or redo in words that are known."""
    event = record.event
    assert isinstance(event, Undone | Redone)
    action = (BACKWARDS if isinstance(event, Undone) else FORWARDS).get(event.action)
    if action is None:
        return None
    if event.coords:
        return Told(action, event.coords)
    bodies = from_bytes(txn.bulk(event.bodies)).tolist()
    lost = _cut(txn.bulk(event.lost), txn.bulk(event.lost_sizes))
    gained = _cut(txn.bulk(event.gained), txn.bulk(event.gained_sizes))
    moved = [
        (loser, winner, svs)
        for loser, left in zip(bodies, lost, strict=True)
        for winner, came in zip(bodies, gained, strict=True)
        if len(svs := np.intersect1d(left, came))
    ]
    return Told(action, None, tuple(moved))


TOLD: Mapping[type[Event], Callable[[Record, ReadTxn], Told | None]] = {
    BlocksPut: written,
    Merged: merged,
    Cleaved: cleaved,
    Renumbered: renumbered,
    BodySplit: split,
    Undone: reversed_,
    Redone: reversed_,
}
