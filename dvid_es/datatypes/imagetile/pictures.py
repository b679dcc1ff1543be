"""Pixels of tiles, and pictures put together from them.

Source: GetImage and getTileImage in datatype/imagetile/imagetile.go, and UnmarshalBinary in
dvid/image.go (janelia-flyem/dvid).
"""

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dvid_es.codecs import images
from dvid_es.codecs.compression import decode_stored_value
from dvid_es.codecs.images import Pixels
from dvid_es.datatypes.imagetile.settings import FORMATS
from dvid_es.datatypes.imagetile.tiles import Tile
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.slices import AXES, PIXELS_MAX, Slice

TILES_MAX = 1 << 14
"""Most tiles of one picture."""

SOURCES: dict[str, tuple[np.dtype[Any], int]] = {
    "uint8blk": (np.dtype("u1"), 1),
    "uint16blk": (np.dtype("u2"), 1),
    "uint32blk": (np.dtype("u1"), 4),
    "float32blk": (np.dtype("u1"), 4),
    "rgba8blk": (np.dtype("u1"), 4),
    "uint64blk": (np.dtype("u2"), 4),
}
"""Samples and channels of the pictures of a volume, by its datatype."""

_HEAD = struct.Struct("<B3i")
_KINDS = {0: (">u1", 1), 1: (">u2", 1), 2: (">u1", 4), 3: (">u2", 4)}
"""Samples and channels by the kind of a picture in DVID's own form."""


def decode_own(data: bytes) -> Pixels:
    """Return the pixels of a picture in DVID's serialization, as tiles of the format lz4 are.

    Raises:
        InvalidRequest: it is no such picture.
    """
    content = decode_stored_value(data, 8 * PIXELS_MAX + 65536)
    start = 4 + int.from_bytes(content[:4], "little")
    if len(content) < start + _HEAD.size:
        raise InvalidRequest("the tile is no picture of DVID's: it is cut off")
    kind, stride, width, height = _HEAD.unpack_from(content, start)
    if kind not in _KINDS:
        raise InvalidRequest(f"the tile is no picture of DVID's: it has kind {kind}")
    dtype, channels = _KINDS[kind]
    row = width * channels * np.dtype(dtype).itemsize
    start += _HEAD.size
    if min(width, height) < 1 or stride != row or len(content) != start + row * height:
        raise InvalidRequest("the tile is no picture of DVID's: its size is not that of its pixels")
    pixels = np.frombuffer(content, dtype, offset=start)
    return pixels.reshape((height, width, channels) if channels > 1 else (height, width))


def decode(data: bytes, encoding: int) -> Pixels:
    """Return the pixels of a tile.

    Raises:
        InvalidRequest: it is no picture in the format of the instance.
    """
    if encoding == FORMATS["lz4"]:
        return decode_own(data)
    return images.decode(data, "PNG" if encoding == FORMATS["png"] else "JPEG", PIXELS_MAX)


class Piece(NamedTuple):
    """A tile, and where its first pixel is in a picture."""

    tile: Tile
    row: int
    column: int


def pieces(plane: str, box: Box, size_xyz: tuple[int, ...]) -> list[Piece]:
    """Return the tiles of scale 0 that a slice meets.

    Raises:
        InvalidRequest: they are too many.
    """
    right, down = AXES[plane]
    start = box.start_zyx[::-1]
    stop = box.stop_zyx[::-1]
    spans = [
        range(start[axis] // size_xyz[axis], -(-stop[axis] // size_xyz[axis]))
        for axis in (down, right)
    ]
    if math.prod(map(len, spans)) > TILES_MAX:
        raise InvalidRequest(f"the picture meets more than {TILES_MAX} tiles: ask in parts")
    return list(_pieces(plane, list(start), spans, size_xyz))


def _pieces(
    plane: str, start_xyz: list[int], spans: list[range], size_xyz: tuple[int, ...]
) -> Iterator[Piece]:
    right, down = AXES[plane]
    for row in spans[0]:
        for column in spans[1]:
            at = list(start_xyz)
            at[down], at[right] = row, column
            x, y, z = at
            yield Piece(
                Tile(plane, 0, (z, y, x)),
                row * size_xyz[down] - start_xyz[down],
                column * size_xyz[right] - start_xyz[right],
            )


def blank(wanted: Slice, typename: str) -> Pixels:
    """Return a black picture for the voxels of a slice, such as those of a volume are."""
    dtype, channels = SOURCES[typename]
    if channels == 1:
        return np.zeros(wanted.shape, dtype)
    return np.zeros((*wanted.shape, channels), dtype)


def placeholder(piece: Piece, size_xyz: tuple[int, ...]) -> Pixels:
    """Return a drawing that names a missing tile."""
    right, down = AXES[piece.tile.plane]
    z, y, x = piece.tile.at_zyx
    lines = [
        f"{piece.tile.plane.upper()} tile {x}, {y}, {z} at scale {piece.tile.scale}",
        f"{size_xyz[right]} x {size_xyz[down]} pixels",
    ]
    return images.drawing(size_xyz[right], size_xyz[down], lines)


def paste(tile: Pixels, piece: Piece, size: tuple[int, int], out: Pixels) -> None:
    """Write the pixels of a tile, of `size` rows and columns at most, into a picture."""
    rows, columns = (
        slice(max(0, first), min(length, first + most, first + there))
        for first, length, most, there in zip(
            (piece.row, piece.column), out.shape, size, tile.shape, strict=False
        )
    )
    if rows.start < rows.stop and columns.start < columns.stop:
        part = tile[
            rows.start - piece.row : rows.stop - piece.row,
            columns.start - piece.column : columns.stop - piece.column,
        ]
        out[rows, columns] = images.converted(part, out.dtype, out.ndim == 3)
