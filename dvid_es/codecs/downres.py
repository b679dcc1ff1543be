"""Half resolution: of the 2x2x2 voxels below, the label with most votes among those that are not 0.

A tie goes to the smaller label, eight zeros give 0. Voting happens inside each compressed
sub-block, on the ranks of its few labels; a uniform sub-block has a uniform result, whatever the
others hold, so no short-cut over whole blocks is needed.

Source: Block.DownresLabels in datatype/common/labels (janelia-flyem/dvid); DVID's short-cut that
zeroes unchanged octants is left out.
"""

from collections.abc import Sequence

import numpy as np
from numba import types
from numpy.typing import NDArray

from dvid_es.codecs import labelblock
from dvid_es.codecs.kernel import (
    helper,
    kernel,
    load16,
    load32,
    u8,
    u64,
    u64_out,
    unpack_pairs,
    vote64,
)
from dvid_es.codecs.labelblock_kernels import load_row, unpack, value_bits

Labels = NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview
Triple = tuple[int, int, int]


@helper
def rank_labels(labels, count, ranks, ordered):
    """Give each label its rank among the distinct non-zero labels, from 1; label 0 has rank 0."""
    ordered[0] = 0
    gap = 1 if count < 12 else 301
    for i in range(count):
        ordered[1 + i] = labels[i]
    while gap > 0:
        for i in range(gap, count):
            label = ordered[1 + i]
            k = i
            while k >= gap and ordered[1 + k - gap] > label:
                ordered[1 + k] = ordered[1 + k - gap]
                k -= gap
            ordered[1 + k] = label
        # 301, 133, 59, 26, 11, 4, 1: a Shell sort.
        gap = gap * 4 // 9
    size = 1
    for i in range(count):
        if ordered[1 + i] != ordered[size - 1]:
            ordered[size] = ordered[1 + i]
            size += 1
    for i in range(count):
        low, high = 0, size
        while high - low > 1:
            middle = (low + high) >> 1
            if ordered[middle] <= labels[i]:
                low = middle
            else:
                high = middle
        ranks[i] = low


@helper
def read_voxels(data, at, bits, ranks, count, unpacked, voxels):
    """Write the ranks of a sub-block's voxels, sorted by their place in their group of 8."""
    if bits == 9:
        unpack(data, at, bits, unpacked)
        for i in range(512):
            place = (i >> 6 & 1) * 4 + (i >> 3 & 1) * 2 + (i & 1)
            voxels[place * 64 + (i >> 7) * 16 + (i >> 4 & 3) * 4 + (i >> 1 & 3)] = unpacked[i]
    else:
        for row in range(64):
            z, y = row >> 3, row & 7
            place = (z & 1) * 4 + (y & 1) * 2
            word = load_row(data, at + row * bits)
            unpack_pairs(word, bits, voxels, place * 64 + (z >> 1) * 16 + (y >> 1) * 4)
    if count > 4:
        for i in range(512):
            voxels[i] = ranks[voxels[i]]
    else:
        first, second, third, fourth = ranks[0], ranks[1], ranks[2], ranks[3]
        for i in range(512):
            high = fourth if voxels[i] == 3 else third
            low = second if voxels[i] == 1 else first
            voxels[i] = high if voxels[i] > 1 else low


