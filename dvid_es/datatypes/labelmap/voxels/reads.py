"""Voxels as they are read: found in one transaction, then fetched, mapped and decoded in threads.

Labels are mapped in the label tables of blocks, never voxel by voxel.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, neuroglancer, storedblock
from dvid_es.codecs.compression import gzip_compress, lz4_block_compress
from dvid_es.datatypes.labelmap.mapping.lookup import Mapping
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.blockcache import CACHE
from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.ids import PackRef
from dvid_es.logs.base import Packs
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]
Labels = NDArray[np.uint64]


class FixedMapping:
    """Bodies of some supervoxels, looked up beforehand."""

    def __init__(self, svs: Labels, bodies: Labels) -> None:
        """Keep uint64[n] supervoxels, ascending, and their bodies uint64[n]."""
        self._svs = svs
        self._bodies = bodies

    def map(self, labels: Labels) -> Labels:
        """Return the bodies of supervoxels, all of which are known."""
        return self._bodies[np.searchsorted(self._svs, labels)]


class BlockSet:
    """Blocks of one scale that a read found: what it takes to fetch them once its transaction is over."""

    def __init__(
        self,
        packs: Packs,
        mapping: Mapping | FixedMapping | None,
        shape_zyx: Triple,
        coords_zyx: Coords,
        found: Sequence[Bulk],
    ) -> None:
        """Keep blocks int32[n, 3] and their places; `mapping` None leaves supervoxels."""
        self._packs = packs
        self._mapping = mapping
        self.shape_zyx = shape_zyx
        self.coords_zyx = coords_zyx
        self._found = found

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._found)

    def settle(self) -> None:
        """Look up all bodies now: a mapping below a version merge needs the transaction."""
        if self._mapping is not None:
            supervoxels = np.empty(0, np.uint64)
            for start in range(0, len(self), 256):
                tables = fetch_batch(self._packs, self._found[start : start + 256]).tables
                supervoxels = np.union1d(supervoxels, tables)
            self._mapping = FixedMapping(supervoxels, self._mapping.map(supervoxels))

    def part(self, start: int, stop: int) -> "BlockSet":
        """Return some of the blocks."""
        found = self._found[start:stop]
        coords = self.coords_zyx[start:stop]
        return BlockSet(self._packs, self._mapping, self.shape_zyx, coords, found)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the blocks as they are stored."""
        return sum(
            block.length if isinstance(block, PackRef) else len(block) for block in self._found
        )

    def gzip_stream(self) -> bytes:
        """Return DVID's stream of gzipped label blocks."""
        batch = fetch_batch(self._packs, self._found)
        return batch.gzip_stream(self._mapped(batch), self.coords_zyx[:, ::-1])

    def _mapped(self, batch: storedblock.StoredBatch) -> Labels:
        """Return the tables of all blocks behind each other, mapped."""
        if self._mapping is None:
            return batch.tables
        return np.ascontiguousarray(self._mapping.map(batch.tables), np.uint64)

    def stream(self, compression: str) -> bytes:
        """Return DVID's stream of blocks in a compression of GET blocks."""
        if compression == "blocks":
            return self.gzip_stream()
        pieces: list[bytes] = []
        coords_xyz = np.ascontiguousarray(self.coords_zyx[:, ::-1], "<i4")
        out = np.empty(self.shape_zyx, np.uint64)
        for block, xyz in zip(self.label_blocks(), coords_xyz, strict=True):
            payload = compressed(labelblock.decode(block, out=out), compression)
            pieces += (xyz.tobytes(), len(payload).to_bytes(4, "little"), payload)
        return b"".join(pieces)

    def pieces(self, compression: str) -> tuple[bytes]:
        """Return `stream` as a part of an answer."""
        return (self.stream(compression),)

    def label_blocks(self) -> list[bytes]:
        """Return the label blocks, with mapped tables."""
        stored = fetch(self._packs, self._found)
        batch = storedblock.StoredBatch.of(stored)
        tables = self._mapped(batch)
        bounds = batch.table_starts.tolist()
        return [
            storedblock.load(one, tables[a:b])
            for one, a, b in zip(stored, bounds[:-1], bounds[1:], strict=True)
        ]


def fetch_batch(packs: Packs, found: Sequence[Bulk]) -> storedblock.StoredBatch:
    """Return stored blocks from rows and packs as a batch."""
    refs = [block for block in found if isinstance(block, PackRef)]
    data, starts = packs.get_joined(refs)
    if len(refs) == len(found):
        return storedblock.StoredBatch(data, starts, [ref.length for ref in refs])
    inline = [block for block in found if not isinstance(block, PackRef)]
    packed, own = iter(starts), accumulate(map(len, inline), initial=len(data))
    places = [next(packed if isinstance(block, PackRef) else own) for block in found]
    lengths = [block.length if isinstance(block, PackRef) else len(block) for block in found]
    return storedblock.StoredBatch(data, places, lengths, b"".join(inline))


