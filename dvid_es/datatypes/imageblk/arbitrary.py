"""Pictures of planes of any orientation, given by three corners in physical units.

Each pixel is interpolated between the eight voxels around it. Blocks are fetched once for each strip
of the picture, and which ones they are is found out with arrays, not pixel by pixel.

Source: datatype/imageblk/arb_image.go (janelia-flyem/dvid).
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs.images import Pixels
from dvid_es.datatypes.imageblk.layout import Layout
from dvid_es.datatypes.imageblk.reads import Found
from dvid_es.datatypes.imageblk.slices import PIXELS_MAX
from dvid_es.errors import InvalidRequest

Floats = NDArray[np.float64]
Coords = NDArray[np.int32]

STRIP_PIXELS = 1 << 16
"""Pixels that are looked up together."""

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

    def strips(self) -> Iterator[tuple[int, int]]:
        """Cut the picture into strips of rows."""
        rows = max(1, STRIP_PIXELS // self.width)
        for first in range(0, self.height, rows):
            yield first, min(self.height, first + rows)

    def points(self, first: int, last: int) -> Floats:
        """Return the places float64[n, 3] (ZYX) of the pixels of some rows."""
        rows = np.arange(first, last)[:, None, None] * self.down
        columns = np.arange(self.width)[None, :, None] * self.right
        points: Floats = (self.corner + rows + columns).reshape(-1, 3)[:, ::-1]
        return points


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
    """The eight voxels around each pixel of a strip."""

    blocks: Coords
    """int32[b, 3]: the blocks that hold them, in ZYX order."""

    which: NDArray[np.int64]
    """int64[8, n]: place of the block of each."""

    inside: NDArray[np.int64]
    """int64[8, n]: place of each within its block."""

    fraction: Floats
    """float64[n, 3] (ZYX): how far each pixel is from the lower voxel."""


def _around(points_zyx: Floats, layout: Layout) -> _Corners:
    """Return the voxels around points; a point on a voxel has that one eight times."""
    low = np.floor(points_zyx)
    sides = np.array(layout.shape_zyx)
    both = np.stack([low, np.ceil(points_zyx)]).astype(np.int64)
    at = both // sides
    rest = both - at * sides
    # On each axis few blocks are met: numbers of these fit together into one.
    names, places = [], []
    for axis in range(3):
        known, place = np.unique(at[:, :, axis], return_inverse=True)
        names.append(known)
        places.append(place.reshape(2, -1))
    ny, nx = len(names[1]), len(names[2])
    _, dy, dx = layout.shape_zyx
    keys, inside = [], []
    for corner in range(8):
        z, y, x = corner >> 2, corner >> 1 & 1, corner & 1
        keys.append((places[0][z] * ny + places[1][y]) * nx + places[2][x])
        inside.append((rest[z, :, 0] * dy + rest[y, :, 1]) * dx + rest[x, :, 2])
    met, which = np.unique(np.stack(keys), return_inverse=True)
    blocks = np.stack(
        [names[0][met // (ny * nx)], names[1][met // nx % ny], names[2][met % nx]], axis=1
    )
    return _Corners(
        blocks.astype(np.int32), which.reshape(8, -1), np.stack(inside), points_zyx - low
    )


def blocks_of(plane: Plane, layout: Layout) -> Coords:
    """Return the blocks int32[n, 3] that a picture needs, in ZYX order.

    Raises:
        InvalidRequest: they are too many.
    """
    met, more, count = np.empty((0, 3), np.int32), list[Coords](), 0
    for first, last in plane.strips():
        more.append(_around(plane.points(first, last), layout).blocks)
        count += len(more[-1])
        if count > BLOCKS_MAX or last == plane.height:
            met = np.unique(np.concatenate([met, *more]), axis=0)
            more, count = [], 0
        if len(met) > BLOCKS_MAX:
            raise InvalidRequest(
                f"the picture meets more than {BLOCKS_MAX} blocks of voxels: ask in parts"
            )
    return met


def paint(plane: Plane, found: Found, first: int, last: int, out: Pixels) -> None:
    """Fill rows `first` to `last` of the picture [height, width] or [height, width, 4]."""
    layout = found.layout
    corners = _around(plane.points(first, last), layout)
    needed = found.chosen(corners.blocks)
    there = dict(zip(map(tuple, needed.coords_zyx.tolist()), needed.decoded(), strict=True))
    samples = np.full(corners.which.shape, layout.background, layout.dtype)
    order = np.argsort(corners.which, axis=None, kind="stable")
    bounds = np.searchsorted(
        corners.which.reshape(-1)[order], np.arange(len(corners.blocks) + 1)
    ).tolist()
    flat, inside = samples.reshape(-1), corners.inside.reshape(-1)
    for place, at in enumerate(corners.blocks.tolist()):
        voxels = there.get(tuple(at))
        if voxels is not None:
            chosen = order[bounds[place] : bounds[place + 1]]
            flat[chosen] = voxels.reshape(-1)[inside[chosen]]
    values = _between(_channels(samples, layout), corners.fraction)
    out[first:last] = values.reshape(out[first:last].shape)


def _channels(samples: NDArray[np.generic], layout: Layout) -> Floats:
    """Return samples [8, n] as float64[8, n, channels]."""
    if layout.channels == 1:
        return samples.astype(np.float64)[:, :, None]
    return samples.view(np.uint8).reshape(*samples.shape, 4).astype(np.float64)


def _between(samples: Floats, fraction_zyx: Floats) -> Floats:
    """Return float64[n, channels] between the corners float64[8, n, channels], to the nearest."""
    z, y, x = (fraction_zyx[:, axis, None] for axis in range(3))
    along_x = samples[0::2] * (1 - x) + samples[1::2] * x
    along_y = along_x[0::2] * (1 - y) + along_x[1::2] * y
    found: Floats = np.floor(along_y[0] * (1 - z) + along_y[1] * z + 0.5)
    return found