@kernel(types.void(u8, u64, u64_out, types.int64, types.int64, types.int64))
def halve_block(data, table, out, origin, stride_z, stride_y):
    """Write the half resolution of a block into a flat volume, its first voxel at `origin`."""
    gx, gy, gz = load32(data, 0), load32(data, 4), load32(data, 8)
    subblocks = gx * gy * gz
    solid = len(table) == 1
    counts = 16 + 8 * len(table)
    index = counts + 2 * subblocks
    values = index
    if not solid:
        for s in range(subblocks):
            values += 4 * load16(data, counts + 2 * s)
    labels = np.empty(512, np.uint64)
    ordered = np.empty(513, np.uint64)
    ranks = np.zeros(512, np.uint16)
    unpacked = np.empty(512, np.int64)
    voxels = np.empty(512, np.uint16)
    best = np.empty(64, np.uint16)
    s = 0
    for sz in range(gz):
        for sy in range(gy):
            for sx in range(gx):
                corner = origin + sz * 4 * stride_z + sy * 4 * stride_y + sx * 4
                count = 1 if solid else load16(data, counts + 2 * s)
                if count < 2:
                    label = table[0] if solid else np.uint64(0)
                    if count == 1 and not solid:
                        label = table[load32(data, index)]
                    for row in range(16):
                        at = corner + (row >> 2) * stride_z + (row & 3) * stride_y
                        for x in range(4):
                            out[at + x] = label
                else:
                    for i in range(count):
                        labels[i] = table[load32(data, index + 4 * i)]
                    rank_labels(labels, count, ranks, ordered)
                    bits = value_bits(count)
                    read_voxels(data, values, bits, ranks, count, unpacked, voxels)
                    vote64(voxels, best)
                    for row in range(16):
                        at = corner + (row >> 2) * stride_z + (row & 3) * stride_y
                        for x in range(4):
                            out[at + x] = ordered[best[row * 4 + x]]
                    values += 64 * bits
                if not solid:
                    index += 4 * count
                s += 1


@kernel(types.void(u64, types.int64, types.int64, types.int64, u64_out))
def halve_volume(volume, size_z, size_y, size_x, out):
    """Write the half resolution of a flat volume with even sides."""
    group = np.empty(8, np.uint64)
    k = 0
    for z in range(0, size_z, 2):
        for y in range(0, size_y, 2):
            for x in range(0, size_x, 2):
                for i in range(8):
                    row = (z + (i >> 2)) * size_y + y + (i >> 1 & 1)
                    group[i] = volume[row * size_x + x + (i & 1)]
                best = group[0]
                votes = 0
                for i in range(8):
                    same = 0
                    for j in range(8):
                        same += group[j] == group[i]
                    if group[i] != 0 and (same > votes or (same == votes and group[i] < best)):
                        best, votes = group[i], same
                out[k] = best
                k += 1


def halve(volume: Labels) -> Labels:
    """Return the volume at half resolution.

    Args:
        volume: uint64[Z, Y, X], C order, even sides.

    Returns:
        uint64[Z / 2, Y / 2, X / 2].
    """
    labelblock.check_volume(volume)
    z, y, x = volume.shape
    assert not (z | y | x) & 1, "sides must be even"
    out = np.empty((z // 2, y // 2, x // 2), np.uint64)
    halve_volume(volume.reshape(-1), z, y, x, out.reshape(-1))
    return out


def downres_block(
    octants: Sequence[Buffer | None], previous: Buffer | None, shape_zyx: Triple
) -> bytes:
    """Return the block one scale up from those below that changed.

    Args:
        octants: the 8 blocks below, at (z & 1) * 4 + (y & 1) * 2 + (x & 1); None for one that did
            not change. A deleted block is a solid 0.
        previous: what the result replaces: it keeps the octants that are None. None: zeros.
        shape_zyx: shape of all these blocks, even sides.

    Returns:
        A compressed label block.
    """
    assert len(octants) == 8, "there are eight octants"
    volume = np.empty(shape_zyx, np.uint64)
    flat = volume.reshape(-1)
    half_z, half_y, half_x = (side // 2 for side in shape_zyx)
    _, y, x = shape_zyx
    if previous is None and None in octants:
        volume[:] = 0
    for i, block in enumerate(octants):
        corner = ((i >> 2) * half_z, (i >> 1 & 1) * half_y, (i & 1) * half_x)
        if block is not None:
            assert labelblock.shape(block) == tuple(shape_zyx), "blocks have one shape"
            origin = (corner[0] * y + corner[1]) * x + corner[2]
            table = labelblock.table(block)
            halve_block(np.frombuffer(block, np.uint8), table, flat, origin, y * x, x)
        elif previous is not None:
            stop = corner[0] + half_z, corner[1] + half_y, corner[2] + half_x
            labelblock.decode_box(previous, None, corner, stop, volume)
    return labelblock.encode(volume)
