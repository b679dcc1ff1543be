"""What the events between two views may have changed: bodies, and blocks of scale 0."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import mutationlog
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.bodies.mutationlog import Entry
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]


class Touched(NamedTuple):
    """What may differ."""

    bodies: Labels
    """uint64[n], ascending."""

    coords_zyx: Coords
    """int32[n, 3], distinct."""


def bodies_of(entry: Entry) -> list[int]:
    """Return the bodies that a recorded mutation changed, the one first that it was sent for."""
    facts = entry.facts
    match entry.action.removesuffix("-complete"):
        case "merge":
            return [facts["Target"], *from_bytes(facts["Labels"]).tolist()]
        case "cleave":
            return [facts["OrigLabel"], facts["CleavedLabel"]]
        case "renumber":
            return [facts["OrigLabel"], facts["NewLabel"]]
        case "split-supervoxel":
            return [facts["Body"]]
        case "split":
            return [facts["Target"], facts["NewLabel"]]
        case "undo" | "redo":
            return from_bytes(facts["Bodies"]).tolist()
    return []


def between(txn: ReadTxn, instance_id: int, first: View, second: View) -> Touched:
    """Return what events changed that one view sees and the other one does not.

    What both see, as the common ancestors of two branches, is not looked at.
    """
    labels: set[int] = set()
    written: list[bytes] = []
    for version in first.bounds.keys() | second.bounds.keys():
        after, last = sorted(view.bounds.get(version, -1) for view in (first, second))
        if after == last:
            continue
        for _, entry in mutationlog.between(txn, instance_id, version, after, last):
            labels.update(bodies_of(entry))
        for _, note in notes.between(txn, instance_id, version, after, last):
            labels.update(from_bytes(note.bodies).tolist())
            written.append(txn.bulk(note.coords))
    coords = np.frombuffer(b"".join(written), "<i4").astype(np.int32).reshape(-1, 3)
    return Touched(np.array(sorted(labels), np.uint64), np.unique(coords, axis=0))
