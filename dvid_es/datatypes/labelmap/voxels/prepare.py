"""What is done to posted voxels before their command is queued, in kernel threads.

Everything from outside is bounded by the geometry of the request and validated before any kernel
sees it. Nothing here changes any state.
"""

import struct
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.codecs.compression import gzip_decompress, lz4_block_decompress
from dvid_es.datatypes.labelmap.svindex.rows import Counts
from dvid_es.datatypes.labelmap.voxels.blocks import COORD_MAX
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box, Triple

Coords = NDArray[np.int32]
Labels = NDArray[np.uint64]

RAW_BYTES_MAX = 3 << 30
"""Most bytes of voxels in one request or answer: 3 GiB. Source: dvid.MaxDataRequest."""

BLOCK_BYTES_MAX = 4 << 30
"""Most bytes of label blocks, inflated, in one request: 4 GiB, about 100,000 usual ones."""

_HEAD = struct.Struct("<3iI")


class Prepared(NamedTuple):
    """One block, ready to be stored."""

    block: bytes
    """DVID's compressed form, validated, without bytes behind its end; b"" if nobody needs it again."""

    stored: bytes
    highest: int
    """Largest label of its table."""

    labels: Labels | None
    """uint64[n], ascending, without 0; None if they were not counted."""

    voxels: NDArray[np.uint32] | None
    """uint32[n]."""


class Wanted:
    """What is wanted of the blocks of one request, and how much memory they may take."""

    def __init__(self, *, counted: bool, kept: bool) -> None:
        """Count voxels of labels, or keep the label blocks, or both."""
        self.counted = counted
        self.kept = kept
        self._left = BLOCK_BYTES_MAX
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """Note so many bytes of label blocks.

        Raises:
            InvalidRequest: the blocks of the request are too large in all.
        """
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise InvalidRequest(
                    f"the blocks of one request may have {BLOCK_BYTES_MAX} bytes when they are"
                    " inflated; nothing was stored: send them in parts"
                )


def split_stream(body: bytes | memoryview) -> tuple[Coords, list[memoryview]]:
    """Return block coordinates int32[n, 3] (ZYX) and payloads of DVID's stream of blocks.

    Raises:
        InvalidRequest: it is cut off, has an empty block or a coordinate that no block may have.
    """
    view = memoryview(body)
    coords: list[Triple] = []
    payloads: list[memoryview] = []
    at, end = 0, len(body)
    while at < end:
        if end - at < _HEAD.size:
            raise InvalidRequest(
                f"the stream of blocks is cut off in the header of block {len(coords)}:"
                f" {end - at} of {_HEAD.size} bytes; nothing was stored"
            )
        x, y, z, size = _HEAD.unpack_from(view, at)
        at += _HEAD.size
        if size == 0 or size > end - at:
            problem = "is empty" if size == 0 else f"has {end - at} of its {size} bytes"
            raise InvalidRequest(
                f"block ({x}, {y}, {z}) of the stream {problem}; nothing was stored"
            )
        coords.append((z, y, x))
        payloads.append(view[at : at + size])
        at += size
    zyx = np.array(coords, np.int32).reshape(-1, 3)
    check_coords(zyx)
    return zyx, payloads


def check_coords(coords_zyx: NDArray[np.signedinteger[Any]]) -> None:
    """Refuse blocks that no index can name.

    Raises:
        InvalidRequest: a coordinate has more than 20 bits.
    """
    far = (np.abs(coords_zyx.astype(np.int64)) > COORD_MAX).any(axis=1)
    if far.any():
        z, y, x = coords_zyx[far][0].tolist()
        raise InvalidRequest(
            f"block ({x}, {y}, {z}) is too far out: block coordinates go from {-COORD_MAX}"
            f" to {COORD_MAX}; nothing was stored"
        )


def newest(coords_zyx: Coords) -> NDArray[np.int64]:
    """Return the places of distinct coordinates in ZYX order, the last one of equals."""
    order = np.lexsort((coords_zyx[:, 2], coords_zyx[:, 1], coords_zyx[:, 0]))
    ordered = coords_zyx[order]
    last = np.ones(len(order), bool)
    last[:-1] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[last]


def prepare_payloads(
    coords_zyx: Coords, payloads: Sequence[memoryview], shape_zyx: Triple, wanted: Wanted
) -> list[Prepared]:
    """Return gzipped label blocks of a stream, ready to be stored.

    Raises:
        InvalidRequest: a payload is not a gzipped label block of this shape, or all are too large.
    """
    z, y, x = shape_zyx
    # A table of twice as many labels as voxels, and 512 labels in every sub-block.
    bytes_max = 65536 + 22 * z * y * x
    prepared = []
    for at, payload in zip(coords_zyx, payloads, strict=True):
        try:
            block = _gunzip(payload, bytes_max)
            length = labelblock.validate(block, shape_zyx)
        except InvalidRequest as problem:
            z, y, x = at.tolist()
            raise InvalidRequest(f"block ({x}, {y}, {z}): {problem}; nothing was stored") from None
        wanted.spend(len(block))
        prepared.append(prepare_block(block if length == len(block) else block[:length], wanted))
    return prepared


