"""How edits of labels change rows: blocks, index, lower scales, counters.

Labels are bodies themselves and nothing is ever mapped: a voxel answers with what was written to it
last, at any version. There are no rows of bodies.
"""

from collections.abc import Sequence

import numpy as np

from dvid_es.datatypes.labelarray import maxlabel, published
from dvid_es.datatypes.labelarray.edits import Coords
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks, downres
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.events import Bulk, Event, Record
from dvid_es.projections import blobs
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.publishing.messages import keep_long

TYPENAME = "labelarray"

LONG_BYTES = 8 * 40_000
"""Fewer labels never make a message too long."""


def is_of(txn: WriteTxn, record: Record, typename: str) -> bool:
    """Say whether an event happened to an instance of a type."""
    return txn.repo.instances[record.header.instance].typename == typename


def coords_of(txn: WriteTxn, coords: Bulk) -> Coords:
    """Return the block coordinates int32[n, 3] that an event holds."""
    return np.frombuffer(txn.bulk(coords), "<i4").astype(np.int32).reshape(-1, 3)


def put_labels(
    txn: WriteTxn,
    record: Record,
    coords_zyx: Coords,
    stored: Sequence[Bulk],
    counts: svindex.Counts,
    levels: int = 0,
) -> None:
    """Write blocks to the instance of an event, and what follows from them."""
    instance = txn.repo.instances[record.header.instance]
    blocks.put_blocks(txn, record, 0, coords_zyx, stored)
    svindex.change_blocks(txn, record, coords_zyx, counts)
    if levels:
        shape = block_shape(instance)
        downres.fold_levels(txn, record, 0, coords_zyx, stored, levels, shape)


def put_edit(txn: WriteTxn, record: Record) -> None:
    """Write the blocks of a merge or a split, and what follows from them."""
    event = record.event
    assert isinstance(event, LabelsMerged | LabelSplit)
    coords = coords_of(txn, event.coords)
    counts = counts_of(txn.bulk(event.counts), len(coords))
    put_labels(txn, record, coords, event.blocks, counts, event.downres_levels)
    if isinstance(event, LabelSplit):
        header = record.header
        label = event.new_label
        maxlabel.note(txn, header.instance, header.version, label, record.offset)


def fold_edit(txn: WriteTxn, record: Record) -> None:
    """Change the labels of voxels of a labelarray; the runs of a split are a blob, as DVID keeps them."""
    if is_of(txn, record, TYPENAME):
        put_edit(txn, record)
        if isinstance(record.event, LabelSplit):
            blobs.put(txn, record.event.runs)
        elif isinstance(record.event, LabelsMerged) and _bytes(record.event.labels) >= LONG_BYTES:
            keep_long(txn, published.merge(record, txn))


def _bytes(value: Bulk) -> int:
    return len(value) if isinstance(value, bytes) else value.length


def fold_blocks_put(txn: WriteTxn, record: Record) -> None:
    """Note the highest label of what was written to a labelarray; the rest is as for a labelmap."""
    event = record.event
    assert isinstance(event, BlocksPut)
    if is_of(txn, record, TYPENAME):
        header = record.header
        label = event.max_label
        maxlabel.note(txn, header.instance, header.version, label, record.offset)


FOLDS: dict[type[Event], Fold] = {
    BlocksPut: fold_blocks_put,
    LabelsMerged: fold_edit,
    LabelSplit: fold_edit,
}
