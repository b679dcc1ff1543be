"""Labels as other datatypes see them: what lies under a voxel, what a body is made of, what changes.

Datatypes know each other by their events alone. What hangs on labels needs two things more, and this is
where they meet: a label type says here how its instances are looked into, and who listens is told here,
within the fold, which blocks of voxels an event has changed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk, Event, Record
from dvid_es.geometry import Triple
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Points = NDArray[np.int64]


class LabelSource(NamedTuple):
    """How the instances of one label type are looked into; all of it pure, at any view."""

    block_shape: Callable[[Instance], Triple]
    """Shape of its blocks in voxels, ZYX."""

    find_blocks: Callable[[ReadTxn, Instance, View, Coords], list[Bulk | None]]
    """The stored blocks int32[n, 3] (ZYX) of full resolution: equal ones hold equal voxels. One that the
    parents of a version merge disagree about is None, as if it were not there."""

    supervoxels_at: Callable[[ReadTxn, Instance, View, Points], Labels]
    """What voxels int64[n, 3] (ZYX) hold: uint64[n], 0 where there is nothing."""

    members: Callable[[ReadTxn, Instance, View, int], Labels]
    """The supervoxels of a body, ascending, and among them the label itself unless that is a supervoxel
    of another body: what was once given this label by name belongs to it."""

    bodies: Callable[[ReadTxn, Instance, View, Labels], Labels]
    """The bodies of supervoxels uint64[n], as they are mapped; 0 for 0 and for those that were split."""

    held: Callable[[ReadTxn, Instance, View, Labels, Labels], NDArray[np.bool_]]
    """Whether bodies uint64[n] have supervoxels uint64[n] among their members: bool[n]. Where a mapping was
    posted and no index with it, bodies do not have what is mapped to them."""

    remapped: Callable[[ReadTxn, Instance, View, View], Labels | None]
    """The supervoxels whose bodies may differ between an older view and a newer one: uint64[n], in any order;
    None if they are too many to be listed."""


SOURCES: dict[str, LabelSource] = {}
"""By the name of the datatype."""

Watcher = Callable[[WriteTxn, Record, Coords], None]
"""Is told of blocks int32[n, 3] (ZYX) of full resolution whose voxels an event has written, in the order of
their keys. The header of the record names the instance written to, which may be another one than that of
the event: one that follows it. The transaction holds the new blocks; those before are in the view
`at(record.offset - 1)`. It is part of a fold: pure, and it never fails."""

WATCHERS: list[Watcher] = []


def voxels_written(txn: WriteTxn, record: Record, coords_zyx: Coords) -> None:
    """Tell all watchers of written blocks."""
    for watcher in WATCHERS:
        watcher(txn, record, coords_zyx)


class Told(NamedTuple):
    """What an event did to labels, for the messages of those who listen."""

    action: str
    """What DVID calls it: "merge", "cleave", "split" or "split-coarse"; "" for voxels that were written."""

    coords: Bulk | None = None
    """int32[n, 3] ZYX: blocks that it wrote; what is in other bodies now lies in them."""

    moved: tuple[tuple[int, int, Labels], ...] = ()
    """Where no voxel was written: body, the body that it lost supervoxels to, and these."""


TELL: dict[type[Event], Callable[[Record, ReadTxn], Told | None]] = {}
"""How label types tell of their events; those of which nothing is to be told are not here."""


SYNC_WATCHERS: list[Callable[[WriteTxn, Record], None]] = []
"""Are told within the fold when the instance of a record listens to others than before."""


def syncs_set(txn: WriteTxn, record: Record) -> None:
    """Tell all watchers that an instance listens to others."""
    for watcher in SYNC_WATCHERS:
        watcher(txn, record)
