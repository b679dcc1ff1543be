"""NanoVDB index grids: which voxels a body has, as fVDB and the NanoVDB library read it. Pure.

A grid is a tree of boxes: upper nodes of 4096 voxels a side hold lower nodes of 128, these leaves of 8, and a
leaf has a bit for each voxel. Bytes: GridData 672, TreeData 64, root, all upper nodes, all lower nodes, all
leaves. Leaves come last and are by far the most, so they are written as they come, and the rest in front.

The layout `nanovdb` is the library's. `dvid` is what DVID writes, byte for byte: it numbers children and voxels
with z slowest instead of fastest, keeps other keys in the root and counts values from 0, so that the library
finds nothing or turned leaves in it.

Source: NanoVDB.h of AcademySoftwareFoundation/openvdb (version 32); datatype/common/nanovdb
(janelia-flyem/dvid).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Coords = NDArray[np.int32]
Masks = NDArray[np.uint8]

LEAF_SIDE = 8
LOWER_SIDE = 128
UPPER_SIDE = 4096

LEAF_BYTES = 96
LOWER_BYTES = 33_856
UPPER_BYTES = 270_400
_GRID_BYTES, _TREE_BYTES, _ROOT_HEAD, _TILE_BYTES = 672, 64, 96, 32

_MAGIC = 0x304244566F6E614E
_VERSION = 32 << 21 | 8 << 10
_ON_INDEX, _INDEX_GRID = 20, 8
_HAS_BBOX = 1 << 1
_BREADTH_FIRST = 1 << 5
_NO_CHECKSUM = 2**64 - 1
NAME_BYTES = 255

LEAF = np.dtype(
    [
        ("first", "<i4", 3), ("extent", "u1", 3), ("flags", "u1"), ("mask", "u1", 64),
        ("offset", "<u8"), ("prefix", "<u8"),
    ]
)  # fmt: skip
assert LEAF.itemsize == LEAF_BYTES


class Layout(NamedTuple):
    """How the two layouts differ."""

    x_slowest: bool
    """Whether linear indices inside of nodes are x << 2n | y << n | z; else z is the slowest."""

    first_value: int
    """Index of the first voxel's value; 0 is the background's in the library."""

    grid_flags: int
    node_flags: int
    checksum: int
    empty_blind: bool
    """Whether the place of blind data is the end of the grid when there are none."""


LAYOUTS = {
    "nanovdb": Layout(True, 1, _HAS_BBOX | _BREADTH_FIRST, 2, _NO_CHECKSUM, True),
    "dvid": Layout(False, 0, 0, 0, 0, False),
}


class _Lower(NamedTuple):
    origin: tuple[int, int, int]
    children: NDArray[np.int64]
    """Where its leaves are in its table, in the order in which they were added."""

    first_leaf: int
    box: NDArray[np.int32]
    """First and last voxel, int32[2, 3]."""


class Grid:
    """An index grid in the making; coordinates are x, y, z."""

    def __init__(self, layout: str, put_leaves: Callable[[bytes], object]) -> None:
        """Hand the bytes of leaves to `put_leaves`, in the order of the lower nodes that are added."""
        self._layout = LAYOUTS[layout]
        self._put_leaves = put_leaves
        self._lowers: list[_Lower] = []
        self.leaves = 0
        self.voxels = 0

    @property
    def leaf_bytes(self) -> int:
        """Bytes of all leaves so far."""
        return LEAF_BYTES * self.leaves

    def add(self, origin_xyz: tuple[int, int, int], leaves_xyz: Coords, masks: Masks) -> None:
        """Add a lower node, in the order of `order_of`.

        Args:
            origin_xyz: first voxel of its box, multiples of 128.
            leaves_xyz: first voxels of its leaves int32[n, 3], distinct, n > 0.
            masks: their voxels uint8[n, 64], none empty: row y of slice z at z * 8 + y, x lowest.
        """
        places = _linear((leaves_xyz - np.array(origin_xyz, np.int32)) >> 3, 4, self._layout)
        order = np.argsort(places)
        records, counts = _leaf_records(leaves_xyz[order], masks[order], self._layout)
        starts = np.cumsum(counts) - counts
        records["offset"] = starts + self._layout.first_value + self.voxels
        last = records["first"] + records["extent"]
        box = np.stack([records["first"].min(axis=0), last.max(axis=0)]).astype(np.int32)
        self._lowers.append(_Lower(origin_xyz, places[order], self.leaves, box))
        self._put_leaves(records.tobytes())
        self.leaves += len(records)
        self.voxels += int(counts.sum())

    def head(
        self, name: bytes, voxel_xyz: Sequence[float], leaf_places: NDArray[np.int64] | None = None
    ) -> Iterator[bytes]:
        """Iterate over all bytes in front of the leaves.

        Args:
            name: at most 255 bytes of it are kept.
            voxel_xyz: size of a voxel.
            leaf_places: int64[leaves]: where each leaf is written, in the order of adding; None is that
                order.
        """
        uppers = self._uppers()
        root_bytes = _ROOT_HEAD + _TILE_BYTES * len(uppers)
        root = _GRID_BYTES + _TREE_BYTES
        upper_start = root + root_bytes
        lower_start = upper_start + UPPER_BYTES * len(uppers)
        leaf_start = lower_start + LOWER_BYTES * len(self._lowers)
        box = _union([lower.box for lower in self._lowers])
        size = leaf_start + self.leaf_bytes
        yield self._grid_data(name, voxel_xyz, box, size)
        starts = (leaf_start, lower_start, upper_start, root)
        counts = (self.leaves, len(self._lowers), len(uppers), 0, 0, 0)
        offsets = [start - _GRID_BYTES for start in starts]
        yield struct.pack("<4q6IQ", *offsets, *counts, self.voxels)
        yield struct.pack("<6iI68x", *box.reshape(-1).tolist(), len(uppers))
        tiles = [(key, upper_start - root + i * UPPER_BYTES) for i, key in enumerate(uppers)]
        yield b"".join(self._tile(key, child) for key, child in tiles)
        ranks = {}
        for number, lower in enumerate(self._lowers):
            ranks[lower.origin] = number
        for number, (key, lowers) in enumerate(uppers.items()):
            origins = np.array([lower.origin for lower in lowers], np.int64)
            places = _linear((origins - np.array(key)) >> 7, 5, self._layout)
            at = upper_start + number * UPPER_BYTES
            targets = np.array([ranks[lower.origin] for lower in lowers], np.int64)
            children = lower_start + LOWER_BYTES * targets - at
            yield self._node(_union([lower.box for lower in lowers]), places, children, 15)
        for number, lower in enumerate(self._lowers):
            targets = lower.first_leaf + np.arange(len(lower.children))
            if leaf_places is not None:
                targets = leaf_places[targets]
            at = lower_start + number * LOWER_BYTES
            children = leaf_start + LEAF_BYTES * targets - at
            yield self._node(lower.box, lower.children, children, 12)

    def _uppers(self) -> dict[tuple[int, int, int], list[_Lower]]:
        found: dict[tuple[int, int, int], list[_Lower]] = {}
        for lower in self._lowers:
            x, y, z = (side & -UPPER_SIDE for side in lower.origin)
            found.setdefault((x, y, z), []).append(lower)
        if not self._layout.x_slowest:
            found = {key: found[key] for key in sorted(found, key=lambda key: key[::-1])}
        return found

    def _tile(self, key: tuple[int, int, int], child: int) -> bytes:
        if self._layout.x_slowest:
            return struct.pack("<Qq16x", root_key(key), child)
        return struct.pack("<3iq12x", *key, child)

    def _node(
        self,
        box: NDArray[np.int32],
        places: NDArray[np.int64],
        children: NDArray[np.int64],
        log: int,
    ) -> bytes:
        """Return an upper or lower node, whose table has 2 ** log entries."""
        mask = np.zeros(1 << log, np.uint8)
        mask[places] = 1
        child_mask = np.packbits(mask, bitorder="little").tobytes()
        values = bytes(len(child_mask)) if self._layout.x_slowest else child_mask
        table = np.zeros(1 << log, "<i8")
        table[places] = children
        head = struct.pack("<6iQ", *box.reshape(-1).tolist(), self._layout.node_flags)
        return b"".join((head, values, child_mask, bytes(32), table.tobytes()))

    def _grid_data(
        self, name: bytes, voxel_xyz: Sequence[float], box: NDArray[np.int32], size: int
    ) -> bytes:
        layout = self._layout
        scale = np.diag(np.array(voxel_xyz, np.float64))
        inverse = np.diag(1 / np.array(voxel_xyz, np.float64))
        places = b"".join(
            scale.astype(kind).tobytes() + inverse.astype(kind).tobytes() + offset + taper
            for kind, offset, taper in (
                ("<f4", bytes(12), struct.pack("<f", 1)),
                ("<f8", bytes(24), struct.pack("<d", 1)),
            )
        )
        world = np.stack([box[0], box[1].astype(np.int64) + 1]) * np.array(voxel_xyz, np.float64)
        values = self.voxels + layout.first_value
        return b"".join(
            (
                struct.pack("<QQ", _MAGIC, layout.checksum),
                struct.pack("<4IQ", _VERSION, layout.grid_flags, 0, 1, size),
                name[:NAME_BYTES].ljust(256, b"\0"),
                places,
                world.astype("<f8").tobytes(),
                np.array(voxel_xyz, "<f8").tobytes(),
                struct.pack("<IIq", _INDEX_GRID, _ON_INDEX, size if layout.empty_blind else 0),
                struct.pack("<IIQQ", 0, 0, values, 0),
            )
        )


def root_key(origin_xyz: tuple[int, int, int]) -> int:
    """Return the library's key of an upper node: 21 bits each, x the highest."""
    x, y, z = ((side & 0xFFFFFFFF) >> 12 for side in origin_xyz)
    return x << 42 | y << 21 | z


