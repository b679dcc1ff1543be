"""Kernels over DVID's compressed label block. They check no bounds: `labelblock.validate` does.

A sub-block's 512 values of b bits fill 64 rows of b bytes, so one row of 8 voxels is one big-endian
load, shifted; b = 9 needs one byte more.
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    bit_count,
    blend8,
    blend_bits,
    copy_bytes,
    equal8,
    fill8,
    helper,
    i32_2d,
    inlined,
    kernel,
    leading_zeros,
    load16,
    load32,
    load64,
    load64_be,
    store16,
    store32,
    store64,
    store64_be,
    trailing_zeros,
    u8,
    u64,
    u64_out,
    unpack8,
)

BAD_INDEX = -1
BAD_VALUE = -2
BAD_COUNT = -3
CUT_OFF = -4

MASKED_LABELS = 16
"""Sub-blocks with up to so many labels are encoded by comparing rows, others by hashing voxels."""

_HASH = np.uint64(0x9E3779B97F4A7C15)


def _spread_table() -> np.ndarray:
    """Return, for b bits and 8 flags, a 1 in each b-bit field (first voxel highest) that is set."""
    table = np.zeros((5, 256), np.uint64)
    for bits in range(1, 5):
        for flags in range(256):
            fields = (1 << (64 - bits * (k + 1)) for k in range(8) if flags >> k & 1)
            table[bits, flags] = sum(fields)
    return table.reshape(-1)


_SPREAD = _spread_table()


@helper
def value_bits(count):
    """Return the bits of one value in a sub-block of `count` labels."""
    return 64 - leading_zeros(max(count, 1) - 1)


@helper
def load_row(data, at):
    """Return 8 bytes from `at`, big-endian, with zeros for what lies behind the end."""
    last = len(data) - 8
    if at <= last:
        return load64_be(data, at)
    return load64_be(data, last) << np.uint64(8 * (at - last))


@helper
def unpack(data, at, bits, values):
    """Unpack the 512 values of a sub-block into int64[512]."""
    if bits < 9:
        for row in range(64):
            unpack8(load_row(data, at + row * bits), bits, values, row * 8)
        return
    mask = np.uint64(511)
    for row in range(64):
        word = load_row(data, at + row * 9)
        for k in range(7):
            values[row * 8 + k] = np.int64(word >> np.uint64(64 - 9 * (k + 1)) & mask)
        low = np.int64(data[at + row * 9 + 8])
        values[row * 8 + 7] = np.int64(word & np.uint64(1)) << 8 | low


@kernel(types.int64(u8, types.int64, types.int64))
def check(data, subblocks, labels):
    """Return the length of a block of more than one label, or one of the negative findings."""
    end = len(data)
    counts = 16 + 8 * labels
    indices = counts + 2 * subblocks
    if indices > end:
        return CUT_OFF
    total = 0
    packed = 0
    for s in range(subblocks):
        count = load16(data, counts + 2 * s)
        if count > 512:
            return BAD_COUNT
        total += count
        if count > 1:
            packed += 64 * value_bits(count)
    values = indices + 4 * total
    if values + packed > end:
        return CUT_OFF
    highest = 0
    for i in range(total):
        highest = max(highest, load32(data, indices + 4 * i))
    if total > 0 and highest >= labels:
        return BAD_INDEX
    unpacked = np.empty(512, np.int64)
    for s in range(subblocks):
        count = load16(data, counts + 2 * s)
        if count < 2:
            continue
        bits = value_bits(count)
        # With a power of two, every pattern of bits names a label.
        if count != 1 << bits:
            unpack(data, values, bits, unpacked)
            highest = 0
            for i in range(512):
                highest = max(highest, unpacked[i])
            if highest >= count:
                return BAD_VALUE
        values += 64 * bits
    return values


@inlined
def paste_row(word, bits, labels, out, at):
    """Write the 8 labels of one row of values of at most 8 bits."""
    mask = np.uint64((1 << bits) - 1)
    for k in range(8):
        out[at + k] = labels[np.int64(word >> np.uint64(64 - bits * (k + 1)) & mask)]


@helper
def sizes_of(data, counts, first, stop):
    """Return how many indices sub-blocks [first, stop) have, and how many bits a value of each, in all."""
    indices = bits = 0
    for s in range(first, stop):
        count = load16(data, counts + 2 * s)
        indices += count
        bits += value_bits(count)
    return indices, bits


@helper
def paste_box(data, table, box, out, origin, stride_z, stride_y):
    """Write the entries of `table` that a box of the block names, as `paste` does."""
    z0, z1, y0, y1, x0, x1 = box
    gx, gy, gz = load32(data, 0), load32(data, 4), load32(data, 8)
    subblocks = gx * gy * gz
    counts = 16 + 8 * len(table)
    index = values = counts + 2 * subblocks
    solid = len(table) == 1
    s = (z0 >> 3) * gy * gx
    if not solid:
        before, bits_before = sizes_of(data, counts, 0, s)
        behind, _ = sizes_of(data, counts, s, subblocks)
        values += 4 * (before + behind) + 64 * bits_before
        index += 4 * before
    labels = np.empty(512, out.dtype)
    unpacked = np.empty(512, np.int64)
    for sz in range(z0 & -8, z1, 8):
        za, zb = max(z0 - sz, 0), min(z1 - sz, 8)
        for sy in range(0, gy * 8, 8):
            ya, yb = max(y0 - sy, 0), min(y1 - sy, 8)
            for sx in range(0, gx * 8, 8):
                count = 1 if solid else load16(data, counts + 2 * s)
                bits = value_bits(count)
                xa, xb = max(x0 - sx, 0), min(x1 - sx, 8)
                if ya < yb and xa < xb:
                    if solid:
                        labels[0] = table[0]
                    elif count == 0:
                        labels[0] = 0
                    else:
                        for i in range(count):
                            labels[i] = table[load32(data, index + 4 * i)]
                    corner = origin + sz * stride_z + sy * stride_y + sx
                    if xa == 0 and xb == 8 and bits == 0:
                        for z in range(za, zb):
                            for y in range(ya, yb):
                                fill8(out, corner + z * stride_z + y * stride_y, labels[0])
                    elif xa == 0 and xb == 8 and bits < 9:
                        # The last row of a block may end less than 8 bytes before its end.
                        inside = values + 63 * bits + 8 <= len(data)
                        for z in range(za, zb):
                            for y in range(ya, yb):
                                at = values + (z * 8 + y) * bits
                                row = load64_be(data, at) if inside else load_row(data, at)
                                at = corner + z * stride_z + y * stride_y
                                if bits <= blend_bits(out):
                                    blend8(row, bits, labels, out, at)
                                else:
                                    paste_row(row, bits, labels, out, at)
                    else:
                        if bits > 0:
                            unpack(data, values, bits, unpacked)
                        for z in range(za, zb):
                            for y in range(ya, yb):
                                at = corner + z * stride_z + y * stride_y
                                for x in range(xa, xb):
                                    name = unpacked[z * 64 + y * 8 + x] if bits > 0 else 0
                                    out[at + x] = labels[name]
                if not solid:
                    index += 4 * count
                    values += 64 * bits
                s += 1


_box = types.UniTuple(types.int64, 6)


@kernel(types.void(u8, u64, _box, u64_out, types.int64, types.int64, types.int64))
def paste(data, table, box, out, origin, stride_z, stride_y):
    """Write the labels of a box of the block into a larger volume.

    Args:
        data: the block.
        table: the labels to use in place of its own.
        box: z0, z1, y0, y1, x0, x1 in voxels of the block, half-open, not empty.
        out: flat volume.
        origin: position in it of the block's first voxel, which may lie outside.
        stride_z: voxels between slices of the volume.
        stride_y: voxels between its rows.
    """
    paste_box(data, table, box, out, origin, stride_z, stride_y)


@helper
def count_values(data, at, bits, values, tally):
    """Add the number of voxels of each value of a sub-block to int64[512]."""
    if bits == 1:
        ones = 0
        for i in range(8):
            ones += bit_count(load64(data, at + 8 * i))
        tally[1] += ones
        tally[0] += 512 - ones
        return
    if bits == 2:
        low_bits = np.uint64(0x5555555555555555)
        one = two = three = 0
        for i in range(16):
            word = load64(data, at + 8 * i)
            low, high = word & low_bits, word >> np.uint64(1) & low_bits
            both = bit_count(low & high)
            three += both
            one += bit_count(low) - both
            two += bit_count(high) - both
        tally[0] += 512 - one - two - three
        tally[1] += one
        tally[2] += two
        tally[3] += three
        return
    unpack(data, at, bits, values)
    for i in range(512):
        tally[values[i]] += 1


@kernel(types.void(u8, types.int64, u64_out))
def count_voxels(data, labels, counts_out):
    """Add the number of voxels of each entry of the table to uint64[labels], labels > 1."""
    subblocks = load32(data, 0) * load32(data, 4) * load32(data, 8)
    counts = 16 + 8 * labels
    index = counts + 2 * subblocks
    values = index
    for s in range(subblocks):
        values += 4 * load16(data, counts + 2 * s)
    unpacked = np.empty(512, np.int64)
    tally = np.zeros(512, np.int64)
    for s in range(subblocks):
        count = load16(data, counts + 2 * s)
        if count == 1:
            counts_out[load32(data, index)] += np.uint64(512)
        elif count > 1:
            bits = value_bits(count)
            count_values(data, values, bits, unpacked, tally)
            for i in range(count):
                counts_out[load32(data, index + 4 * i)] += np.uint64(tally[i])
                tally[i] = 0
            values += 64 * bits
        index += 4 * count


@kernel(types.int64(u64_out, u64_out))
def gather_counts(labels, counts):
    """Sort labels with their counts, join equal ones, drop label 0 and count 0; return how many."""
    n = len(labels)
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            label, count = labels[i], counts[i]
            j = i
            while j >= gap and labels[j - gap] > label:
                labels[j], counts[j] = labels[j - gap], counts[j - gap]
                j -= gap
            labels[j], counts[j] = label, count
        gap //= 3
    kept = 0
    for i in range(n):
        if labels[i] == 0 or counts[i] == 0:
            continue
        if kept > 0 and labels[kept - 1] == labels[i]:
            counts[kept - 1] += counts[i]
        else:
            labels[kept], counts[kept] = labels[i], counts[i]
            kept += 1
    return kept


@kernel(types.void(u8, u64, i32_2d, u64_out))
def look_up(data, table, points_zyx, out):
    """Write the labels at int32[n, 3] ZYX points inside the block, table of more than one label."""
    gx, gy, gz = load32(data, 0), load32(data, 4), load32(data, 8)
    subblocks = gx * gy * gz
    counts = 16 + 8 * len(table)
    index_at = np.empty(subblocks, np.int64)
    value_at = np.empty(subblocks, np.int64)
    index = counts + 2 * subblocks
    values = 0
    for s in range(subblocks):
        index_at[s], value_at[s] = index, values
        count = load16(data, counts + 2 * s)
        index += 4 * count
        values += 64 * value_bits(count)
    for i in range(len(points_zyx)):
        z, y, x = points_zyx[i, 0], points_zyx[i, 1], points_zyx[i, 2]
        s = ((z >> 3) * gy + (y >> 3)) * gx + (x >> 3)
        count = load16(data, counts + 2 * s)
        if count == 0:
            out[i] = 0
            continue
        bits = value_bits(count)
        first = ((z & 7) * 64 + (y & 7) * 8 + (x & 7)) * bits
        at = index + value_at[s] + (first >> 3)
        pair = np.int64(data[at]) << 8 if bits > 0 else 0
        if bits > 8 - (first & 7):
            pair |= np.int64(data[at + 1])
        value = pair >> (16 - bits - (first & 7)) & ((1 << bits) - 1)
        out[i] = table[load32(data, index_at[s] + 4 * value)]


@helper
def intern(label, slots, table, size):
    """Return the position of a label in the table, adding it at `size` if it is new."""
    mask = np.uint64(len(slots) - 1)
    slot = (label * _HASH >> np.uint64(32)) & mask
    while True:
        found = slots[np.int64(slot)]
        if found < 0:
            slots[np.int64(slot)] = size
            table[size] = label
            return size
        if table[found] == label:
            return np.int64(found)
        slot = (slot + np.uint64(1)) & mask


@helper
def grow(slots, table, size):
    """Return slots and table four times as large, with the same labels."""
    more_slots = np.full(len(slots) * 4, -1, np.int32)
    more_table = np.empty(len(table) * 4, np.uint64)
    for i in range(size):
        intern(table[i], more_slots, more_table, i)
    return more_slots, more_table


@helper
def split_by_rows(volume, corner, stride_z, stride_y, found, masks):
    """Find the labels of a sub-block in order of first appearance, with a mask per slice.

    Returns the number of labels, or MASKED_LABELS + 1 if there are more than MASKED_LABELS.
    """
    left = np.empty(8, np.uint64)
    for z in range(8):
        left[z] = np.uint64(0xFFFFFFFFFFFFFFFF)
    n = 0
    for first in range(8):
        while left[first] != 0:
            if n == MASKED_LABELS:
                return MASKED_LABELS + 1
            voxel = trailing_zeros(left[first])
            at = corner + first * stride_z + (voxel >> 3) * stride_y + (voxel & 7)
            label = volume[at]
            found[n] = label
            for z in range(8):
                mask = np.uint64(0)
                if left[z] != 0:
                    row = corner + z * stride_z
                    for y in range(8):
                        same = equal8(volume, row + y * stride_y, label)
                        mask |= same << np.uint64(8 * y)
                    left[z] &= ~mask
                masks[n * 8 + z] = mask
            n += 1
    return n


@helper
def split_by_voxels(volume, corner, stride_z, stride_y, found, values, stamps, stamp):
    """Find the labels of a sub-block in order of first appearance, and each voxel's position."""
    n = 0
    for z in range(8):
        for y in range(8):
            at = corner + z * stride_z + y * stride_y
            for x in range(8):
                label = volume[at + x]
                slot = np.int64(label * _HASH >> np.uint64(54))
                while stamps[slot] >> 10 == stamp and found[stamps[slot] & 1023] != label:
                    slot = (slot + 1) & 1023
                if stamps[slot] >> 10 != stamp:
                    stamps[slot] = stamp << 10 | n
                    found[n] = label
                    n += 1
                values[z * 64 + y * 8 + x] = stamps[slot] & 1023
    return n