def fetch(packs: Packs, found: Sequence[Bulk]) -> list[bytes]:
    """Return stored blocks from rows and packs."""
    refs = [block for block in found if isinstance(block, PackRef)]
    fetched = iter(packs.get_many(refs))
    return [next(fetched) if isinstance(block, PackRef) else block for block in found]


def compressed(volume: Labels, compression: str) -> bytes:
    """Return voxels uint64[Z, Y, X] in one of DVID's compressions.

    Raises:
        InvalidRequest: the box does not suit the compression.
    """
    if compression in ("google", "googlegzip"):
        return segmented(neuroglancer.encode(volume), compression)
    data = memoryview(volume.reshape(-1).view(np.uint8))
    if compression == "lz4":
        return lz4_block_compress(data)
    return gzip_compress(data) if compression == "gzip" else bytes(data)


def segmented(segmentation: bytes, compression: str) -> bytes:
    """Return a compressed_segmentation as "google" or "googlegzip" sends it."""
    return segmentation if compression == "google" else gzip_compress(segmentation)


def mapping_for(txn: ReadTxn, instance_id: int, view: View, supervoxels: bool) -> Mapping | None:
    """Return the mapping of a view to bodies; None if supervoxels are wanted or nothing is mapped."""
    if supervoxels:
        return None
    mapping = Mapping.at(txn, instance_id, view)
    return None if mapping.is_empty else mapping


def decode_box(label_blocks: Sequence[bytes], coords_zyx: Coords, box: Box, out: Labels) -> None:
    """Write the voxels that blocks share with a box into it; others stay as they are."""
    for block, at in zip(label_blocks, coords_zyx.tolist(), strict=True):
        shape = labelblock.shape(block)
        start = tuple(c * side for c, side in zip(at, shape, strict=True))
        labelblock.decode_into(block, None, start, out, box.start_zyx)


def read_volume(found: BlockSet, box: Box, out: Labels | None = None) -> Labels:
    """Return a box of voxels as uint64[Z, Y, X], in `out` if given; what is not stored is 0."""
    whole = len(found) == box.blocks(found.shape_zyx).volume
    if out is None:
        out = (np.empty if whole else np.zeros)(box.shape_zyx, np.uint64)
    elif not whole:
        out[:] = 0
    decode_box(found.label_blocks(), found.coords_zyx, box, out)
    return out


class PointRead:
    """Labels at points: which blocks are needed, then what they say."""

    def __init__(self, points_zyx: NDArray[np.int64], shape_zyx: Triple) -> None:
        """Sort int64[n, 3] points by their blocks."""
        shape = np.array(shape_zyx)
        at = points_zyx // shape
        inside = (points_zyx - at * shape).astype(np.int32)
        limit = blocks.COORD_MAX
        near = (np.abs(at) <= limit).all(axis=1)
        self._n = len(points_zyx)
        self._near = np.flatnonzero(near)
        self.coords_zyx, place = np.unique(at[near].astype(np.int32), axis=0, return_inverse=True)
        order = np.argsort(place.reshape(-1), kind="stable")
        self._order = self._near[order]
        self._inside = np.ascontiguousarray(inside[self._order])
        counts = np.bincount(place.reshape(-1), minlength=len(self.coords_zyx))
        self._bounds = np.concatenate(([0], np.cumsum(counts))).tolist()
        self._labels = np.zeros(len(self._order), np.uint64)

    def look_up(self, packs: Packs, found: Sequence[Bulk | None], start: int, stop: int) -> None:
        """Read the points of blocks [start, stop) of `coords_zyx`; `found` are all of them."""
        chosen = [i for i in range(start, stop) if found[i] is not None]
        for i, block in zip(chosen, _inflated(packs, [found[i] for i in chosen]), strict=True):
            a, b = self._bounds[i], self._bounds[i + 1]
            self._labels[a:b] = labelblock.labels_at(block, self._inside[a:b])

    def labels(self, mapping: Mapping | None) -> Labels:
        """Return the labels uint64[n] in the order of the points."""
        out = np.zeros(self._n, np.uint64)
        mapped = self._labels if mapping is None else mapping.map(self._labels)
        out[self._order] = mapped
        return out


def _inflated(packs: Packs, found: Sequence[Any]) -> list[bytes]:
    """Return label blocks, those from packs kept for the next look-up."""
    known = [CACHE.get(block.digest) if isinstance(block, PackRef) else None for block in found]
    missing = [block for block, there in zip(found, known, strict=True) if there is None]
    stored = iter(fetch(packs, missing))
    label_blocks = []
    for block, there in zip(found, known, strict=True):
        if there is None:
            there = storedblock.load(next(stored))
            if isinstance(block, PackRef):
                CACHE.put(block.digest, there)
        label_blocks.append(there)
    return label_blocks
