"""The rows of blocks: at each scale and coordinate a stored block, or where it lies in the packs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.codecs.downres import downres_block
from dvid_es.errors import CorruptStore, VersionConflict
from dvid_es.events import Bulk, Record
from dvid_es.geometry import Box, Triple
from dvid_es.projections import labels, versioned
from dvid_es.projections.blockrows import (
    PACKED,
    all_coords,
    coord_key,
    pack_value,
    unpack_value,
    unpack_values,
    walk_box,
)
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import (
    big_endian,
    key_table,
    make_keys,
    put_many,
    read_many,
    read_table,
)
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]

BLOCKS = 64
"""Kind of these rows."""

COORD_MAX = (1 << 20) - 1
"""Largest block coordinate, either sign: what DVID's label indices can name."""

_OCTANTS = np.array([(i >> 2, i >> 1 & 1, i & 1) for i in range(8)], np.int32)
_FEW = 16
"""For so many blocks or fewer, numpy takes longer to begin than Python to finish."""

_DIRECT_MAX = 2048
"""Boxes of up to so many blocks are looked up one by one, larger ones are walked."""


def content(value: bytes) -> bytes:
    """Return what a row holds, whichever bytes the compressor chose: for digests.

    What lies in the packs was compressed before the event, so its place is content.
    """
    if value[0] == PACKED:
        return value
    try:
        return value[:1] + storedblock.content(value[1:])
    except CorruptStore:
        return value  # damage is a difference, not the end of the comparison


def keys(instance_id: int, scale: int, coords_zyx: Coords) -> list[bytes]:
    """Return the keys of blocks int32[n, 3]."""
    scales = np.full((len(coords_zyx), 1), scale, np.uint8)
    return make_keys(instance_id, BLOCKS, scales, big_endian(coords_zyx))


def read_block(
    txn: ReadTxn, instance_id: int, scale: int, block_zyx: Triple, view: View
) -> bytes | None:
    """Return the stored form of one block, or None if there is none."""
    found = find_list(txn, instance_id, scale, np.array([block_zyx], np.int32), view)[0]
    return None if found is None else txn.bulk(found)


def read_box(
    txn: ReadTxn, instance_id: int, scale: int, box: Box, view: View
) -> tuple[Coords, list[bytes]]:
    """Return coordinates int32[n, 3] (ZYX order) and stored forms of the blocks in a box."""
    coords, rows = find_box(txn, instance_id, scale, box, view)
    return coords, txn.bulk_many([unpack_value(row) for row in rows])


def read_list(
    txn: ReadTxn, instance_id: int, scale: int, coords_zyx: Coords, view: View
) -> list[bytes | None]:
    """Return the stored forms of blocks int32[n, 3], None for each that is not there."""
    found = find_list(txn, instance_id, scale, coords_zyx, view)
    loaded = iter(txn.bulk_many([block for block in found if block is not None]))
    return [None if block is None else next(loaded) for block in found]


def find_list(
    txn: ReadTxn, instance_id: int, scale: int, coords_zyx: Coords, view: View
) -> list[Bulk | None]:
    """Return like `read_list`, without fetching from the packs."""
    return unpack_values(find_rows(txn, instance_id, scale, coords_zyx, view))


def find_rows(
    txn: ReadTxn, instance_id: int, scale: int, coords_zyx: Coords, view: View
) -> list[bytes | None]:
    """Return like `find_list`, the values of rows as they are."""
    if len(coords_zyx) > _FEW and view.linear:
        scales = np.full((len(coords_zyx), 1), scale, np.uint8)
        table = key_table(instance_id, BLOCKS, scales, big_endian(coords_zyx))
        return read_table(txn, table, view)
    row_keys = keys(instance_id, scale, coords_zyx)
    if scale and not view.linear:
        places = coords_zyx.tolist()
        return [
            _read_lower(txn, key, (z, y, x), view)
            for key, (z, y, x) in zip(row_keys, places, strict=True)
        ]
    return read_many(txn, row_keys, view)


def _read_lower(txn: ReadTxn, key: bytes, block_zyx: Triple, view: View) -> bytes | None:
    """Return the row of a lower scale, made again where parents of a version merge disagree.

    Each has changed another octant of it, or they disagree about the voxels that it follows from.
    """
    try:
        return versioned.read(txn, key, view)
    except VersionConflict:
        instance_id, scale = int.from_bytes(key[:4], "big"), key[5]
        below = 2 * np.array(block_zyx, np.int32) + _OCTANTS
        stored = read_list(txn, instance_id, scale - 1, below, view)
        if not any(stored):
            raise
        x, y, z = txn.repo.instances[instance_id].settings["BlockSize"]
        nothing = labelblock.solid(0, (z, y, x))
        children = [nothing if one is None else storedblock.load(one) for one in stored]
        return pack_value(storedblock.store(downres_block(children, None, (z, y, x))))


def find_box(
    txn: ReadTxn, instance_id: int, scale: int, box: Box, view: View
) -> tuple[Coords, list[bytes]]:
    """Return like `read_box`, the values of rows as they are.

    The cost follows the blocks that are there, not the size of the box.
    """
    (z0, y0, x0), (z1, y1, x1) = box
    low, high = -COORD_MAX, COORD_MAX + 1
    if min(z0, y0, x0) < low or max(z1, y1, x1) > high:
        start = max(z0, low), max(y0, low), max(x0, low)
        stop = min(z1, high), min(y1, high), min(x1, high)
        box = Box(start, stop)
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return np.empty((0, 3), np.int32), []
    if box.volume <= _FEW and (view.linear or not scale):
        return _find_few(txn, instance_id, scale, box, view)
    if box.volume <= _DIRECT_MAX:
        coords = all_coords(box)
        return present(coords, find_rows(txn, instance_id, scale, coords, view))
    return _walk_box(txn, instance_key(instance_id, BLOCKS) + bytes((scale,)), box, view)


def present(coords_zyx: Coords, rows: list[bytes | None]) -> tuple[Coords, list[bytes]]:
    """Return the coordinates and rows of blocks int32[n, 3] that are there."""
    there = [row for row in rows if row is not None]
    if len(there) < len(rows):
        coords_zyx = coords_zyx[[row is not None for row in rows]]
    return coords_zyx, there


def _find_few(
    txn: ReadTxn, instance_id: int, scale: int, box: Box, view: View
) -> tuple[Coords, list[bytes]]:
    prefix = instance_key(instance_id, BLOCKS) + bytes((scale,))
    coords: list[Triple] = []
    rows: list[bytes] = []
    for point in box.points():
        row = versioned.read(txn, prefix + coord_key(point), view)
        if row is not None:
            coords.append(point)
            rows.append(row)
    return np.array(coords, np.int32).reshape(-1, 3), rows


def _walk_box(txn: ReadTxn, prefix: bytes, box: Box, view: View) -> tuple[Coords, list[bytes]]:
    lower = prefix[5] and not view.linear

    def read(key: bytes, block_zyx: Triple) -> bytes | None:
        if lower:
            return _read_lower(txn, key, block_zyx, view)
        return versioned.read(txn, key, view)

    return walk_box(txn, prefix, box, read)


def put_blocks(
    txn: WriteTxn, record: Record, scale: int, coords_zyx: Coords, blocks: Sequence[Bulk]
) -> None:
    """Add the rows of blocks int32[n, 3], in order of their keys, as an event wrote them."""
    header = record.header
    found = keys(header.instance, scale, coords_zyx)
    put_many(txn, found, [pack_value(block) for block in blocks], header.version, record.offset)
    if scale == 0:
        labels.voxels_written(txn, record, coords_zyx)
