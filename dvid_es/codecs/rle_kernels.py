"""Kernels for runs: from the masks of a block to runs, sorting, joining and cutting of runs.

Runs are int32[n, 4]: x, y, z of the first voxel and the number of voxels along x, as on the wire.
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    bit_count,
    helper,
    i32_2d,
    i32_2d_out,
    i64_out,
    kernel,
    load16,
    load32,
    load64,
    store64,
    trailing_zeros,
    u8,
    u8_out,
    u64,
)
from dvid_es.codecs.labelblock_kernels import load_row, unpack, value_bits

_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)

OVERLAP = -1


@kernel(types.void(u64, u64, u8_out))
def mark(table, wanted, flags):
    """Set flags[i] to 1 where table[i] is in the ascending list `wanted`, else to 0."""
    for i in range(len(table)):
        low, high = 0, len(wanted)
        while low < high:
            middle = (low + high) >> 1
            if wanted[middle] < table[i]:
                low = middle + 1
            else:
                high = middle
        flags[i] = low < len(wanted) and wanted[low] == table[i]


@helper
def mirror_bytes(word):
    """Reverse the bits of each byte."""
    word = (word >> np.uint64(1) & np.uint64(0x5555555555555555)) | (
        word & np.uint64(0x5555555555555555)
    ) << np.uint64(1)
    word = (word >> np.uint64(2) & np.uint64(0x3333333333333333)) | (
        word & np.uint64(0x3333333333333333)
    ) << np.uint64(2)
    return (word >> np.uint64(4) & np.uint64(0x0F0F0F0F0F0F0F0F)) | (
        word & np.uint64(0x0F0F0F0F0F0F0F0F)
    ) << np.uint64(4)


@helper
def mask_subblock(data, at, bits, chosen, values, rows):
    """Write the 64 row masks (x lowest) of a sub-block of bits > 0 as 8 words, a byte a row."""
    if bits == 1:
        flip = _ONES if chosen[0] else np.uint64(0)
        for z in range(8):
            rows[z] = mirror_bytes(load64(data, at + 8 * z)) ^ flip
        return
    if bits < 9:
        select = np.uint64((1 << bits) - 1)
        for z in range(8):
            slab = np.uint64(0)
            for y in range(8):
                word = load_row(data, at + (z * 8 + y) * bits)
                for k in range(8):
                    value = np.int64(word >> np.uint64(64 - bits * (k + 1)) & select)
                    slab |= np.uint64(chosen[value]) << np.uint64(y * 8 + k)
            rows[z] = slab
        return
    unpack(data, at, bits, values)
    for z in range(8):
        slab = np.uint64(0)
        for i in range(64):
            slab |= np.uint64(chosen[values[z * 64 + i]]) << np.uint64(i)
        rows[z] = slab


@kernel(types.int64(u8, u8, u8_out))
def mask_block(data, flags, masks):
    """Write which voxels have a label whose entry of the table is flagged; return how many have.

    `masks` holds 64 bytes for each sub-block in ZYX order: row y of slice z at z * 8 + y, x lowest.
    """
    subblocks = load32(data, 0) * load32(data, 4) * load32(data, 8)
    if len(flags) == 1:
        masks[:] = 255 if flags[0] else 0
        return subblocks * 512 if flags[0] else 0
    counts = 16 + 8 * len(flags)
    index = counts + 2 * subblocks
    values = index
    for s in range(subblocks):
        values += 4 * load16(data, counts + 2 * s)
    chosen = np.zeros(512, np.uint8)
    unpacked = np.empty(512, np.int64)
    rows = np.empty(8, np.uint64)
    voxels = 0
    for s in range(subblocks):
        count = load16(data, counts + 2 * s)
        some = 0
        for i in range(count):
            chosen[i] = flags[load32(data, index + 4 * i)]
            some += np.int64(chosen[i])
        bits = value_bits(count)
        if some == 0 or some == count:
            full = _ONES if some > 0 else np.uint64(0)
            for z in range(8):
                rows[z] = full
        else:
            mask_subblock(data, values, bits, chosen, unpacked, rows)
        for z in range(8):
            store64(masks, s * 64 + 8 * z, rows[z])
            voxels += bit_count(rows[z])
        index += 4 * count
        values += 64 * bits
    return voxels


@helper
def row_word(masks, gy, gx, z, y, first):
    """Return up to 64 voxels of a row, from sub-block `first`, x lowest."""
    at = (((z >> 3) * gy + (y >> 3)) * gx + first) * 64 + (z & 7) * 8 + (y & 7)
    word = np.uint64(0)
    for k in range(min(8, gx - first)):
        word |= np.uint64(masks[at + 64 * k]) << np.uint64(8 * k)
    return word


@helper
def count_runs(masks, gz, gy, gx):
    """Return the number of runs along x."""
    total = 0
    for z in range(gz * 8):
        for y in range(gy * 8):
            carry = np.uint64(0)
            for first in range(0, gx, 8):
                word = row_word(masks, gy, gx, z, y, first)
                total += bit_count(word & ~(word << np.uint64(1) | carry))
                carry = word >> np.uint64(63)
    return total


@kernel(types.int32[:, ::1](u8, *[types.int64] * 6))
def runs_of_masks(masks, gz, gy, gx, start_z, start_y, start_x):
    """Return the runs of a block's masks in Z, Y, X order."""
    runs = np.empty((count_runs(masks, gz, gy, gx), 4), np.int32)
    n = 0
    for z in range(gz * 8):
        for y in range(gy * 8):
            open_x = -1
            for first in range(0, gx, 8):
                word = row_word(masks, gy, gx, z, y, first)
                if word == 0 and open_x < 0:
                    continue
                # A set bit in `edges` is where the mask changes.
                before = np.uint64(1) if open_x >= 0 else np.uint64(0)
                edges = word ^ (word << np.uint64(1) | before)
                while edges != 0:
                    x = first * 8 + trailing_zeros(edges)
                    edges &= edges - np.uint64(1)
                    if open_x < 0:
                        open_x = x
                    elif x < gx * 8:
                        runs[n, 0], runs[n, 1] = start_x + open_x, start_y + y
                        runs[n, 2], runs[n, 3] = start_z + z, x - open_x
                        n += 1
                        open_x = -1
            if open_x >= 0:
                runs[n, 0], runs[n, 1] = start_x + open_x, start_y + y
                runs[n, 2], runs[n, 3] = start_z + z, gx * 8 - open_x
                n += 1
    return runs


