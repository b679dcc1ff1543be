"""Pictures of planes of any orientation, given by three corners in physical units.

Each pixel is interpolated between the eight voxels around it. Blocks are fetched once for each part
of the picture, and which ones they are is found out with arrays, not pixel by pixel.

Source: datatype/imageblk/arb_image.go (janelia-flyem/dvid).
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs.images import Pixels
from dvid_es.datatypes.imageblk.layout import Layout
from dvid_es.datatypes.imageblk.reads import Found
from dvid_es.errors import InvalidRequest
from dvid_es.http.answers import spans
from dvid_es.http.slices import PIXELS_MAX

Floats = NDArray[np.float64]
Coords = NDArray[np.int32]
Places = NDArray[np.int64]

PART_PIXELS = 1 << 15
"""Pixels that are looked up together."""

DECODED_BYTES = 32 << 20
"""Voxels of all blocks that are looked into together."""

BLOCKS_MAX = 1 << 18
"""Most blocks that one picture may need."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z", re.ASCII)
_REACH = 1 << 31


class Plane(NamedTuple):
    """A picture in a volume; coordinates are voxels, XYZ, with fractions."""

    corner: Floats
    """Centre of the first pixel."""

    right: Floats
    """From a pixel to its right neighbour."""

    down: Floats
    width: int
    height: int

    def parts(self) -> Iterator[tuple[int, int]]:
        """Cut the pixels, row after row, into spans."""
        return spans(self.width * self.height, PART_PIXELS)

    def points(self, start: int, stop: int) -> Floats:
        """Return the places float64[3, n] (ZYX) of a span of pixels."""
        row, column = np.divmod(np.arange(start, stop), self.width)
        axes = zip(self.corner, self.right, self.down, strict=True)
        along = [at + column * right + row * down for at, right, down in axes]
        return np.stack(along[::-1])


def parse_plane(words: Sequence[str], voxel_size_xyz: Sequence[float]) -> Plane:
    """Return the plane of top left, top right, bottom left and resolution.

    Raises:
        InvalidRequest: not such numbers, too many pixels, or corners outside of 32 bits of voxels.
    """
    left, right, bottom = (_corner(word) for word in words[:3])
    step = _number(words[3], "resolution")
    if step <= 0:
        raise InvalidRequest(f"the resolution must be above 0, not {words[3]}")
    across, down = math.dist(left, right) / step, math.dist(left, bottom) / step
    if across >= PIXELS_MAX or down >= PIXELS_MAX:
        raise InvalidRequest(_too_many(across + 1, down + 1))
    columns, rows = math.floor(across), math.floor(down)
    if (columns + 1) * (rows + 1) > PIXELS_MAX:
        raise InvalidRequest(_too_many(columns + 1, rows + 1))
    size = np.array(voxel_size_xyz, np.float64)
    corner, to_right, to_bottom = left / size, (right - left) / size, (bottom - left) / size
    reach = np.abs([corner, corner + to_right, corner + to_bottom, corner + to_right + to_bottom])
    if reach.max() >= _REACH - 2:
        raise InvalidRequest("the corners of the picture leave the 32 bits of coordinates")
    return Plane(
        corner, to_right / max(columns, 1), to_bottom / max(rows, 1), columns + 1, rows + 1
    )


def _too_many(width: float, height: float) -> str:
    return (
        f"a picture has at most {PIXELS_MAX} pixels, not {width:.0f} x {height:.0f}:"
        " choose a coarser resolution or ask in parts"
    )


def _corner(text: str) -> Floats:
    parts = text.split("_")
    if len(parts) != 3:
        raise InvalidRequest(f'corner "{text}" must have 3 numbers joined by "_"')
    return np.array([_number(part, "corner") for part in parts])


def _number(text: str, what: str) -> float:
    if len(text) > 60 or not _NUMBER.match(text) or not math.isfinite(number := float(text)):
        raise InvalidRequest(f'{what} "{text}" is not a number')
    return number


def check_kind(layout: Layout) -> None:
    """Refuse voxels between which there is nothing to be shown.

    Raises:
        InvalidRequest: they are neither grey of 8 or 16 bits nor colours.
    """
    if layout.dtype.itemsize > 2 and layout.channels == 1:
        raise InvalidRequest(
            "arb makes pictures of grey voxels of 8 or 16 bits and of colours only: use raw"
        )


