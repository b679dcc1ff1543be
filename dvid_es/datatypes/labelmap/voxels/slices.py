"""Slices of labels: which voxels a picture shows, and the pixels that show them.

Source: dvid/shape.go and datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs.murmur import colours
from dvid_es.datatypes.labelmap.voxels.reads import BlockSet
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.wire import parse_point

Labels = NDArray[np.uint64]
Picks = NDArray[np.int64] | None

PIXELS_MAX = 1 << 26
"""Most pixels of one picture, such as 8192 x 8192: the labels of these have 512 MiB."""

TASK_BLOCKS = 64
"""Blocks that one task decodes: what it holds of them stays small."""

_AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}


class Slice(NamedTuple):
    """What a picture shows."""

    box: Box
    """Voxels at the scale of the request, one thick."""

    shape: tuple[int, int]
    """Rows and columns of these voxels."""

    rows: Picks
    """The row of voxels that each row of pixels shows, int64[height]; None: its own."""

    columns: Picks
    """The same of columns, int64[width]."""


def parse_slice(
    plane: str, size: str, offset: str, voxel_size_xyz: list[float] | None = None
) -> Slice:
    """Return the slice of a plane (xy, xz or yz), a size such as 512_256 and an offset x_y_z.

    With the size of a voxel, pixels are isotropic: squares of the finer side of the plane's voxels.
    The size is in pixels then, the offset in voxels. A pixel shows the voxel that its centre is in;
    labels are never mixed.

    Raises:
        InvalidRequest: not such numbers, too many pixels, or voxels outside of 32 bits.
    """
    width, height = parse_point(size, "size", 2)
    offset_xyz = parse_point(offset, "offset")
    if min(width, height) < 1:
        raise InvalidRequest(f'size "{size}" must be at least 1 in each dimension')
    if width * height > PIXELS_MAX:
        raise InvalidRequest(
            f"a picture has at most {PIXELS_MAX} pixels, not {width} x {height}: ask in parts"
        )
    across, down = _AXES[plane]
    columns = rows = None
    if voxel_size_xyz is not None:
        fine = min(voxel_size_xyz[across], voxel_size_xyz[down])
        columns = _picks(width, fine, voxel_size_xyz[across])
        rows = _picks(height, fine, voxel_size_xyz[down])
    shape = (
        height if rows is None else int(rows[-1]) + 1,
        width if columns is None else int(columns[-1]) + 1,
    )
    size_xyz = [1, 1, 1]
    size_xyz[down], size_xyz[across] = shape
    if any(a + n > 1 << 31 for a, n in zip(offset_xyz, size_xyz, strict=True)):
        raise InvalidRequest(f"a slice of {size} at {offset} leaves the 32 bits of coordinates")
    box = Box.from_offset_size(offset_xyz, tuple(size_xyz))  # type: ignore[arg-type]
    return Slice(box, shape, rows, columns)


def _picks(pixels: int, fine: float, side: float) -> Picks:
    """Return the voxels, `side` long, that hold the centres of pixels that are `fine` long."""
    if side == fine:
        return None
    return np.floor((np.arange(pixels) + 0.5) * fine / side).astype(np.int64)


def paste(found: BlockSet, start: int, stop: int, box: Box, out: Labels) -> None:
    """Write the voxels of some blocks of a slice into uint64[Z, Y, X], which starts with zeros."""
    found.part(start, stop).load().decode(box, out)


def labels_shown(wanted: Slice, voxels: Labels) -> Labels:
    """Return the labels uint64[height, width] of the pixels of a slice's voxels."""
    labels = voxels.reshape(wanted.shape)
    if wanted.rows is not None:
        labels = labels[wanted.rows]
    return labels if wanted.columns is None else labels[:, wanted.columns]


def label_pixels(labels: Labels) -> NDArray[Any]:
    """Return labels as red, green, blue and alpha of 16 bits: uint16[height, width, 4].

    The bytes of these in big-endian order, as in a PNG, are the bytes of the label, lowest first.
    """
    labels = np.ascontiguousarray(labels, "<u8")
    return labels.view(">u2").reshape(*labels.shape, 4)


def colour_pixels(labels: Labels) -> NDArray[np.uint8]:
    """Return a colour for each label, from its hash: uint8[height, width, 3]."""
    return colours(labels)
