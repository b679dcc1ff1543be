"""The rows of blocks: at each scale and coordinate a stored block, or where it lies in the packs."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.codecs.downres import downres_block
from dvid_es.errors import CorruptStore, VersionConflict
from dvid_es.events import Bulk, Record
from dvid_es.geometry import Box, Triple
from dvid_es.ids import PackRef
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import SIGN, big_endian, make_keys, put_many, read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]

BLOCKS = 64
"""Kind of these rows."""

INLINE = 0
PACKED = 1

COORD_MAX = (1 << 20) - 1
"""Largest block coordinate, either sign: what DVID's label indices can name."""

_REF = struct.Struct(">IQII16s")
_make_ref = PackRef._make
_COORD = struct.Struct(">3I")
_OCTANTS = np.array([(i >> 2, i >> 1 & 1, i & 1) for i in range(8)], np.int32)
_FEW = 32
"""For so many blocks or fewer, numpy takes longer to begin than Python to finish."""

_DIRECT_MAX = 2048
"""Boxes of up to so many blocks are looked up one by one, larger ones are walked."""


def pack_value(block: Bulk) -> bytes:
    """Return the value of a row."""
    if isinstance(block, PackRef):
        return bytes((PACKED,)) + _REF.pack(*block)
    return b"\0" + block


def unpack_value(value: bytes) -> Bulk:
    """Return the stored block of a row, or where it lies."""
    if value[0] == PACKED:
        return _make_ref(_REF.unpack_from(value, 1))
    return value[1:]


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
    coords, found = find_box(txn, instance_id, scale, box, view)
    return coords, txn.bulk_many(found)


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
    row_keys = keys(instance_id, scale, coords_zyx)
    if scale and not view.linear:
        places = coords_zyx.tolist()
        return [
            _read_lower(txn, key, (z, y, x), view)
            for key, (z, y, x) in zip(row_keys, places, strict=True)
        ]
    unpack, make = _REF.unpack_from, _make_ref
    return [
        None if value is None else make(unpack(value, 1)) if value[0] == PACKED else value[1:]
        for value in read_many(txn, row_keys, view)
    ]


def _read_lower(txn: ReadTxn, key: bytes, block_zyx: Triple, view: View) -> Bulk | None:
    """Return a block of a lower scale, made again where parents of a version merge disagree.

    Each has changed another octant of it, or they disagree about the voxels that it follows from.
    """
    try:
        value = versioned.read(txn, key, view)
        return None if value is None else unpack_value(value)
    except VersionConflict:
        instance_id, scale = int.from_bytes(key[:4], "big"), key[5]
        below = 2 * np.array(block_zyx, np.int32) + _OCTANTS
        stored = read_list(txn, instance_id, scale - 1, below, view)
        if not any(stored):
            raise
        x, y, z = txn.repo.instances[instance_id].settings["BlockSize"]
        nothing = labelblock.solid(0, (z, y, x))
        children = [nothing if one is None else storedblock.load(one) for one in stored]
        return storedblock.store(downres_block(children, None, (z, y, x)))


def find_box(
    txn: ReadTxn, instance_id: int, scale: int, box: Box, view: View
) -> tuple[Coords, list[Bulk]]:
    """Return like `read_box`, without fetching from the packs.

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
        values = find_list(txn, instance_id, scale, coords, view)
        there = np.fromiter((value is not None for value in values), bool, len(values))
        return coords[there], [value for value in values if value is not None]
    return _walk_box(txn, instance_key(instance_id, BLOCKS) + bytes((scale,)), box, view)


def _find_few(
    txn: ReadTxn, instance_id: int, scale: int, box: Box, view: View
) -> tuple[Coords, list[Bulk]]:
    prefix = instance_key(instance_id, BLOCKS) + bytes((scale,))
    pack = _COORD.pack
    points = list(box.points())
    row_keys = [prefix + pack(z + SIGN, y + SIGN, x + SIGN) for z, y, x in points]
    values = read_many(txn, row_keys, view)
    there = [place for place, value in enumerate(values) if value is not None]
    coords = np.array([points[place] for place in there], np.int32).reshape(-1, 3)
    return coords, [unpack_value(values[place]) for place in there]  # type: ignore[arg-type]


def all_coords(box: Box) -> Coords:
    """Return all coordinates of a box as int32[n, 3], Z slowest."""
    sides = [np.arange(a, b, dtype=np.int32) for a, b in zip(*box, strict=True)]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def _walk_box(txn: ReadTxn, prefix: bytes, box: Box, view: View) -> tuple[Coords, list[Bulk]]:
    """Seek from block to block, leaping over what is outside of the box or not there."""
    coords: list[Triple] = []
    blocks: list[Bulk] = []
    wanted: Triple | None = box.start_zyx
    while wanted is not None:
        z, y, x = wanted
        key = prefix + _COORD.pack(z + SIGN, y + SIGN, x + SIGN)
        if prefix[5] and not view.linear:
            block = _read_lower(txn, key, wanted, view)
        else:
            value = versioned.read(txn, key, view)
            block = None if value is None else unpack_value(value)
        if block is not None:
            coords.append(wanted)
            blocks.append(block)
            wanted = _first_inside(box, (z, y, x + 1))
            continue
        found = txn.seek(key + b"\xff" * 12)
        if found is None or not found[0].startswith(prefix):
            break
        z, y, x = (value - SIGN for value in _COORD.unpack_from(found[0], len(prefix)))
        wanted = _first_inside(box, (z, y, x))
    return np.array(coords, np.int32).reshape(-1, 3), blocks


def _first_inside(box: Box, at: Triple) -> Triple | None:
    """Return the first coordinate of the box at or after `at` in order of keys, or None."""
    (z0, y0, x0), (z1, y1, x1) = box
    z, y, x = at
    if z < z0:
        return z0, y0, x0
    if y < y0:
        y, x = y0, x0
    x = max(x, x0)
    if x >= x1:
        y, x = y + 1, x0
    if y >= y1:
        z, y, x = z + 1, y0, x0
    return (z, y, x) if z < z1 else None


def put_blocks(
    txn: WriteTxn, record: Record, scale: int, coords_zyx: Coords, blocks: Sequence[Bulk]
) -> None:
    """Add the rows of blocks int32[n, 3], in order of their keys, as an event wrote them."""
    header = record.header
    found = keys(header.instance, scale, coords_zyx)
    put_many(txn, found, [pack_value(block) for block in blocks], header.version, record.offset)
