"""A row of label blocks, encoded side by side while their voxels come in.

Voxels are read as they lie in memory, plane by plane: what the processor has just written it has at hand, and
what it has not it sees coming. Block by block, each piece of 512 bytes would be waited for.
"""

import numpy as np
from numba import types
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.codecs.kernel import copy8, equal8, helper, kernel, u64
from dvid_es.codecs.labelblock_kernels import (
    MASKED_LABELS,
    assemble,
    intern,
    pack_masks,
    pack_values,
    split_by_rows,
    split_by_voxels,
    value_bits,
)

Labels = NDArray[np.uint64]
Triple = tuple[int, int, int]

TABLE_MAX = 1024
"""A block of more labels is encoded on its own, when all of it is there."""

_INDICES_EACH = 32
"""The same for one with more labels in its sub-blocks than so many on average."""

_SLOTS = 2 * TABLE_MAX

SIZE, USED, PACKED, FULL = range(4)
"""Of a block under way: labels in the table, indices, bytes of values, whether there were too many."""

SPACED = 512 + 8
"""Labels from one sub-block to the next where they are read: a power of 2 would crowd the cache."""

_ALL_ONE = np.uint64(255)


def _out(dtype: type, axes: int) -> types.Array:
    return types.Array(dtype, axes, "C")


@helper
def copy_strip(volume, corner, stride_z, stride_y, strip, alike):
    """Copy a row of sub-blocks to a place where each is read fast, of SPACED labels.

    alike[i] becomes 255 where all voxels of sub-block i have one label.
    """
    for s in range(len(alike)):
        alike[s] = _ALL_ONE
    for z in range(8):
        for y in range(8):
            at = corner + z * stride_z + y * stride_y
            to = 64 * z + 8 * y
            for s in range(len(alike)):
                copy8(volume, at + 8 * s, strip, to + SPACED * s)
                alike[s] &= equal8(volume, at + 8 * s, strip[SPACED * s])


@kernel(
    types.void(
        u64, *[types.int64] * 8, _out(types.int64, 2), _out(types.uint16, 2),
        _out(types.uint32, 2), _out(types.uint8, 2), _out(types.int32, 2), _out(types.uint64, 2),
    )
)  # fmt: skip
def encode_layers(
    volume, origin, stride_z, stride_y, gz, gy, gx, first, last,
    numbers, counts, indices, values, slots, table,
):  # fmt: skip
    """Go on with a row of blocks along X from sub-blocks at Z `first` to those before `last`.

    Args:
        volume: flat.
        origin: the first voxel of the first block.
        stride_z: voxels between slices of the volume.
        stride_y: voxels between its rows.
        gz: sub-blocks of a block along Z.
        gy: the same along Y.
        gx: the same along X.
        first: where to begin; a row is begun at 0.
        last: where to end.
        numbers: int64[n, 4] of the n blocks.
        counts: uint16[n, gz * gy * gx]: labels of each sub-block.
        indices: uint32[n, any]: their places in the table.
        values: uint8[n, 576 * gz * gy * gx + 8]: packed values.
        slots: int32[n, power of 2]: hashed places in the table, -1 where there is none.
        table: uint64[n, at most half as many].
    """
    blocks = len(numbers)
    strip = np.empty(SPACED * gx * blocks, np.uint64)
    alike = np.empty(gx * blocks, np.uint64)
    found = np.empty(1024, np.uint64)
    masks = np.empty(MASKED_LABELS * 8, np.uint64)
    unpacked = np.empty(512, np.int64)
    stamps = np.full(1024, -1, np.int64)
    stamp = 0
    for sz in range(first, last):
        for sy in range(gy):
            corner = origin + sz * 8 * stride_z + sy * 8 * stride_y
            copy_strip(volume, corner, stride_z, stride_y, strip, alike)
            for block in range(blocks):
                if numbers[block, FULL] != 0:
                    continue
                size, used = numbers[block, SIZE], numbers[block, USED]
                packed = numbers[block, PACKED]
                own_slots, own_table = slots[block], table[block]
                own_indices, own_values = indices[block], values[block]
                for sx in range(gx):
                    at = block * gx + sx
                    n = 1
                    by_rows = True
                    found[0] = strip[SPACED * at]
                    if alike[at] != _ALL_ONE:
                        n = split_by_rows(strip, SPACED * at, 64, 8, found, masks)
                        by_rows = n <= MASKED_LABELS
                    if not by_rows:
                        n = split_by_voxels(
                            strip, SPACED * at, 64, 8, found, unpacked, stamps, stamp
                        )
                        stamp += 1
                    if size + n > len(own_table) or used + n > len(own_indices):
                        numbers[block, FULL] = 1
                        break
                    counts[block, (sz * gy + sy) * gx + sx] = n
                    for i in range(n):
                        position = intern(found[i], own_slots, own_table, size)
                        size = max(size, position + 1)
                        own_indices[used + i] = position
                    used += n
                    if n > 1:
                        bits = value_bits(n)
                        if by_rows:
                            pack_masks(n, bits, masks, own_values, packed)
                        else:
                            pack_values(bits, unpacked, own_values, packed)
                        packed += 64 * bits
                numbers[block, SIZE], numbers[block, USED] = size, used
                numbers[block, PACKED] = packed


