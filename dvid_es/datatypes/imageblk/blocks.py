"""The rows of blocks: under each coordinate a stored block, or where it lies in the packs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk, Record
from dvid_es.geometry import Box, Triple
from dvid_es.projections import versioned
from dvid_es.projections.blockrows import (
    all_coords,
    pack_value,
    unpack_value,
    unpack_values,
    walk_box,
)
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import big_endian, make_keys, put_many, read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]

BLOCKS = 132
"""Kind of these rows."""

_DIRECT_MAX = 1 << 15
"""Boxes of up to so many blocks are looked up one by one, larger ones are walked."""


def keys(instance_id: int, coords_zyx: Coords) -> list[bytes]:
    """Return the keys of blocks int32[n, 3]."""
    return make_keys(instance_id, BLOCKS, big_endian(coords_zyx))


def find_list(txn: ReadTxn, instance_id: int, coords_zyx: Coords, view: View) -> list[Bulk | None]:
    """Return the stored blocks at int32[n, 3], None for each that is not there.

    Raises:
        VersionConflict: parents of a version merge have unequal blocks.
    """
    return unpack_values(read_many(txn, keys(instance_id, coords_zyx), view))


def find_box(txn: ReadTxn, instance_id: int, box: Box, view: View) -> tuple[Coords, list[Bulk]]:
    """Return coordinates int32[n, 3] and blocks of those that are there, in ZYX order.

    Raises:
        VersionConflict: parents of a version merge have unequal blocks.
    """
    if box.volume <= _DIRECT_MAX:
        coords = all_coords(box)
        values = find_list(txn, instance_id, coords, view)
        there = np.fromiter((value is not None for value in values), bool, len(values))
        return coords[there], [value for value in values if value is not None]

    def read(key: bytes, block_zyx: Triple) -> Bulk | None:
        value = versioned.read(txn, key, view)
        return None if value is None else unpack_value(value)

    return walk_box(txn, instance_key(instance_id, BLOCKS), box, read)


def put(txn: WriteTxn, record: Record, coords_zyx: Coords, blocks: Sequence[Bulk]) -> None:
    """Add the rows of blocks int32[n, 3], in order of their keys, as an event wrote them."""
    header = record.header
    values = [pack_value(block) for block in blocks]
    found = keys(header.instance, coords_zyx)
    put_many(txn, found, values, header.version, record.offset)