@helper
def pack_masks(n, bits, masks, out, at):
    """Pack the values of a sub-block from the masks of its labels; writes 8 bytes too many."""
    words = np.zeros(64, np.uint64)
    spread = bits * 256
    for label in range(1, n):
        for z in range(8):
            mask = masks[label * 8 + z]
            if mask != 0:
                for y in range(8):
                    flags = np.int64(mask >> np.uint64(8 * y) & np.uint64(255))
                    words[z * 8 + y] |= _SPREAD[spread + flags] * np.uint64(label)
    for row in range(64):
        store64_be(out, at + row * bits, words[row])


@helper
def pack_values(bits, values, out, at):
    """Pack 512 values; writes 8 bytes too many."""
    for row in range(64):
        word = np.uint64(0)
        for k in range(7):
            word = word << np.uint64(bits) | np.uint64(values[row * 8 + k])
        last = np.uint64(values[row * 8 + 7])
        if bits == 9:
            store64_be(out, at + row * 9, word << np.uint64(1) | last >> np.uint64(8))
            out[at + row * 9 + 8] = np.uint8(last & np.uint64(255))
        else:
            word = word << np.uint64(bits) | last
            store64_be(out, at + row * bits, word << np.uint64(64 - 8 * bits))


@helper
def assemble(gz, gy, gx, table, size, counts, indices, used, values, packed):
    """Join the parts of a block."""
    if size == 1:
        out = np.empty(24, np.uint8)
    else:
        out = np.empty(16 + 8 * size + 2 * len(counts) + 4 * used + packed, np.uint8)
    store32(out, 0, gx)
    store32(out, 4, gy)
    store32(out, 8, gz)
    store32(out, 12, size)
    for i in range(size):
        store64(out, 16 + 8 * i, table[i])
    if size > 1:
        at = 16 + 8 * size
        for i in range(len(counts)):
            store16(out, at + 2 * i, np.int64(counts[i]))
        at += 2 * len(counts)
        for i in range(used):
            store32(out, at + 4 * i, np.int64(indices[i]))
        at += 4 * used
        copy_bytes(values, 0, out, at, packed)
    return out