def order_of(origins_xyz: NDArray[np.int64], layout: str) -> NDArray[np.int64]:
    """Return the order in which lower nodes int64[n, 3] are to be added."""
    if not LAYOUTS[layout].x_slowest:
        return np.lexsort(origins_xyz.T)
    upper = origins_xyz & -UPPER_SIDE
    keys = (upper & 0xFFFFFFFF) >> 12
    places = _linear((origins_xyz - upper) >> 7, 5, LAYOUTS[layout])
    return np.lexsort((places, keys[:, 2], keys[:, 1], keys[:, 0]))


def in_dvids_order(leaves: bytes) -> tuple[bytes, NDArray[np.int64]]:
    """Return leaves in the order of DVID, which is that of all their origins: Z, Y, X.

    Returns:
        The bytes, with their values numbered anew, and `leaf_places` for `Grid.head`.
    """
    records = np.frombuffer(leaves, LEAF)
    origins = records["first"] & -LEAF_SIDE
    order = np.lexsort(origins.T)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    ordered = records[order]
    counts = np.unpackbits(ordered["mask"], axis=1).sum(axis=1, dtype=np.int64)
    ordered["offset"] = np.cumsum(counts) - counts
    return ordered.tobytes(), places


def _linear(cells: NDArray[np.int64], bits: int, layout: Layout) -> NDArray[np.int64]:
    """Return the place of cells [n, 3] (x, y, z) of a node in its table."""
    x, y, z = cells.astype(np.int64).T
    slow, fast = (x, z) if layout.x_slowest else (z, x)
    found: NDArray[np.int64] = slow << 2 * bits | y << bits | fast
    return found