@kernel(
    types.uint8[::1](
        *[types.int64] * 3, types.uint64[::1], types.int64, types.uint16[::1],
        types.uint32[::1], types.int64, types.uint8[::1], types.int64,
    )
)  # fmt: skip
def assemble_block(gz, gy, gx, table, size, counts, indices, used, values, packed):
    """Return a block whose parts are complete."""
    return assemble(gz, gy, gx, table, size, counts, indices, used, values, packed)


class RowEncoder:
    """Neighbouring blocks along X of a volume whose planes are there one after another."""

    def __init__(self, volume: Labels, start_zyx: Triple, shape_zyx: Triple, blocks: int) -> None:
        """Begin a row.

        Args:
            volume: uint64[Z, Y, X], C order.
            start_zyx: first voxel of the first block.
            shape_zyx: of each block; all of them lie inside of the volume.
            blocks: how many there are.
        """
        labelblock.check_volume(volume)
        z, y, x = shape_zyx
        row = (z, y, x * blocks)
        for start, side, limit in zip(start_zyx, row, volume.shape, strict=True):
            assert 0 <= start <= limit - side, "blocks must lie inside of their volume"
            assert side % 8 == 0, "sides are multiples of 8"
        self._volume = volume
        self._starts = [(*start_zyx[:2], start_zyx[2] + x * place) for place in range(blocks)]
        self._shape_zyx = shape_zyx
        self._subblocks = z // 8, y // 8, x // 8
        _, stride_y, stride_x = volume.shape
        origin = (start_zyx[0] * stride_y + start_zyx[1]) * stride_x + start_zyx[2]
        self._place = origin, stride_y * stride_x, stride_x
        n = z * y * x // 512
        self._numbers = np.zeros((blocks, 4), np.int64)
        self._counts = np.empty((blocks, n), np.uint16)
        self._indices = np.empty((blocks, _INDICES_EACH * n), np.uint32)
        self._values = np.empty((blocks, 576 * n + 8), np.uint8)
        self._slots = np.full((blocks, _SLOTS), -1, np.int32)
        self._table = np.empty((blocks, TABLE_MAX), np.uint64)
        self._done = 0

    def advance(self, planes: int) -> bool:
        """Encode what is there; say whether that was the last of it.

        Args:
            planes: how many planes of the row, from its first one on, have their final voxels.
        """
        layers = min(planes // 8, self._subblocks[0])
        if layers > self._done:
            encode_layers(
                self._volume.reshape(-1), *self._place, *self._subblocks, self._done, layers,
                self._numbers, self._counts, self._indices, self._values, self._slots, self._table,
            )  # fmt: skip
            self._done = layers
        return self._done == self._subblocks[0]

    def blocks(self) -> list[bytes]:
        """Return the blocks, once all of them is encoded."""
        assert self._done == self._subblocks[0], "blocks are complete when all planes are there"
        return [self._block(place) for place in range(len(self._numbers))]

    def _block(self, place: int) -> bytes:
        size, used, packed, full = self._numbers[place].tolist()
        if full:
            start = self._starts[place]
            return labelblock.encode_from(self._volume, start, self._shape_zyx)
        block: NDArray[np.uint8] = assemble_block(
            *self._subblocks, self._table[place], size, self._counts[place],
            self._indices[place], used, self._values[place], packed,
        )  # fmt: skip
        return block.tobytes()
