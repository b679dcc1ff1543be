"""Blocks whose supervoxels are known from posted indices and not from their voxels.

An import may store voxels without indexing them and post indices. A write to such a block must know
what the index says of it, or the posted counts would stay beside the new ones. Only instances that an
index was posted to pay for this.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import storedblock
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.events import Record
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Places = NDArray[np.int64]
Counts = NDArray[np.uint32]

POSTED = 89
"""Kind of the one row that says that indices were posted to an instance."""

CountsAt = Callable[[Labels, Coords], Counts]
"""Returns what the index says of pairs of supervoxel and block: uint64[n], int32[n, 3] -> uint32[n]."""


def mark(txn: WriteTxn, instance_id: int) -> None:
    """Note that indices were posted."""
    txn.put(instance_key(instance_id, POSTED), b"\x01")


def is_marked(txn: ReadTxn, instance_id: int) -> bool:
    """Say whether indices were ever posted."""
    return txn.get(instance_key(instance_id, POSTED)) is not None


def settle(
    txn: ReadTxn,
    record: Record,
    coords_zyx: Coords,
    before: tuple[Places, Labels, Counts],
    new: tuple[Places, Labels, Counts],
    counts_at: CountsAt,
) -> tuple[Places, Labels, Counts]:
    """Return what the index says of blocks that are written, in place of what their rows say.

    Args:
        txn: the state, with the new blocks in it.
        record: the event that writes them.
        coords_zyx: int32[n, 3].
        before: what the blocks added to the index when they were written with indexing: starts
            int64[n + 1], labels (ascending in each block), counts.
        new: what they are to add now.
        counts_at: looks into the index.
    """
    header = record.header
    owners = [np.repeat(np.arange(len(coords_zyx)), np.diff(part[0])) for part in (before, new)]
    labels = [before[1], new[1]]
    unknown = np.flatnonzero(np.diff(before[0]) == 0)
    view = txn.view(header.version).at(record.offset - 1)
    found = blocks.find_list(txn, header.instance, 0, coords_zyx[unknown], view)
    there = [place for place, block in enumerate(found) if block is not None]
    loaded = txn.bulk_many([block for block in found if block is not None])
    for place, block in zip(unknown[there].tolist(), loaded, strict=True):
        table = storedblock.read_table(block)
        labels.append(table[table != 0])
        owners.append(np.full(len(labels[-1]), place))
    pairs = np.stack([np.concatenate(owners).astype(np.uint64), np.concatenate(labels)], axis=1)
    pairs = np.unique(pairs, axis=0)
    places, svs = pairs[:, 0].astype(np.int64), np.ascontiguousarray(pairs[:, 1])
    counts = counts_at(svs, coords_zyx[places])
    kept = counts > 0
    starts = np.searchsorted(places[kept], np.arange(len(coords_zyx) + 1)).astype(np.int64)
    return starts, svs[kept], counts[kept]
