"""Slices in paths, such as `raw/xy/512_256/0_0_100`: which voxels a picture shows.

Source: dvid/shape.go and Isotropy2D in dvid/geometry.go (janelia-flyem/dvid).
"""

from typing import NamedTuple

import numpy as np

from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.wire import parse_point

PIXELS_MAX = 1 << 26
"""Most pixels of one picture, such as 8192 x 8192."""

AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
"""Axes of a plane, X being 0: the one that goes right, and the one that goes down."""


class Slice(NamedTuple):
    """What a picture shows."""

    box: Box
    """Voxels, one thick."""

    shape: tuple[int, int]
    """Rows and columns of these voxels."""

    height: int
    width: int
    """Of the picture: more pixels than voxels where these are not square and it is isotropic."""


def parse_slice(
    plane: str, size: str, offset: str, voxel_size_xyz: list[float] | None = None
) -> Slice:
    """Return the slice of a plane (xy, xz or yz), a size such as 512_256 and an offset x_y_z.

    With the size of a voxel, pixels are squares of the finer side of the plane's voxels: the size is
    in pixels then, the offset in voxels.

    Raises:
        InvalidRequest: not such numbers, too many pixels, no voxels, or outside of 32 bits.
    """
    width, height = parse_point(size, "size", 2)
    offset_xyz = parse_point(offset, "offset")
    if min(width, height) < 1:
        raise InvalidRequest(f'size "{size}" must be at least 1 in each dimension')
    if width * height > PIXELS_MAX:
        raise InvalidRequest(
            f"a picture has at most {PIXELS_MAX} pixels, not {width} x {height}: ask in parts"
        )
    across, down = AXES[plane]
    columns, rows = width, height
    if voxel_size_xyz is not None:
        right, below = voxel_size_xyz[across], voxel_size_xyz[down]
        columns = _voxels(width, below, right)
        rows = _voxels(height, right, below)
    if min(columns, rows) < 1:
        raise InvalidRequest(
            f"{width} x {height} square pixels are less than one voxel: ask for more"
        )
    size_xyz = [1, 1, 1]
    size_xyz[down], size_xyz[across] = rows, columns
    if any(a + n > 1 << 31 for a, n in zip(offset_xyz, size_xyz, strict=True)):
        raise InvalidRequest(f"a slice of {size} at {offset} leaves the 32 bits of coordinates")
    box = Box.from_offset_size(offset_xyz, tuple(size_xyz))  # type: ignore[arg-type]
    return Slice(box, (rows, columns), height, width)


def _voxels(pixels: int, other: float, side: float) -> int:
    """Return how many voxels fill pixels along the axis on which they are `side` long."""
    if side <= other:
        return pixels
    scaled = np.float32(pixels) * np.float32(other) / np.float32(side) + np.float32(0.5)
    return int(scaled)
