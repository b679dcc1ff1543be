"""Kernels for runs: from the masks of a block to runs, sorting, joining and cutting of runs.

Runs are int32[n, 4]: x, y, z of the first voxel and the number of voxels along x, as on the wire.
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    bit_count,
    find8,
    helper,
    i32_2d,
    i32_2d_out,
    i64_out,
    inlined,
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
def mask_subblock(data, at, bits, count, some, chosen, values, rows):
    """Write the 64 row masks (x lowest) of a sub-block of bits > 0 as 8 words, a byte a row.

    `some` of its `count` labels are chosen: neither none nor all.
    """
    if bits == 1:
        flip = _ONES if chosen[0] else np.uint64(0)
        for z in range(8):
            rows[z] = mirror_bytes(load64(data, at + 8 * z)) ^ flip
        return
    # Few labels, chosen or not, are found by comparing rows.
    seek = np.uint8(1) if 2 * some <= count else np.uint8(0)
    if bits < 9 and min(some, count - some) <= 4:
        flip = np.uint64(0) if seek else _ONES
        for z in range(8):
            rows[z] = flip
        for value in range(count):
            if chosen[value] == seek:
                for z in range(8):
                    slab = np.uint64(0)
                    for y in range(8):
                        word = load_row(data, at + (z * 8 + y) * bits)
                        slab |= find8(word, bits, np.uint64(value)) << np.uint64(8 * y)
                    rows[z] ^= slab
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
            chosen[i] = 1 if flags[load32(data, index + 4 * i)] else 0
            some += np.int64(chosen[i])
        bits = value_bits(count)
        if some == 0 or some == count:
            full = _ONES if some > 0 else np.uint64(0)
            for z in range(8):
                rows[z] = full
        else:
            mask_subblock(data, values, bits, count, some, chosen, unpacked, rows)
        for z in range(8):
            store64(masks, s * 64 + 8 * z, rows[z])
            voxels += bit_count(rows[z])
        index += 4 * count
        values += 64 * bits
    return voxels


@inlined
def transpose(words, rows, at, step):
    """Turn 8 words (of 8 sub-blocks, a byte a row) into 8 rows of 64 voxels, `step` apart."""
    a, b, c, d, e, f, g, h = words
    narrow = np.uint64(0x00FF00FF00FF00FF)
    shift = np.uint64(8)
    a, b = a & narrow | (b & narrow) << shift, a >> shift & narrow | b & ~narrow
    c, d = c & narrow | (d & narrow) << shift, c >> shift & narrow | d & ~narrow
    e, f = e & narrow | (f & narrow) << shift, e >> shift & narrow | f & ~narrow
    g, h = g & narrow | (h & narrow) << shift, g >> shift & narrow | h & ~narrow
    middle = np.uint64(0x0000FFFF0000FFFF)
    shift = np.uint64(16)
    a, c = a & middle | (c & middle) << shift, a >> shift & middle | c & ~middle
    b, d = b & middle | (d & middle) << shift, b >> shift & middle | d & ~middle
    e, g = e & middle | (g & middle) << shift, e >> shift & middle | g & ~middle
    f, h = f & middle | (h & middle) << shift, f >> shift & middle | h & ~middle
    wide = np.uint64(0x00000000FFFFFFFF)
    shift = np.uint64(32)
    rows[at], rows[at + 4 * step] = a & wide | e << shift, a >> shift | e & ~wide
    rows[at + step], rows[at + 5 * step] = b & wide | f << shift, b >> shift | f & ~wide
    rows[at + 2 * step], rows[at + 6 * step] = c & wide | g << shift, c >> shift | g & ~wide
    rows[at + 3 * step], rows[at + 7 * step] = d & wide | h << shift, d >> shift | h & ~wide


@helper
def rows_of_masks(masks, gz, gy, gx, rows):
    """Write the rows of a block, 64 voxels a word, in Z, Y, X order; return the number of runs."""
    words = (gx + 7) >> 3
    runs = 0
    for z in range(gz * 8):
        for sy in range(gy):
            at = (z * gy + sy) * 8 * words
            for first in range(words):
                base = (((z >> 3) * gy + sy) * gx + first * 8) * 64 + (z & 7) * 8
                here = min(8, gx - first * 8)
                a = load64(masks, base)
                b = load64(masks, base + 64) if here > 1 else np.uint64(0)
                c = load64(masks, base + 128) if here > 2 else np.uint64(0)
                d = load64(masks, base + 192) if here > 3 else np.uint64(0)
                e = load64(masks, base + 256) if here > 4 else np.uint64(0)
                f = load64(masks, base + 320) if here > 5 else np.uint64(0)
                g = load64(masks, base + 384) if here > 6 else np.uint64(0)
                h = load64(masks, base + 448) if here > 7 else np.uint64(0)
                transpose((a, b, c, d, e, f, g, h), rows, at + first, words)
            if words == 1:
                for i in range(at, at + 8):
                    runs += bit_count(rows[i] & ~(rows[i] << np.uint64(1)))
            else:
                for y in range(8):
                    carry = np.uint64(0)
                    for k in range(words):
                        row = rows[at + y * words + k]
                        runs += bit_count(row & ~(row << np.uint64(1) | carry))
                        carry = row >> np.uint64(63)
    return runs


@kernel(types.int32[:, ::1](u8, *[types.int64] * 6))
def runs_of_masks(masks, gz, gy, gx, start_z, start_y, start_x):
    """Return the runs of a block's masks in Z, Y, X order."""
    words = (gx + 7) >> 3
    rows = np.empty(gz * gy * 64 * words, np.uint64)
    runs = np.empty((rows_of_masks(masks, gz, gy, gx, rows), 4), np.int32)
    n = at = 0
    for z in range(gz * 8):
        for y in range(gy * 8):
            if words == 1 and rows[at] == 0:
                at += 1
                continue
            row_stop = -1
            for k in range(words):
                word = rows[at]
                at += 1
                while word != 0:
                    first = trailing_zeros(word)
                    stop = first + trailing_zeros(~(word >> np.uint64(first)))
                    if k * 64 + first == row_stop:
                        # It goes on from the word before.
                        runs[n - 1, 3] += stop - first
                    else:
                        runs[n, 0] = start_x + k * 64 + first
                        runs[n, 1] = start_y + y
                        runs[n, 2] = start_z + z
                        runs[n, 3] = stop - first
                        n += 1
                    row_stop = k * 64 + stop
                    if stop == 64:
                        break
                    word &= ~np.uint64(0) << np.uint64(stop)
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