def _gunzip(payload: memoryview, bytes_max: int) -> bytes:
    """Inflate a block; its own word for its length, if it is true, saves a large buffer."""
    length = int.from_bytes(payload[-4:], "little")
    if length < bytes_max:
        try:
            return gzip_decompress(payload, length)
        except InvalidRequest:
            pass  # several members, or wrong: the full bound decides
    return gzip_decompress(payload, bytes_max)


def prepare_boxes(
    volume: Labels, starts_zyx: Coords, shape_zyx: Triple, wanted: Wanted
) -> list[Prepared]:
    """Return the blocks that begin at int32[n, 3] places of a volume, ready to be stored."""
    return [
        prepare_block(labelblock.encode_from(volume, tuple(start), shape_zyx), wanted)
        for start in starts_zyx.tolist()
    ]


def prepare_block(block: bytes, wanted: Wanted) -> Prepared:
    """Return a validated block, ready to be stored."""
    highest = int(labelblock.table(block).max())
    stored = storedblock.store(block)
    kept = block if wanted.kept else b""
    if not wanted.counted:
        return Prepared(kept, stored, highest, None, None)
    labels, voxels = labelblock.counts(block)
    return Prepared(kept, stored, highest, labels, voxels.astype(np.uint32))


def inflate_volume(body: bytes | memoryview, compression: str, shape_zyx: Triple) -> Labels:
    """Return the voxels of a raw POST as uint64[Z, Y, X].

    Raises:
        InvalidRequest: unknown compression, or not exactly the bytes that the box needs.
    """
    z, y, x = shape_zyx
    size = 8 * z * y * x
    if compression == "lz4":
        data: bytes | memoryview = lz4_block_decompress(body, size)
    elif compression == "gzip":
        data = gzip_decompress(body, size)
    elif compression in ("", "none"):
        data = body
    else:
        raise InvalidRequest(f'unknown compression "{compression}" of voxels: use lz4 or gzip')
    check_voxels(data, shape_zyx)
    return np.frombuffer(data, np.uint64).reshape(shape_zyx)


def check_voxels(data: bytes | memoryview, shape_zyx: Triple) -> None:
    """Refuse bytes that are not as many as voxels have.

    Raises:
        InvalidRequest: there are more, or fewer.
    """
    z, y, x = shape_zyx
    size = 8 * z * y * x
    if len(data) != size:
        raise InvalidRequest(
            f"{x} x {y} x {z} voxels are {size} bytes, but {len(data)} were sent; nothing was stored"
        )


def join_counts(prepared: Sequence[Prepared]) -> Counts:
    """Return the counts of blocks as one."""
    starts = np.zeros(len(prepared) + 1, np.int64)
    np.cumsum([len(one.labels) for one in prepared], out=starts[1:])  # type: ignore[arg-type]
    labels = [one.labels for one in prepared]
    voxels = [one.voxels for one in prepared]
    return Counts(starts, np.concatenate(labels), np.concatenate(voxels))  # type: ignore[arg-type]


def counts_bytes(counts: Counts) -> bytes:
    """Return counts as an event holds them."""
    sizes = np.diff(counts.starts).astype("<u4")
    return sizes.tobytes() + counts.labels.tobytes() + counts.voxels.tobytes()


def counts_of(data: bytes, blocks: int) -> Counts:
    """Return the counts that an event of so many blocks holds."""
    sizes = np.frombuffer(data, "<u4", blocks)
    starts = np.zeros(blocks + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    n = int(starts[-1])
    labels = np.frombuffer(data, "<u8", n, 4 * blocks).astype(np.uint64)
    return Counts(starts, labels, np.frombuffer(data, "<u4", n, 4 * blocks + 8 * n).copy())


def block_places(box: Box, shape_zyx: Triple) -> tuple[Coords, Coords]:
    """Return blocks of an aligned box, int32[n, 3] in ZYX order, and where each begins in it."""
    start = box.blocks(shape_zyx)
    grid = [np.arange(a, b) for a, b in zip(*start, strict=True)]
    coords = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 3)
    check_coords(coords)
    places = coords * np.array(shape_zyx) - np.array(box.start_zyx)
    return coords.astype(np.int32), places.astype(np.int32)
