"""Edits of labels in blocks: which blocks, read from one state, and each of them with other labels.

The same reads are made twice: before blocks are rewritten, in threads, and when the command is
decided. If they differ by then, everything is made again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, rle, storedblock
from dvid_es.datatypes.labelmap.bodies.labelsets import member
from dvid_es.datatypes.labelmap.splits import kernels
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.ids import PackRef
from dvid_es.projections.txn import BulkReader, ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]
Places = Sequence[int]

Edit = Callable[[bytes, Places], bytes]
"""Makes of a label block, at block coordinates z, y, x, the one that takes its place."""


class Outdated(InvalidRequest):
    """Another write came between preparing and deciding; `labels` if it took the new label."""

    def __init__(self, *, labels: bool = False) -> None:
        """Say what is outdated."""
        super().__init__("other writes kept changing what is to be edited: send the request again")
        self.labels = labels


class Found(NamedTuple):
    """The blocks that an edit rewrites, in one state."""

    coords_zyx: Coords
    """int32[n, 3], distinct, in ZYX order."""

    stored: list[Bulk | None]

    def same(self, other: "Found") -> bool:
        """Say whether nothing has changed between two states."""
        return np.array_equal(self.coords_zyx, other.coords_zyx) and self.stored == other.stored

    def only(self, coords_zyx: Coords) -> "Found":
        """Return those of the blocks that are among distinct `coords_zyx`."""
        both = np.concatenate([self.coords_zyx, coords_zyx])
        _, places, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
        kept = counts[places.reshape(-1)[: len(self.coords_zyx)]] == 2
        stored = [block for block, keep in zip(self.stored, kept, strict=True) if keep]
        return Found(self.coords_zyx[kept], stored)


def voxels_of(txn: ReadTxn, instance_id: int, label: int, view: View) -> int:
    """Return the voxels that have a label; 0 if none has."""
    return int(svindex.voxels_of(txn, instance_id, np.array([label], np.uint64), view)[0])


def find_labels(txn: ReadTxn, instance_id: int, view: View, labels: Labels) -> Found:
    """Return all blocks of labels, as the index of an instance says."""
    _, coords, _ = svindex.read_many_blocks(txn, instance_id, labels, view)
    coords = np.ascontiguousarray(np.unique(coords, axis=0), np.int32)
    return find_blocks(txn, instance_id, view, coords)


def find_blocks(txn: ReadTxn, instance_id: int, view: View, coords_zyx: Coords) -> Found:
    """Return the blocks at coordinates int32[n, 3], distinct and in ZYX order."""
    return Found(coords_zyx, blocks.find_list(txn, instance_id, 0, coords_zyx, view))


def load(packs: BulkReader, stored: Bulk | None, shape_zyx: Triple) -> bytes:
    """Return a label block; one that is not there is background."""
    if stored is None:
        return labelblock.solid(0, shape_zyx)
    return storedblock.load(packs.get(stored) if isinstance(stored, PackRef) else stored)


# -- edits -----------------------------------------------------------------------------------


class Relabel:
    """Gives all voxels of some labels another one."""

    def __init__(self, labels: Labels, target: int) -> None:
        """Relabel `labels`, uint64[n] ascending; a target of 0 removes them."""
        self._labels, self._target = labels, target

    def __call__(self, block: bytes, block_zyx: Places) -> bytes:
        """Return the block with its labels changed; one label has one entry in its table."""
        table = labelblock.table(block).copy()
        table[member(table, self._labels)] = self._target
        return labelblock.encode(labelblock.decode(block, table))


class Cover:
    """Gives the voxels under runs that have a label another one."""

    def __init__(self, runs: rle.Runs, shape_zyx: Triple, label: int, target: int) -> None:
        """Cut runs, without overlaps, at the borders of blocks of this shape."""
        self.coords_zyx, self._starts, self._runs = rle.split_at_blocks(runs, shape_zyx)
        self._places = {at: i for i, at in enumerate(map(tuple, self.coords_zyx.tolist()))}
        self._label = np.array([label], np.uint64)
        self._target = np.array([target], np.uint64)
        self.changed: list[int] = []
        """Voxels changed in each block so far."""

    def __call__(self, block: bytes, block_zyx: Places) -> bytes:
        """Return the block with the voxels under the runs changed."""
        place = self._places.get(tuple(block_zyx))
        if place is None:
            return block
        runs = self._runs[self._starts[place] : self._starts[place + 1]]
        volume = labelblock.decode(block)
        z, y, x = (at * side for at, side in zip(block_zyx, volume.shape, strict=True))
        sides = volume.shape[1:]
        flat = volume.reshape(-1)
        n = kernels.relabel(flat, runs, z, y, x, *sides, self._label, self._target)
        self.changed.append(n)
        return labelblock.encode(volume)


def prepared(block: bytes) -> Prepared:
    """Return a label block ready to be stored."""
    labels, voxels = labelblock.counts(block)
    highest = int(labelblock.table(block).max())
    return Prepared(block, storedblock.store(block), highest, labels, voxels.astype(np.uint32))


def make(
    packs: BulkReader, found: Found, edit: Edit, shape_zyx: Triple, start: int, stop: int
) -> list[Prepared]:
    """Return blocks [start, stop) of `found`, edited."""
    return [
        prepared(edit(load(packs, found.stored[place], shape_zyx), at))
        for place, at in zip(range(start, stop), found.coords_zyx[start:stop].tolist(), strict=True)
    ]
