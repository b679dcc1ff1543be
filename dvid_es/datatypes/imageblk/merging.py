"""What the parents of a version merge disagree about: blocks."""

from collections.abc import Iterator

import numpy as np

from dvid_es.datatypes.imageblk.blocks import BLOCKS
from dvid_es.datatypes.imageblk.events import BlocksPut
from dvid_es.events import Bulk
from dvid_es.http.datatype import Winner
from dvid_es.projections import versioned
from dvid_es.projections.blockrows import coord_of, unpack_value
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import Conflict
from dvid_es.versions import View

EVENT_BLOCKS = 10_000
"""Blocks that one event settles."""


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the blocks that a version merge cannot decide about."""
    prefix = instance_key(instance.id, BLOCKS)
    for conflict in _conflicts(txn, instance, view):
        z, y, x = coord_of(conflict.key, len(prefix))
        yield f"block {x},{y},{z}"


def resolve(txn: ReadTxn, instance: Instance, view: View, winner: Winner) -> Iterator[BlocksPut]:
    """Iterate over events that give each of these blocks the voxels of one parent."""
    prefix = instance_key(instance.id, BLOCKS)
    coords: list[tuple[int, int, int]] = []
    blocks: list[Bulk] = []
    for conflict in _conflicts(txn, instance, view):
        coords.append(coord_of(conflict.key, len(prefix)))
        blocks.append(unpack_value(winner(conflict.rows).value))
        if len(blocks) == EVENT_BLOCKS:
            yield _event(coords, blocks)
            coords, blocks = [], []
    if blocks:
        yield _event(coords, blocks)


def _conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[Conflict]:
    prefix = instance_key(instance.id, BLOCKS)
    return versioned.conflicts(txn, prefix, prefix + b"\xff" * 13, view)


def _event(coords: list[tuple[int, int, int]], blocks: list[Bulk]) -> BlocksPut:
    return BlocksPut(coords=np.array(coords, "<i4").tobytes(), blocks=tuple(blocks))
