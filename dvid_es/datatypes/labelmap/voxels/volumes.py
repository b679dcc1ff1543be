"""Answers to GET raw: a box of voxels in one go, or in slabs of which one is made while one is sent."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from dvid_es.codecs import labelblock, neuroglancer
from dvid_es.codecs.compression import gzip_join
from dvid_es.codecs.spliced import (
    GzipJoiner,
    GzipPart,
    Lz4Joiner,
    Lz4Part,
    gzip_part,
    lz4_part,
    lz4_part_of,
)
from dvid_es.datatypes.labelmap.voxels.reads import BlockSet, Loaded, compressed, segmented
from dvid_es.geometry import Box
from dvid_es.http.answers import AHEAD, Buffer, Buffers, Joiner, Part, Plain

SMALL_BYTES = 4 << 20
"""Voxels of up to so many bytes are answered whole."""

QUICK_BYTES = 2 << 20
"""Voxels of up to so many bytes are made on the event loop, if that is all there is to do: it takes
longer to have a thread do it."""

QUICK_BLOCKS = 8

QUICK_STORED_BYTES = 256 << 10
"""Blocks of more bytes than this hold noise, which takes long to compress."""

SLAB_BYTES = 8 << 20
"""Voxels of one slab of a large answer: they stay in the cache of a core."""

PLAIN_SLAB_BYTES = 4 << 20
"""The same of an answer that is not compressed: the operating system copies them from there."""


_BUFFERS = Buffers(SLAB_BYTES, kept_max=8)


def memory_bytes(box: Box, compression: str) -> int:
    """Return how many bytes of voxels are in memory at once, while an answer is made part by part."""
    whole = 8 * box.volume
    if compression not in _MAKERS and box.start_zyx[0] % 8:
        return whole
    _, y, x = box.shape_zyx
    slab = max(SLAB_BYTES if compression else PLAIN_SLAB_BYTES, 8 * y * x)
    return min(whole, (AHEAD + 1) * slab)


class VolumeAnswer:
    """The body of one GET raw."""

    def __init__(self, found: BlockSet, box: Box, compression: str) -> None:
        """Answer `box` from the blocks that cover it."""
        self._found = found
        self._box = box
        self._compression = compression
        self.length = None if compression else 8 * box.volume
        """Bytes of the body, if that is known before it is made."""

    @property
    def is_small(self) -> bool:
        """Whether the body is best made in one go."""
        return 8 * self._box.volume <= SMALL_BYTES

    @property
    def is_quick(self) -> bool:
        """Whether the body takes so little time that nobody minds to wait for it."""
        found = self._found
        return (
            self._compression in _MAKERS
            and 8 * self._box.volume <= QUICK_BYTES
            and len(found) <= QUICK_BLOCKS
            and found.uncached <= 1
            and (not self._compression or found.stored_bytes <= QUICK_STORED_BYTES)
        )

    @property
    def _is_one_block(self) -> bool:
        shape = self._found.shape_zyx
        aligned = self._box.is_aligned(shape) and self._box.shape_zyx == shape
        return aligned and len(self._found) == 1

    def whole(self) -> Buffer:
        """Return the body."""
        if self._compression == "lz4" and self._is_one_block:
            return self._found.lz4_of_one(self._box)
        loaded = self._found.load(keep=self.is_small)
        if self._compression == "lz4":
            return loaded.lz4(self._box)
        if self._compression.startswith("google") and self._is_one_block:
            block = labelblock.with_table(loaded.blocks[0], loaded.tables)
            return segmented(neuroglancer.encode_block(block), self._compression)
        voxels = _voxels(loaded, self._box)
        if not self._compression:
            return voxels
        volume = np.frombuffer(voxels, np.uint64).reshape(self._box.shape_zyx)
        return compressed(volume, self._compression)

    def joiner(self) -> Joiner:
        """Return what makes one body of the parts.

        Raises:
            InvalidRequest: the voxels do not fit the compression.
        """
        if self._compression == "gzip":
            return GzipJoiner()
        if self._compression == "lz4":
            return Lz4Joiner(8 * self._box.volume)
        return Plain()

    def parts(self) -> Iterator[Part]:
        """Return what makes the body part by part; all of it if it is small and not compressed."""
        if not self._compression and self.is_small:
            yield self.whole
            return
        if self._compression.startswith("google"):
            yield self._segmentation
            return
        make = _MAKERS[self._compression]
        size = SLAB_BYTES if self._compression else PLAIN_SLAB_BYTES
        for row in self._rows():
            for box in _slabs(row.box, size):
                yield partial(make, row, box)

    def _segmentation(self) -> Sequence[Buffer]:
        """Return a compressed_segmentation, of which never more than a slab is decoded.

        Its head tells where all of its tables lie, so it is made in one go.
        """
        layers = list(self._rows())
        if self._box.start_zyx[0] % 8:
            return (self.whole(),)
        slabs, planes = [], []
        for row in layers:
            for box in _slabs(row.box, SLAB_BYTES, 8):
                voxels = np.frombuffer(_decoded(row, box), np.uint64)
                slabs.append(neuroglancer.encode(voxels.reshape(box.shape_zyx)))
                planes.append(box.shape_zyx[0] // 8)
            row.forget()
        _, y, x = self._box.shape_zyx
        pieces = neuroglancer.join(slabs, planes, (y // 8) * (x // 8))
        if self._compression == "googlegzip":
            return gzip_join(pieces)
        return pieces

    def _rows(self) -> Iterator["_Row"]:
        """Return the layers of the box that one layer of blocks holds."""
        side, _, _ = self._found.shape_zyx
        (z, y0, x0), (end, y1, x1) = self._box
        layers = self._found.coords_zyx[:, 0]
        while z < end:
            stop = min(end, (z // side + 1) * side)
            first, last = np.searchsorted(layers, (z // side, z // side + 1)).tolist()
            yield _Row(self._found.part(first, last), Box((z, y0, x0), (stop, y1, x1)))
            z = stop


class _Row:
    """One layer of blocks of an answer; they are fetched by the first slab that needs them."""

    def __init__(self, found: BlockSet, box: Box) -> None:
        self._found = found
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self.box = box

    def load(self) -> Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._found.load()
            return self._loaded

    def forget(self) -> None:
        """Let go of the blocks."""
        self._loaded = None


def _decoded(row: _Row, box: Box) -> memoryview:
    """Return the voxels of a slab as bytes, in memory that is used again when nobody has it any more."""
    return _voxels(row.load(), box)


def _voxels(loaded: Loaded, box: Box) -> memoryview:
    voxels = _BUFFERS.lease(8 * box.volume)
    loaded.read(box, np.frombuffer(voxels, np.uint64).reshape(box.shape_zyx))
    return voxels


def _gzip_slab(row: _Row, box: Box) -> GzipPart:
    return gzip_part(_decoded(row, box))


def _lz4_slab(row: _Row, box: Box) -> Lz4Part:
    found = row.load().lz4_found(box)
    if found is not None:
        return lz4_part_of(bytes(found.block), found.last, 8 * box.volume)
    return lz4_part(_decoded(row, box))


_MAKERS: dict[str, Callable[[_Row, Box], Any]] = {
    "": _decoded,
    "gzip": _gzip_slab,
    "lz4": _lz4_slab,
}
"""What makes a slab of a large answer."""


def _slabs(box: Box, size: int, step: int = 1) -> Iterator[Box]:
    """Cut a box into slabs of about `size` bytes, of a multiple of `step` planes if it is one."""
    (z0, y0, x0), (z1, y1, x1) = box
    planes = max(step, size // (8 * (y1 - y0) * (x1 - x0)) // step * step)
    for z in range(z0, z1, planes):
        yield Box((z, y0, x0), (min(z1, z + planes), y1, x1))
