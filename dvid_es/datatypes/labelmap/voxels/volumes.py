"""Answers to GET raw: a box of voxels in one go, or in slabs of which one is made while one is sent."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import neuroglancer
from dvid_es.codecs.spliced import GzipJoiner, Lz4Joiner, gzip_part, lz4_part
from dvid_es.datatypes.labelmap.voxels.answers import Joiner, Part, Plain
from dvid_es.datatypes.labelmap.voxels.reads import (
    BlockSet,
    compressed,
    decode_box,
    read_volume,
    segmented,
)
from dvid_es.geometry import Box
from dvid_es.http.node import PIECE_BYTES

SMALL_BYTES = 4 << 20
"""Voxels of up to so many bytes are answered whole."""

SLAB_BYTES = 8 << 20
"""Voxels of one slab of a large answer: they stay in the cache of a core."""


class _Buffers:
    """Voxel buffers to use again: fresh memory costs more than decoding into it."""

    def __init__(self, kept_max: int) -> None:
        self._kept: list[NDArray[np.uint64]] = []
        self._kept_max = kept_max
        self._lock = threading.Lock()

    def take(self, voxels: int) -> NDArray[np.uint64]:
        with self._lock:
            if self._kept and voxels * 8 <= SLAB_BYTES:
                return self._kept.pop()
        return np.empty(max(voxels, SLAB_BYTES // 8), np.uint64)

    def give(self, buffer: NDArray[np.uint64]) -> None:
        with self._lock:
            if buffer.nbytes == SLAB_BYTES and len(self._kept) < self._kept_max:
                self._kept.append(buffer)


_BUFFERS = _Buffers(kept_max=8)


def is_small(box: Box) -> bool:
    """Say whether the body of an answer is best made in one go."""
    return 8 * box.volume <= SMALL_BYTES


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
    def _is_one_block(self) -> bool:
        shape = self._found.shape_zyx
        aligned = self._box.is_aligned(shape) and self._box.shape_zyx == shape
        return aligned and len(self._found) == 1

    def whole(self) -> Any:
        """Return the body."""
        if self._compression.startswith("google") and self._is_one_block:
            segmentation = neuroglancer.encode_block(self._found.label_blocks()[0])
            return segmented(segmentation, self._compression)
        if not self._compression:
            volume = read_volume(self._found, self._box)
            return memoryview(volume.reshape(-1).view(np.uint8))
        buffer = _BUFFERS.take(self._box.volume)
        out = buffer[: self._box.volume].reshape(self._box.shape_zyx)
        result = compressed(read_volume(self._found, self._box, out), self._compression)
        _BUFFERS.give(buffer)
        return result

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
        """Return what makes the body part by part."""
        finish = _FINISH.get(self._compression)
        if finish is None:
            yield lambda: (self.whole(),)
            return
        for row in self._rows():
            for box in _slabs(row.box):
                yield partial(row.slab, box, finish)

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
    """One layer of blocks of an answer; its blocks are fetched by the first slab that needs them."""

    def __init__(self, found: BlockSet, box: Box) -> None:
        self._found = found
        self._lock = threading.Lock()
        self._blocks: list[bytes] | None = None
        self.box = box

    def slab(self, box: Box, finish: Callable[[memoryview], Any]) -> Any:
        with self._lock:
            if self._blocks is None:
                self._blocks = self._found.label_blocks()
        buffer = _BUFFERS.take(box.volume)
        out = buffer[: box.volume].reshape(box.shape_zyx)
        if len(self._found) < box.blocks(self._found.shape_zyx).volume:
            out[:] = 0
        decode_box(self._blocks, self._found.coords_zyx, box, out)
        result = finish(memoryview(out.reshape(-1).view(np.uint8)))
        _BUFFERS.give(buffer)
        return result


def _copied(data: memoryview) -> Sequence[bytes]:
    return [bytes(data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES)]


_FINISH: dict[str, Callable[[memoryview], Any]] = {
    "": _copied,
    "gzip": gzip_part,
    "lz4": lz4_part,
}
"""What is done to a slab before its buffer is used again."""


def _slabs(box: Box) -> Iterator[Box]:
    (z0, y0, x0), (z1, y1, x1) = box
    planes = max(1, SLAB_BYTES // (8 * (y1 - y0) * (x1 - x0)))
    for z in range(z0, z1, planes):
        yield Box((z, y0, x0), (min(z1, z + planes), y1, x1))
