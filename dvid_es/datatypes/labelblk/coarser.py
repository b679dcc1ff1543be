"""Half resolution as labelblk votes: of 2x2x2 voxels the commonest label, background too.

A tie goes to the highest label. An instance that listens to a finer one of the same block size holds
its halves.

Source: downsizeAdd in datatype/labelblk/sync.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.datatypes.labelmap.voxels import blocks, downres
from dvid_es.datatypes.labelmap.voxels.downres import Parents
from dvid_es.events import Bulk, Record
from dvid_es.geometry import Triple
from dvid_es.projections.txn import BulkReader, ReadTxn, WriteTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]

_NAME = b"labelblk/"
"""Begins the names of blocks in the memo: other types vote otherwise."""


def halve(volume: Labels) -> Labels:
    """Return a volume uint64[Z, Y, X] with even sides at half resolution."""
    corners = [volume[z::2, y::2, x::2].reshape(-1) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    shape = tuple(side // 2 for side in volume.shape)
    out = corners[0].copy()
    mixed = np.zeros(len(out), bool)
    for corner in corners[1:]:
        mixed |= corner != out
    if mixed.any():
        parts = np.stack([corner[mixed] for corner in corners])
        votes = (parts[:, None] == parts[None]).sum(axis=0, dtype=np.uint8)
        out[mixed] = np.where(votes == votes.max(axis=0), parts, np.uint64(0)).max(axis=0)
    return out.reshape(shape)


def half_of(block: bytes) -> Labels:
    """Return a label block at half resolution, decoded."""
    label = labelblock.solid_label(block)
    if label is not None:
        shape = tuple(side // 2 for side in labelblock.shape(block))
        return np.full(shape, label, np.uint64)
    return halve(labelblock.decode(block))


def parent(octants: Sequence[bytes | None], previous: bytes | None, shape_zyx: Triple) -> bytes:
    """Return the label block whose octants, (z & 1) * 4 + (y & 1) * 2 + (x & 1), are halves of blocks.

    Args:
        octants: 8 finer label blocks, None for each that did not change.
        previous: what the result replaces: its other octants stay. None: zeros.
        shape_zyx: shape of all these blocks.
    """
    volume = np.zeros(shape_zyx, np.uint64) if previous is None else labelblock.decode(previous)
    half = [side // 2 for side in shape_zyx]
    for number, block in enumerate(octants):
        if block is not None:
            corner = (number >> 2, number >> 1 & 1, number & 1)
            place = tuple(
                slice(c * side, (c + 1) * side) for c, side in zip(corner, half, strict=True)
            )
            volume[place] = half_of(block)
    return labelblock.encode(volume)


def previous_of(txn: ReadTxn, instance_id: int, view: View, parents: Parents) -> list[Bulk | None]:
    """Return the blocks that parents replace in part; None for the others."""
    previous: list[Bulk | None] = [None] * len(parents.coords_zyx)
    partial = np.flatnonzero(parents.partial)
    found = blocks.find_list(txn, instance_id, 0, parents.coords_zyx[partial], view)
    for place, block in zip(partial.tolist(), found, strict=True):
        previous[place] = block
    return previous


def _names(
    shape_zyx: Triple, parents: Parents, digests: Sequence[bytes], previous: Sequence[Bulk | None]
) -> Iterator[bytes]:
    for children, replaced in zip(parents.children.tolist(), previous, strict=True):
        octants = [digests[child] if child >= 0 else b"" for child in children]
        before = b"" if replaced is None else downres.digest(replaced)
        yield _NAME + downres.memo_key(shape_zyx, octants, before)


def put_parents(
    txn: WriteTxn, record: Record, coords_zyx: Coords, changed: Sequence[Bulk], shape_zyx: Triple
) -> tuple[Coords, list[Bulk]]:
    """Write to the instance of a record what follows from changed finer blocks; return it."""
    header = record.header
    parents = downres.parents_of(coords_zyx)
    previous = previous_of(txn, header.instance, txn.view(header.version), parents)
    digests = [downres.digest(block) for block in changed]
    derived: list[Bulk] = []
    for name, children, replaced in zip(
        _names(shape_zyx, parents, digests, previous),
        parents.children.tolist(),
        previous,
        strict=True,
    ):
        stored = downres.MEMO.take(name)
        if stored is None:
            finer = [
                storedblock.load(txn.bulk(changed[child])) if child >= 0 else None
                for child in children
            ]
            before = None if replaced is None else storedblock.load(txn.bulk(replaced))
            stored = storedblock.store(parent(finer, before, shape_zyx))
        derived.append(stored)
    blocks.put_blocks(txn, record, 0, parents.coords_zyx, derived)
    return parents.coords_zyx, derived


class Maker:
    """Makes the coarser blocks of a write ahead of its event, and keeps them in the memo."""

    def __init__(
        self,
        packs: BulkReader,
        shape_zyx: Triple,
        children: Sequence[bytes],
        digests: Sequence[bytes],
        parents: Parents,
        previous: Sequence[Bulk | None],
    ) -> None:
        """Make `parents` of `children`, label blocks whose stored forms have `digests`."""
        self._packs = packs
        self._shape = shape_zyx
        self._blocks = children
        self._parents = parents
        self._previous = previous
        self._names = list(_names(shape_zyx, parents, digests, previous))

    def make(self, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        """Return label block and digest of its stored form of parents [start, stop)."""
        return [self._make_one(place) for place in range(start, stop)]

    def _make_one(self, place: int) -> tuple[bytes, bytes]:
        children = self._parents.children[place].tolist()
        replaced = self._previous[place]
        before = None
        if replaced is not None:
            stored = replaced if isinstance(replaced, bytes) else self._packs.get(replaced)
            before = storedblock.load(stored)
        octants = [self._blocks[child] if child >= 0 else None for child in children]
        block = parent(octants, before, self._shape)
        stored = storedblock.store(block)
        downres.MEMO.put(self._names[place], stored)
        return block, downres.digest(stored)
