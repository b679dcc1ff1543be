"""Answers made of a region: its spans as JSON, and masks of voxels.

Source: Get, GetMask and PointQuery in datatype/roi/roi.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.geometry import Box, Triple
from dvid_es.projections.regions import Blocks, Region, Spans

SPANS_PER_PIECE = 8192
PLANE_BYTES = 4 << 20
"""A plane of a mask of up to so many voxels is made once for its whole layer of blocks."""

_encode = msgspec.json.Encoder().encode


def spans_json(spans: Spans) -> Iterator[bytes]:
    """Iterate over the pieces of `[[z,y,x0,x1],...]`."""
    mark = b"["
    for start in range(0, len(spans), SPANS_PER_PIECE):
        yield mark + _encode(spans[start : start + SPANS_PER_PIECE].tolist())[1:-1]
        mark = b","
    yield b"]" if len(spans) else b"[]"


def booleans_json(values: NDArray[np.bool_]) -> bytes:
    """Return `[true,false,...]`."""
    return _encode(values.tolist())


def mask(region: Region, box: Box) -> Iterator[bytes]:
    """Iterate over the voxels of a box, uint8 in ZYX order: 1 inside of the region, 0 outside.

    Unlike DVID's, a mask is right also where a corner below 0 lies within a block.
    """
    (z0, y0, x0), (z1, y1, x1) = box
    depth = region.block_zyx[0]
    layers = range(z0 // depth, (z1 - 1) // depth + 1) if box.volume else range(0)
    for layer in layers:
        blocks = Blocks(region.between(layer, layer))
        planes = min(z1, (layer + 1) * depth) - max(z0, layer * depth)
        if (y1 - y0) * (x1 - x0) <= PLANE_BYTES:
            plane = _tile(blocks, region.block_zyx, layer, (y0, y1), (x0, x1))
            for _ in range(planes):
                yield plane
            continue
        for _ in range(planes):
            for y in range(y0, y1):
                for x in range(x0, x1, PLANE_BYTES):
                    row = (y, y + 1), (x, min(x1, x + PLANE_BYTES))
                    yield _tile(blocks, region.block_zyx, layer, *row)


def _tile(
    blocks: Blocks, block_zyx: Triple, layer: int, ys: tuple[int, int], xs: tuple[int, int]
) -> bytes:
    """Return a rectangle of one plane of a mask."""
    (rows, first_y, many_y), (columns, first_x, many_x) = (
        _places(ys, block_zyx[1]),
        _places(xs, block_zyx[2]),
    )
    coords = np.empty((many_y, many_x, 3), np.int64)
    coords[..., 0] = layer
    coords[..., 1] = np.arange(first_y, first_y + many_y)[:, None]
    coords[..., 2] = np.arange(first_x, first_x + many_x)
    held = blocks.holds(coords.reshape(-1, 3)).reshape(many_y, many_x)
    return held.view(np.uint8)[:, columns][rows].tobytes()


def _places(bounds: tuple[int, int], side: int) -> tuple[NDArray[np.int64], int, int]:
    """Return which block each voxel of a half-open range is in, the first one, and how many there are."""
    blocks = np.arange(*bounds, dtype=np.int64) // side
    first = int(blocks[0])
    return blocks - first, first, int(blocks[-1]) - first + 1
