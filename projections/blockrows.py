"""Rows of blocks: the end of each key is a block coordinate, the value is the block or where it lies.

Coordinates are ZYX, each as u32 = value + 2^31, so that rows sort in ZYX order, negative ones first.
"""

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.ids import PackRef
from dvid_es.projections.temporal import SIGN
from dvid_es.projections.txn import ReadTxn

Coords = NDArray[np.int32]

INLINE = 0
PACKED = 1

_REF = struct.Struct(">IQII16s")
_make_ref = PackRef._make
_COORD = struct.Struct(">3I")


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


def unpack_values(values: Sequence[bytes | None]) -> list[Bulk | None]:
    """Return `unpack_value` of many values, None where there is none."""
    unpack, make = _REF.unpack_from, _make_ref
    return [
        None if value is None else make(unpack(value, 1)) if value[0] == PACKED else value[1:]
        for value in values
    ]


def coord_key(block_zyx: Triple) -> bytes:
    """Return the end of the key of a block."""
    z, y, x = block_zyx
    return _COORD.pack(z + SIGN, y + SIGN, x + SIGN)


def coord_of(key: bytes, at: int) -> Triple:
    """Return the block coordinate that begins at byte `at` of a key."""
    z, y, x = _COORD.unpack_from(key, at)
    return z - SIGN, y - SIGN, x - SIGN


def all_coords(box: Box) -> Coords:
    """Return all coordinates of a box of blocks as int32[n, 3], Z slowest."""
    sides = [np.arange(a, b, dtype=np.int32) for a, b in zip(*box, strict=True)]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def walk_box(
    txn: ReadTxn, prefix: bytes, box: Box, read: Callable[[bytes, Triple], Bulk | None]
) -> tuple[Coords, list[Bulk]]:
    """Return coordinates int32[n, 3] and blocks of a box, in order of their keys.

    It seeks from block to block, leaping over what is outside of the box or not there: the cost
    follows the blocks that are there, not the size of the box.

    Args:
        txn: the state.
        prefix: of the keys; coordinates follow.
        box: of blocks.
        read: returns what a view sees under a key and coordinate, if anything.
    """
    coords: list[Triple] = []
    blocks: list[Bulk] = []
    wanted: Triple | None = box.start_zyx
    while wanted is not None:
        key = prefix + coord_key(wanted)
        block = read(key, wanted)
        if block is not None:
            coords.append(wanted)
            blocks.append(block)
            z, y, x = wanted
            wanted = _first_inside(box, (z, y, x + 1))
            continue
        found = txn.seek(key + b"\xff" * 12)
        if found is None or not found[0].startswith(prefix):
            break
        wanted = _first_inside(box, coord_of(found[0], len(prefix)))
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
