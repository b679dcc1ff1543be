"""What is done to posted voxels before their command is queued, in kernel threads.

Sizes are checked before anything is copied or compressed. Nothing here changes any state.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import voxelblock
from dvid_es.datatypes.imageblk.layout import Layout
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.geometry import Box
from dvid_es.logs.base import Packs
from dvid_es.projections.blockrows import all_coords

Buffer = bytes | memoryview
Coords = NDArray[np.int32]

RAW_BYTES_MAX = 3 << 30
"""Most bytes of voxels in one request or answer: 3 GiB. Source: dvid.MaxDataRequest."""

BLOCKS_MAX = 1 << 18
"""Most blocks of one write: an event names each of them and has to fit into the log."""

INLINE_TOTAL_MAX = 4 << 20
"""Bytes of small blocks that an event holds itself; further ones go to the packs, too."""


def check_count(blocks: int) -> int:
    """Return a number of blocks that one request may write.

    Raises:
        InvalidRequest: they are too many.
    """
    if blocks > BLOCKS_MAX:
        raise InvalidRequest(
            f"one request may write {BLOCKS_MAX} blocks, not {blocks}: send them in parts"
        )
    return blocks


def check_body(body: Buffer, box: Box, layout: Layout) -> None:
    """Check that a body has exactly the voxels of a box.

    Raises:
        InvalidRequest: it has more, or less.
    """
    size = layout.dtype.itemsize * box.volume
    if len(body) != size:
        z, y, x = box.shape_zyx
        raise InvalidRequest(
            f"{x} x {y} x {z} voxels are {size} bytes, but {len(body)} were sent; nothing was stored"
        )


def places_of(box: Box, layout: Layout) -> tuple[Coords, Coords]:
    """Return blocks of an aligned box, int32[n, 3] in ZYX order, and where each begins in it."""
    coords = all_coords(box.blocks(layout.shape_zyx))
    places = coords.astype(np.int64) * np.array(layout.shape_zyx) - np.array(box.start_zyx)
    return coords, places.astype(np.int32)


def store_parts(
    packs: Packs, body: Buffer, box: Box, starts_zyx: Coords, layout: Layout
) -> list[bytes | Bulk]:
    """Return the blocks that begin at int32[n, 3] of a volume, stored; large ones are in packs."""
    volume = np.frombuffer(body, layout.dtype).reshape(box.shape_zyx)
    dz, dy, dx = layout.shape_zyx
    return _stored(packs, [
        np.ascontiguousarray(volume[z : z + dz, y : y + dy, x : x + dx])
        for z, y, x in starts_zyx.tolist()
    ], layout)  # fmt: skip


def store_run(packs: Packs, body: Buffer, start: int, stop: int, layout: Layout) -> list[Bulk]:
    """Return blocks `start` to `stop` of a body that has them behind each other, stored."""
    size = layout.block_bytes
    view = memoryview(body)
    blocks = [
        np.frombuffer(view[place * size : (place + 1) * size], layout.dtype)
        for place in range(start, stop)
    ]
    return _stored(packs, blocks, layout)


def _stored(packs: Packs, blocks: Sequence[NDArray], layout: Layout) -> list[Bulk]:  # type: ignore[type-arg]
    width = layout.shape_zyx[2]
    stored = [
        voxelblock.encode(memoryview(block.reshape(-1).view(np.uint8)), layout.form, width)
        for block in blocks
    ]
    return to_packs(packs, stored, INLINE_BYTES_MAX)


def to_packs(packs: Packs, values: Sequence[Bulk], inline_max: int) -> list[Bulk]:
    """Put values of more than `inline_max` bytes into packs; return what an event holds."""
    large = [v for v in values if isinstance(v, bytes) and len(v) > inline_max]
    refs = iter(packs.put_many(large) if large else ())
    return [next(refs) if isinstance(v, bytes) and len(v) > inline_max else v for v in values]


def limit_inline(packs: Packs, stored: Sequence[Bulk]) -> tuple[Bulk, ...]:
    """Return stored blocks for an event: all in packs if the small ones are too much together."""
    inline = sum(len(block) for block in stored if isinstance(block, bytes))
    if inline <= INLINE_TOTAL_MAX:
        return tuple(stored)
    return tuple(to_packs(packs, stored, 0))
