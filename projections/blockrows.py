"""Rows of blocks: the end of each key is a block coordinate, the value is the block or where it lies.

Coordinates are ZYX, each as u32 = value + 2^31, so that rows sort in ZYX order, negative ones first.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.ids import PackRef, Places
from dvid_es.projections.temporal import SIGN
from dvid_es.projections.txn import ReadTxn

Coords = NDArray[np.int32]
T = TypeVar("T")

INLINE = 0
PACKED = 1

_REF = struct.Struct(">IQII16s")
_PACKED_ROW = np.dtype(
    [
        ("form", "u1"),
        ("pack", ">u4"),
        ("offset", ">u8"),
        ("length", ">u4"),
        ("checksum", ">u4"),
        ("digest", "V16"),
    ]
)
"""A row of a block in the packs: `PACKED` and a reference."""
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


class Columns(NamedTuple):
    """Many rows, read without an object for each."""

    data: bytes
    """The values of rows, those of others in between."""

    starts: NDArray[np.int64]
    """int64[n]: where the value of each begins in `data`."""

    lengths: NDArray[np.int64]
    """int64[n]: bytes of each stored block."""

    packed: NDArray[np.bool_]
    """bool[n]: whether it lies in the packs; otherwise the block begins one byte after the value."""

    places: NDArray[np.int64]
    """int64[3, n]: pack, offset and checksum of those in the packs; nothing of the others."""

    def part(self, start: int, stop: int) -> "Columns":
        """Return some of the rows."""
        span = slice(start, stop)
        starts, lengths, packed = self.starts[span], self.lengths[span], self.packed[span]
        return Columns(self.data, starts, lengths, packed, self.places[:, span])

    def places_packed(self) -> Places:
        """Return where those in the packs lie, in their order."""
        packs, offsets, checksums = self.places[:, self.packed].tolist()
        return Places(packs, offsets, self.lengths[self.packed].tolist(), checksums)

    def places_joined(self, size: int, packed: Sequence[int]) -> NDArray[np.int64]:
        """Return where each block begins: those in the packs as given, others in `data` behind `size` bytes."""
        starts = self.starts + (size + 1)
        starts[self.packed] = packed
        return starts


def read_columns(values: Sequence[bytes]) -> Columns:
    """Return the columns of the values of rows."""
    data = b"".join(values)
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    starts = np.cumsum(sizes) - sizes
    bytes_of = np.frombuffer(data, np.uint8)
    packed = bytes_of[starts] == PACKED
    lengths = sizes - 1
    places = np.empty((3, len(values)), np.int64)
    some = data if packed.all() else b"".join([value for value in values if value[0] == PACKED])
    rows = np.frombuffer(some, _PACKED_ROW)
    lengths[packed] = rows["length"]
    for column, name in zip(places, ("pack", "offset", "checksum"), strict=True):
        column[packed] = rows[name]
    return Columns(data, starts, lengths, packed, places)


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
    coords = np.empty((*box.shape_zyx, 3), np.int32)
    for axis, (start, stop) in enumerate(zip(*box, strict=True)):
        side = np.arange(start, stop, dtype=np.int32)
        coords[..., axis] = side.reshape([-1 if one == axis else 1 for one in range(3)])
    return coords.reshape(-1, 3)


def walk_box(
    txn: ReadTxn, prefix: bytes, box: Box, read: Callable[[bytes, Triple], T | None]
) -> tuple[Coords, list[T]]:
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
    blocks: list[T] = []
    wanted: Triple | None = box.start_zyx
    while wanted is not None:
        key = prefix + coord_key(wanted)
        block = read(key, wanted)
        if block is not None:
            coords.append(wanted)
            blocks.append(block)
            z, y, x = wanted
            wanted = box.first_from((z, y, x + 1))
            continue
        found = txn.seek(key + b"\xff" * 12)
        if found is None or not found[0].startswith(prefix):
            break
        wanted = box.first_from(coord_of(found[0], len(prefix)))
    return np.array(coords, np.int32).reshape(-1, 3), blocks