@kernel(types.int64(i32_2d))
def disorder(runs):
    """Return the position of the first run that is not behind its predecessor, or -1."""
    for i in range(1, len(runs)):
        for axis in (2, 1, 0):
            if runs[i, axis] != runs[i - 1, axis]:
                if runs[i, axis] < runs[i - 1, axis]:
                    return i
                break
        else:
            return i
    return -1


@kernel(types.void(i32_2d, types.int64, types.int64, types.int64, i32_2d_out))
def sort_by_axis(runs, axis, lowest, extent, out):
    """Sort runs by one coordinate, stably, by counting."""
    places = np.zeros(extent + 1, np.int64)
    for i in range(len(runs)):
        places[runs[i, axis] - lowest + 1] += 1
    for k in range(extent):
        places[k + 1] += places[k]
    for i in range(len(runs)):
        key = runs[i, axis] - lowest
        at = places[key]
        places[key] += 1
        for k in range(4):
            out[at, k] = runs[i, k]


@kernel(types.int64(i32_2d_out, types.boolean))
def join_sorted(runs, overlaps):
    """Join runs in Z, Y, X order that touch, in place; return how many are left.

    Runs that overlap are joined too, or OVERLAP is returned if that is not allowed.
    """
    if len(runs) == 0:
        return 0
    n = 0
    for i in range(1, len(runs)):
        same_row = runs[i, 2] == runs[n, 2] and runs[i, 1] == runs[n, 1]
        stop = np.int64(runs[n, 0]) + runs[n, 3]
        if same_row and runs[i, 0] < stop and not overlaps:
            return OVERLAP
        if same_row and runs[i, 0] <= stop:
            runs[n, 3] = max(stop, np.int64(runs[i, 0]) + runs[i, 3]) - runs[n, 0]
        else:
            n += 1
            for k in range(4):
                runs[n, k] = runs[i, k]
    return n + 1


@kernel(types.int64(i32_2d, *[types.int64] * 6, i32_2d_out))
def clip(runs, z0, z1, y0, y1, x0, x1, out):
    """Write what runs share with a box, bounds inclusive; return how many runs are left."""
    n = 0
    for i in range(len(runs)):
        if z0 <= runs[i, 2] <= z1 and y0 <= runs[i, 1] <= y1:
            first = max(np.int64(runs[i, 0]), x0)
            last = min(np.int64(runs[i, 0]) + runs[i, 3] - 1, x1)
            if first <= last:
                out[n, 0], out[n, 1], out[n, 2] = first, runs[i, 1], runs[i, 2]
                out[n, 3] = last - first + 1
                n += 1
    return n


@kernel(types.int64(i32_2d, types.int64, i32_2d_out, types.boolean))
def cut_at_blocks(runs, side_x, out, write):
    """Cut runs where a block ends along x; return the number of pieces, written if asked for."""
    n = 0
    for i in range(len(runs)):
        x = np.int64(runs[i, 0])
        stop = x + runs[i, 3]
        while x < stop:
            end = min(stop, (x // side_x + 1) * side_x)
            if write:
                out[n, 0], out[n, 1], out[n, 2] = x, runs[i, 1], runs[i, 2]
                out[n, 3] = end - x
            n += 1
            x = end
    return n


@kernel(types.int64(u8, u8_out))
def pack_binary(masks, out):
    """Write the sub-blocks of a binary block: 0, 1, or 2 and 64 bytes; return the length."""
    at = 0
    for s in range(len(masks) // 64):
        none, all_ = np.uint64(0), _ONES
        for z in range(8):
            word = load64(masks, s * 64 + 8 * z)
            none |= word
            all_ &= word
        out[at] = 0 if none == 0 else (1 if all_ == _ONES else 2)
        at += 1
        if out[at - 1] == 2:
            for z in range(8):
                store64(out, at + 8 * z, load64(masks, s * 64 + 8 * z))
            at += 64
    return at


@kernel(types.int64(i32_2d, i64_out))
def row_breaks(keys, starts):
    """Write where rows of int32[n, 3] differ from the one before; return how many groups there are.

    starts[groups] is n.
    """
    groups = 0
    for i in range(len(keys)):
        if i == 0 or (
            keys[i, 0] != keys[i - 1, 0]
            or keys[i, 1] != keys[i - 1, 1]
            or keys[i, 2] != keys[i - 1, 2]
        ):
            starts[groups] = i
            groups += 1
    starts[groups] = len(keys)
    return groups