@kernel(types.uint8[::1](u64, *[types.int64] * 6))
def encode(volume, origin, stride_z, stride_y, gz, gy, gx):
    """Return the block of gz x gy x gx sub-blocks at `origin` of a flat volume."""
    subblocks = gz * gy * gx
    counts = np.empty(subblocks, np.uint16)
    # Worst case sizes: pages that stay untouched cost nothing.
    indices = np.empty(subblocks * 512, np.uint32)
    values = np.empty(subblocks * 576 + 8, np.uint8)
    slots = np.full(2048, -1, np.int32)
    table = np.empty(1024, np.uint64)
    found = np.empty(1024, np.uint64)
    masks = np.empty(MASKED_LABELS * 8, np.uint64)
    unpacked = np.empty(512, np.int64)
    stamps = np.full(1024, -1, np.int64)
    size = used = packed = s = 0
    for sz in range(gz):
        for sy in range(gy):
            for sx in range(gx):
                corner = origin + sz * 8 * stride_z + sy * 8 * stride_y + sx * 8
                n = split_by_rows(volume, corner, stride_z, stride_y, found, masks)
                by_rows = n <= MASKED_LABELS
                if not by_rows:
                    n = split_by_voxels(
                        volume, corner, stride_z, stride_y, found, unpacked, stamps, s
                    )
                while size + n > len(table):
                    slots, table = grow(slots, table, size)
                counts[s] = n
                for i in range(n):
                    position = intern(found[i], slots, table, size)
                    size = max(size, position + 1)
                    indices[used + i] = position
                used += n
                if n > 1:
                    bits = value_bits(n)
                    if by_rows:
                        pack_masks(n, bits, masks, values, packed)
                    else:
                        pack_values(bits, unpacked, values, packed)
                    packed += 64 * bits
                s += 1
    return assemble(gz, gy, gx, table, size, counts, indices, used, values, packed)
