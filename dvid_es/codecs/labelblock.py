"""DVID's compressed label block: 8x8x8 sub-blocks that index one table of labels.

Volumes are uint64, ZYX, C order. Bytes that came over the network go through `validate` first;
everything else here trusts its block. A mapping of labels is applied to the table (10 to 800
entries), never to voxels.

Source: Block in datatype/common/labels/compressed.go (janelia-flyem/dvid).
"""

import struct

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock_kernels as kernels
from dvid_es.errors import InvalidRequest

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]
Buffer = bytes | bytearray | memoryview

MAX_SIDE = 1024
"""Most voxels of one side of a block."""

SOLID_LENGTH = 24
"""Bytes of a block that holds one label only."""

_HEADER = struct.Struct("<4I")
_SOLID = struct.Struct("<4IQ")

_FINDINGS = {
    kernels.BAD_INDEX: "a sub-block names a label beyond the table",
    kernels.BAD_VALUE: "a voxel names a label beyond those of its sub-block",
    kernels.BAD_COUNT: "a sub-block claims more than 512 labels",
    kernels.CUT_OFF: "it is cut off",
}


def validate(data: Buffer, shape_zyx: Triple | None = None) -> int:
    """Check a block from outside so that no kernel can leave its bounds.

    Args:
        data: a block, not gzipped.
        shape_zyx: the shape in voxels that it must have.

    Returns:
        How many of the bytes belong to the block; DVID accepts any number more.

    Raises:
        InvalidRequest: what is wrong with it.
    """
    if len(data) < SOLID_LENGTH:
        raise InvalidRequest(f"a label block needs {SOLID_LENGTH} bytes, this has {len(data)}")
    gx, gy, gz, labels = _HEADER.unpack_from(data)
    if not all(1 <= side <= MAX_SIDE // 8 for side in (gx, gy, gz)):
        raise InvalidRequest(
            f"a label block of {gx} x {gy} x {gz} sub-blocks: each side must be 1 to 128"
        )
    if shape_zyx is not None and (gz * 8, gy * 8, gx * 8) != tuple(shape_zyx):
        z, y, x = shape_zyx
        raise InvalidRequest(
            f"a label block of {gx * 8} x {gy * 8} x {gz * 8} voxels (x, y, z),"
            f" but blocks of this instance have {x} x {y} x {z}"
        )
    if not 1 <= labels <= (len(data) - 16) // 8:
        raise InvalidRequest(f"a label block of {len(data)} bytes claims {labels} labels")
    if labels == 1:
        return SOLID_LENGTH
    length: int = kernels.check(np.frombuffer(data, np.uint8), gx * gy * gz, labels)
    if length < 0:
        raise InvalidRequest(f"a label block is malformed: {_FINDINGS[length]}")
    return length


def check_volume(volume: Labels) -> None:
    """Assert that kernels may treat a volume as flat uint64."""
    assert volume.flags.c_contiguous, "volumes are in C order"
    assert volume.dtype == np.uint64, "volumes are uint64"


def shape(data: Buffer) -> Triple:
    """Return the shape of a block in voxels, ZYX."""
    gx, gy, gz, _ = _HEADER.unpack_from(data)
    return gz * 8, gy * 8, gx * 8


def solid(label: int, shape_zyx: Triple) -> bytes:
    """Return the block in which each voxel has one label."""
    z, y, x = shape_zyx
    return _SOLID.pack(x // 8, y // 8, z // 8, 1, label)


def solid_label(data: Buffer) -> int | None:
    """Return the label of a block whose table has one entry, None for others."""
    label: int
    labels, label = struct.unpack_from("<IQ", data, 12)
    return label if labels == 1 else None


def table(data: Buffer) -> Labels:
    """Return the label table uint64[N], a read-only view if `data` is bytes; 0 and repeats occur."""
    labels = np.frombuffer(data, np.uint64, _HEADER.unpack_from(data)[3], 16)
    # Kernels want aligned words; a view into a larger buffer may lie at any address.
    return labels if labels.flags.aligned else labels.copy()


def with_table(data: Buffer, labels: Labels) -> bytes:
    """Return the block with other labels in place of its table, of the same length."""
    stop = 16 + 8 * _HEADER.unpack_from(data)[3]
    assert labels.nbytes == stop - 16, "a table is replaced by one of the same length"
    view = memoryview(data)
    return b"".join((view[:16], labels.astype(np.uint64, copy=False).tobytes(), view[stop:]))


def decode(data: Buffer, table: Labels | None = None, out: Labels | None = None) -> Labels:
    """Return the voxels of a block.

    Args:
        data: a validated block.
        table: labels in place of its table, of the same length: a mapping costs nothing more.
        out: uint64[Z, Y, X], C order, to be written and returned in place of a new array.

    Returns:
        uint64[Z, Y, X], C order: the bytes that GET raw sends.
    """
    z, y, x = shape(data)
    if out is None:
        out = np.empty((z, y, x), np.uint64)
    assert out.shape == (z, y, x), "the target must have the shape of the block"
    _paste(data, table, (0, z, 0, y, 0, x), out, 0)
    return out


def decode_box(
    data: Buffer, table: Labels | None, start_zyx: Triple, stop_zyx: Triple, out: Labels
) -> None:
    """Write a half-open box of a block's voxels to the same places of a volume of its shape."""
    assert out.shape == shape(data), "the target must have the shape of the block"
    box: list[int] = []
    for start, stop, side in zip(start_zyx, stop_zyx, out.shape, strict=True):
        assert 0 <= start < stop <= side, "a box must lie inside of its block"
        box += (start, stop)
    _paste(data, table, tuple(box), out, 0)


def _paste(
    data: Buffer, labels: Labels | None, box: tuple[int, ...], out: Labels, origin: int
) -> None:
    check_volume(out)
    _, y, x = out.shape
    flat = np.frombuffer(data, np.uint8)
    kernels.paste(flat, _labels(data, labels), box, out.reshape(-1), origin, y * x, x)


def encode(volume: Labels) -> bytes:
    """Return the block of a volume; its table is in order of first appearance.

    Args:
        volume: uint64[Z, Y, X], C order, sides multiples of 8 up to MAX_SIDE.
    """
    z, y, x = volume.shape
    return encode_from(volume, (0, 0, 0), (z, y, x))


def encode_from(volume: Labels, start_zyx: Triple, shape_zyx: Triple) -> bytes:
    """Return the block of a box of a volume, without copying the box.

    Args:
        volume: uint64[Z, Y, X], C order.
        start_zyx: first voxel of the box in `volume`.
        shape_zyx: shape of the block; the box must lie inside the volume.
    """
    check_volume(volume)
    for start, side, limit in zip(start_zyx, shape_zyx, volume.shape, strict=True):
        assert 0 <= start <= limit - side, "a block must lie inside of its volume"
        assert 8 <= side <= MAX_SIDE, "sides are 8 to 1024"
        assert side % 8 == 0, "sides are multiples of 8"
    _, y, x = volume.shape
    origin = (start_zyx[0] * y + start_zyx[1]) * x + start_zyx[2]
    gz, gy, gx = (side // 8 for side in shape_zyx)
    block: NDArray[np.uint8] = kernels.encode(volume.reshape(-1), origin, y * x, x, gz, gy, gx)
    return block.tobytes()


def counts(data: Buffer) -> tuple[Labels, NDArray[np.uint64]]:
    """Count the voxels of each label from the compressed form.

    Returns:
        labels uint64[n], ascending and distinct, without 0 and without unused entries of the
        table; and their voxels, uint64[n].
    """
    labels = table(data).copy()
    voxels = np.zeros(len(labels), np.uint64)
    if len(labels) == 1:
        z, y, x = shape(data)
        voxels[0] = z * y * x
    else:
        kernels.count_voxels(np.frombuffer(data, np.uint8), len(labels), voxels)
    kept = kernels.gather_counts(labels, voxels)
    return labels[:kept], voxels[:kept]


def label_at(data: Buffer, z: int, y: int, x: int) -> int:
    """Return the label of one voxel, addressing only its sub-block."""
    return int(labels_at(data, np.array([(z, y, x)], np.int32))[0])


def labels_at(data: Buffer, points_zyx: NDArray[np.int32], table: Labels | None = None) -> Labels:
    """Return the labels of int32[n, 3] voxels (ZYX, inside the block) as uint64[n].

    `table` takes the place of the block's own, as in `decode`.
    """
    labels = _labels(data, table)
    out = np.empty(len(points_zyx), np.uint64)
    if len(labels) == 1:
        out[:] = labels[0]
    elif len(points_zyx):
        # One comparison for all: a coordinate outside would be read out of bounds.
        inside = (points_zyx >= 0) & (points_zyx < shape(data))
        assert inside.all(), "points must lie inside of the block"
        kernels.look_up(np.frombuffer(data, np.uint8), labels, points_zyx, out)
    return out


def _labels(data: Buffer, labels: Labels | None) -> Labels:
    own = table(data)
    if labels is None:
        return own
    assert labels.shape == own.shape, "a table is replaced by one of the same length"
    return labels
