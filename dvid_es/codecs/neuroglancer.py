"""neuroglancer's compressed_segmentation: uint64, blocks of 8x8x8, one channel.

Written from volumes, or straight from a compressed label block, whose sub-blocks are the same cubes.

Source: oneVolumeToGoogle in datatype/common/labels (janelia-flyem/dvid), and the public description
of the format.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.codecs import neuroglancer_kernels as kernels
from dvid_es.errors import InvalidRequest

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]
Buffer = bytes | bytearray | memoryview


_ONE_CHANNEL = (1).to_bytes(4, "little")
_REACH = 1 << 24
_TABLE = np.uint64(_REACH - 1)


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        "the box is too large for compressed_segmentation, whose tables are found by 24 bits:"
        " ask for a smaller one"
    )


def _finish(words: int, out: NDArray[np.uint8]) -> bytes:
    if words < 0:
        raise _too_large()
    return out[: 4 * words].tobytes()


def _check_sides(shape_zyx: Triple) -> Triple:
    if any(side < 8 or side % 8 for side in shape_zyx):
        z, y, x = shape_zyx
        raise InvalidRequest(f"compressed_segmentation needs sides of 8n voxels, not {x}x{y}x{z}")
    z, y, x = shape_zyx
    return z // 8, y // 8, x // 8


def encode(volume: Labels) -> bytes:
    """Return the compressed_segmentation of a volume.

    Args:
        volume: uint64[Z, Y, X], C order, each side a multiple of 8.

    Raises:
        InvalidRequest: other sides, or so many labels that 24 bits do not reach the last table.
    """
    labelblock.check_volume(volume)
    z, y, x = volume.shape
    grid = _check_sides((z, y, x))
    out = np.empty(4 * kernels.most_words(*grid), np.uint8)
    return _finish(kernels.encode(volume.reshape(-1), *grid, out), out)


def join(
    slabs: Sequence[bytes], planes: Sequence[int], plane_subblocks: int
) -> list[bytes | memoryview]:
    """Return the pieces of the compressed_segmentation of slabs that lie on each other.

    It is the one that `encode` returns for the whole volume.

    Args:
        slabs: compressed_segmentation of each, lowest z first.
        planes: layers of 8 voxels of each.
        plane_subblocks: blocks of 8x8x8 in one such layer.

    Raises:
        InvalidRequest: there are so many labels that 24 bits do not reach the last table.
    """
    counts = [plane_subblocks * n for n in planes]
    begin = 2 * sum(counts)
    pieces: list[bytes | memoryview] = [_ONE_CHANNEL]
    bodies: list[bytes | memoryview] = []
    for slab, count in zip(slabs, counts, strict=True):
        heads = np.frombuffer(slab, "<u4", 2 * count, 4).reshape(count, 2).astype(np.uint64)
        moved = np.uint64(begin) - np.uint64(2 * count)
        tables = (heads[:, 0] & _TABLE) + moved
        if count and int(tables.max()) >= _REACH:
            raise _too_large()
        heads[:, 0] = tables | heads[:, 0] & ~_TABLE
        heads[:, 1] += moved
        pieces.append(heads.astype("<u4").tobytes())
        bodies.append(memoryview(slab)[4 + 8 * count :])
        begin += len(bodies[-1]) // 4
    return pieces + bodies


def encode_block(data: Buffer, table: Labels | None = None) -> bytes:
    """Return the compressed_segmentation of a validated label block, without decoding it.

    `table` takes the place of the block's own labels, as in `labelblock.decode`.
    """
    own = labelblock.table(data)
    labels = own if table is None else table
    assert labels.shape == own.shape, "a table is replaced by one of the same length"
    z, y, x = labelblock.shape(data)
    out = np.empty(4 * kernels.most_words(z // 8, y // 8, x // 8), np.uint8)
    return _finish(kernels.transcode(np.frombuffer(data, np.uint8), labels, out), out)


def decode(data: Buffer, shape_zyx: Triple) -> Labels:
    """Return the volume uint64[Z, Y, X] of a compressed_segmentation.

    Raises:
        InvalidRequest: sides are not multiples of 8, or the bytes point outside of themselves.
    """
    grid = _check_sides(shape_zyx)
    flat = np.frombuffer(data, np.uint8) if len(data) else np.zeros(0, np.uint8)
    if len(data) % 4 or len(data) < 4 + 8 * grid[0] * grid[1] * grid[2]:
        raise InvalidRequest(f"compressed_segmentation of {len(data)} bytes is cut off")
    out = np.empty(shape_zyx, np.uint64)
    if kernels.decode(flat, *grid, out.reshape(-1)) < 0:
        raise InvalidRequest("compressed_segmentation points outside of its own bytes")
    return out
