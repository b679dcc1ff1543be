"""Answers to GET raw: a box of voxels in one go, or in slabs of which one is made while one is sent."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from dvid_es.codecs import images
from dvid_es.codecs.images import Format
from dvid_es.datatypes.imageblk.pixels import in_format, pixels_of
from dvid_es.datatypes.imageblk.reads import Found
from dvid_es.geometry import Box
from dvid_es.http.answers import AHEAD, Buffers, Lent, Part

SMALL_BYTES = 4 << 20
"""Voxels of up to so many bytes are answered whole."""

SLAB_BYTES = 64 << 20
"""Most voxels of one slab of a large answer: mostly that is a whole layer of blocks, whose blocks are fetched
and decoded once."""

LARGE_SLAB_BYTES = 32 << 20
"""Of slabs from this size on, one is made ahead and not two."""

_BUFFERS = Buffers(16 << 20, kept_max=4)


class VolumeAnswer:
    """The body of one GET raw."""

    def __init__(self, found: Found, box: Box) -> None:
        """Answer `box` from the blocks that cover it."""
        self._found = found
        self._box = box
        self.length = found.layout.dtype.itemsize * box.volume

    @property
    def is_small(self) -> bool:
        """Whether the body is best made in one go."""
        return self.length <= SMALL_BYTES

    @property
    def ahead_max(self) -> int:
        """How many slabs are made while one is sent."""
        return 1 if self._slab_bytes >= LARGE_SLAB_BYTES else AHEAD

    @property
    def memory_bytes(self) -> int:
        """Bytes of voxels that are in memory at once."""
        return min(self.length, (self.ahead_max + 1) * self._slab_bytes)

    @property
    def _slab_bytes(self) -> int:
        z, y, x = self._box.shape_zyx
        plane = self._found.layout.dtype.itemsize * y * x
        layer = min(z, self._found.layout.shape_zyx[0]) * plane
        return max(min(layer, SLAB_BYTES), plane)

    def whole(self) -> memoryview:
        """Return the body."""
        return memoryview(self._found.read(self._box).reshape(-1).view(np.uint8))

    def parts(self) -> Iterator[Part]:
        """Return what makes the body part by part."""
        for found, layer in self._found.layers(self._box):
            for box in _slabs(layer, self._found.layout.dtype.itemsize):
                yield partial(_slab, found, box)


def _slab(found: Found, box: Box) -> Lent:
    dtype = found.layout.dtype
    size = dtype.itemsize * box.volume
    buffer = _BUFFERS.take(size)
    voxels = buffer[:size]
    found.read(box, voxels.view(dtype).reshape(box.shape_zyx))
    return Lent(memoryview(voxels), partial(_BUFFERS.give, buffer))


def _slabs(box: Box, voxel_bytes: int) -> Iterator[Box]:
    """Cut a box into slabs of at most SLAB_BYTES, of at least one plane."""
    (z0, y0, x0), (z1, y1, x1) = box
    planes = max(1, SLAB_BYTES // (voxel_bytes * (y1 - y0) * (x1 - x0)))
    for z in range(z0, z1, planes):
        yield Box((z, y0, x0), (min(z1, z + planes), y1, x1))


def picture(found: Found, box: Box, form: Format) -> bytes:
    """Return the planes of a box under each other in one picture.

    Source: ServeHTTP in datatype/imageblk/imageblk.go (janelia-flyem/dvid), GET raw with jpg.
    """
    z, y, x = box.shape_zyx
    voxels = found.read(box).reshape(z * y, x)
    return images.encode(in_format(pixels_of(voxels, found.layout), form), form)