def _leaf_records(
    origins: Coords, masks: Masks, layout: Layout
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Return leaves without offsets, and their numbers of voxels."""
    bits = np.unpackbits(masks, axis=1, bitorder="little").reshape(-1, 8, 8, 8)
    out = np.zeros(len(masks), LEAF)
    for column, others in enumerate(((1, 2), (1, 3), (2, 3))):
        there: NDArray[np.bool_] = np.any(bits, axis=others)
        first = there.argmax(axis=1)
        last = 7 - there[:, ::-1].argmax(axis=1)
        out["first"][:, column] = origins[:, column] + first
        out["extent"][:, column] = last - first
    if layout.x_slowest:
        bits = bits.transpose(0, 3, 2, 1)
    flat = np.ascontiguousarray(bits).reshape(len(masks), 512)
    out["mask"] = np.packbits(flat, axis=1, bitorder="little")
    out["flags"] = layout.node_flags
    words = flat.reshape(-1, 8, 64).sum(axis=2, dtype=np.uint64)
    sums = np.cumsum(words, axis=1, dtype=np.uint64)
    out["prefix"] = sum(sums[:, i] << np.uint64(9 * i) for i in range(7))
    return out, sums[:, 7].astype(np.int64)


def _union(boxes: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    both = np.stack(boxes)
    return np.stack([both[:, 0].min(axis=0), both[:, 1].max(axis=0)])
