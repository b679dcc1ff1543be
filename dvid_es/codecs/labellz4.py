"""LZ4 blocks of label volumes, made out of label blocks without labels of 8 bytes in between.

A volume is decoded to names of one byte or two, which a palette turns into labels, and those are
compressed by looking at neighbours: see `labellz4_kernels`. What comes out is smaller than what LZ4's own
compressor makes, and any LZ4 reads it.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labellz4_kernels as kernels
from dvid_es.codecs.compression import LZ4_MAX_INPUT
from dvid_es.codecs.labelbatch import LabelBatch
from dvid_es.errors import InvalidRequest

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]

FURTHEST = 8191
"""Most voxels that an offset of LZ4 reaches back, at 8 bytes each."""

_KEPT_VOXELS = 1 << 20
"""A thread keeps the memory for so many voxels."""


class _Arena(threading.local):
    """Memory of one thread that is used again: fresh pages cost more than what is done in them."""

    def __init__(self) -> None:
        self.voxels = np.empty(0, np.uint8)
        self.out = np.empty(0, np.uint8)

    def take(self, name: str, size: int) -> NDArray[np.uint8]:
        kept: NDArray[np.uint8] = getattr(self, name)
        if size <= len(kept):
            return kept[:size]
        fresh = np.empty(size, np.uint8)
        if size <= 9 * _KEPT_VOXELS:
            setattr(self, name, fresh)
        return fresh


_ARENA = _Arena()


class Compressed(NamedTuple):
    """An LZ4 block."""

    block: memoryview
    """In memory of its thread: to be copied before the thread compresses again."""

    last: int
    """Where its last sequence begins, which has no match."""


def compress(
    batch: LabelBatch,
    tables: Labels,
    starts_zyx: NDArray[np.int64],
    box_start_zyx: Triple,
    box_shape_zyx: Triple,
) -> Compressed | None:
    """Return the LZ4 block of a box of labels: uint64, Z slowest, little-endian.

    Args:
        batch: label blocks, which do not overlap; what they do not cover is 0.
        tables: uint64, the labels to use in place of their own tables.
        starts_zyx: int64[n, 3]: place of each block's first voxel.
        box_start_zyx: place of the box's first voxel.
        box_shape_zyx: its shape in voxels, not empty.

    Returns:
        None if there are too many labels for names of two bytes.

    Raises:
        InvalidRequest: no LZ4 block holds so much.
    """
    z, y, x = box_shape_zyx
    count = z * y * x
    if 8 * count > LZ4_MAX_INPUT:
        raise InvalidRequest(f"{8 * count} bytes do not fit one LZ4 block: ask for a smaller box")
    found = name_labels(tables)
    if found is None:
        return None
    names, palette = found
    voxels = _ARENA.take("voxels", count * names.itemsize).view(names.dtype)
    batch.decode(names, starts_zyx, voxels.reshape(box_shape_zyx), box_start_zyx, clear=True)
    # Above, in the slice before, left, left and right of above. What is out of reach: left again.
    wanted = (x, y * x, 1, x - 1, x + 1)
    offsets = tuple(offset if 1 <= offset <= FURTHEST else 1 for offset in wanted)
    out = _ARENA.take("out", 8 * count + count // 16 + 64)
    length, last = kernels.compress(voxels, palette, offsets, out)
    return Compressed(memoryview(out)[:length], last)


def name_labels(labels: Labels) -> tuple[NDArray[Any], Labels] | None:
    """Return a name for each label, and the labels of names; None if over 65,535 differ.

    Returns:
        uint8[n] or uint16[n], equal for equal labels, 0 for label 0; and uint64[256 or 65536].
    """
    for kind, size in ((np.uint8, 1 << 8), (np.uint16, 1 << 16)):
        names: NDArray[Any] = np.empty(len(labels), kind)
        palette = np.empty(size, np.uint64)
        if kernels.name_labels(labels, names, palette):
            return names, palette
    return None