class _Corners(NamedTuple):
    """The eight voxels around each of n pixels."""

    blocks: Coords
    """int32[b, 3]: the blocks that hold them, in ZYX order."""

    which: Places
    """int64[8, n]: place of the block of each."""

    inside: Places
    """int64[8, n]: place of each within its block."""

    fraction: Floats
    """float64[3, n] (ZYX): how far each pixel is from the lower voxel."""


def _around(points_zyx: Floats, layout: Layout) -> _Corners:
    """Return the voxels around points float64[3, n]; a point on a voxel has that one eight times."""
    low = np.floor(points_zyx)
    names, places, rests = [], [], []
    for axis, side in enumerate(layout.shape_zyx):
        both = np.stack([low[axis], np.ceil(points_zyx[axis])]).astype(np.int64)
        at = both // side
        known, place = _numbered(at)
        names.append(known)
        places.append(place)
        rests.append(both - at * side)
    ny, nx = len(names[1]), len(names[2])
    _, dy, dx = layout.shape_zyx
    shape = (8, points_zyx.shape[1])
    keys, inside = np.empty(shape, np.int64), np.empty(shape, np.int64)
    for corner in range(8):
        z, y, x = corner >> 2, corner >> 1 & 1, corner & 1
        keys[corner] = (places[0][z] * ny + places[1][y]) * nx + places[2][x]
        inside[corner] = (rests[0][z] * dy + rests[1][y]) * dx + rests[2][x]
    met, which = _numbered(keys)
    blocks = np.stack(
        [names[0][met // (ny * nx)], names[1][met // nx % ny], names[2][met % nx]], axis=1
    )
    return _Corners(blocks.astype(np.int32), which, inside, points_zyx - low)


def _numbered(values: Places) -> tuple[Places, Places]:
    """Return the distinct values, ascending, and which of them each value is."""
    first = int(values.min())
    reach = int(values.max()) - first + 1
    if reach > max(1 << 16, 2 * values.size):
        known, places = np.unique(values, return_inverse=True)
        return known, places.reshape(values.shape)
    there = np.zeros(reach, bool)
    shifted = values - first
    there[shifted] = True
    return np.flatnonzero(there) + first, (np.cumsum(there) - 1)[shifted]


def blocks_of(plane: Plane, layout: Layout) -> Coords:
    """Return the blocks int32[n, 3] that a picture needs, in ZYX order.

    Raises:
        InvalidRequest: they are too many.
    """
    met, more, count = np.empty((0, 3), np.int32), list[Coords](), 0
    for start, stop in plane.parts():
        more.append(_around(plane.points(start, stop), layout).blocks)
        count += len(more[-1])
        if count > BLOCKS_MAX or stop == plane.width * plane.height:
            met = np.unique(np.concatenate([met, *more]), axis=0)
            more, count = [], 0
        if len(met) > BLOCKS_MAX:
            raise InvalidRequest(
                f"the picture meets more than {BLOCKS_MAX} blocks of voxels: ask in parts"
            )
    return met


def paint(plane: Plane, found: Found, start: int, stop: int, out: Pixels) -> None:
    """Fill a span of the pixels [n] or [n, 4] of a picture."""
    layout = found.layout
    corners = _around(plane.points(start, stop), layout)
    if len(corners.blocks) * layout.block_bytes > DECODED_BYTES and stop - start > 1:
        middle = (start + stop) // 2
        paint(plane, found, start, middle, out)
        paint(plane, found, middle, stop, out)
        return
    size = math.prod(layout.shape_zyx)
    voxels = np.full((len(corners.blocks), size), layout.background, layout.dtype)
    there = found.chosen(corners.blocks)
    for place, block in zip(there.places_in(corners.blocks), there.decoded(), strict=True):
        voxels[place] = block.reshape(-1)
    samples = voxels.reshape(-1)[corners.which * size + corners.inside]
    if layout.channels == 1:
        out[start:stop] = _between(samples, corners.fraction)
        return
    for channel, bytes_of in enumerate(np.moveaxis(samples.view(np.uint8).reshape(8, -1, 4), 2, 0)):
        out[start:stop, channel] = _between(bytes_of, corners.fraction)


def _between(samples: NDArray[Any], fraction_zyx: Floats) -> Floats:
    """Return float64[n] between the corners [8, n], to the nearest whole number."""
    z, y, x = fraction_zyx
    along_x = samples[0::2] * (1 - x) + samples[1::2] * x
    along_y = along_x[0::2] * (1 - y) + along_x[1::2] * y
    found: Floats = np.floor(along_y[0] * (1 - z) + along_y[1] * z + 0.5)
    return found
