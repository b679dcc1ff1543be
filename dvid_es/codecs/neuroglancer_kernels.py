"""Kernels of compressed_segmentation; those that write trust the size of their output."""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    helper,
    kernel,
    load16,
    load32,
    load64,
    store32,
    store64,
    u8,
    u8_out,
    u64,
    u64_out,
)
from dvid_es.codecs.labelblock_kernels import (
    MASKED_LABELS,
    split_by_rows,
    split_by_voxels,
    unpack,
    value_bits,
)

TOO_LARGE = -1
OUTSIDE = -1

_REACH = 1 << 24


def most_words(gz: int, gy: int, gx: int) -> int:
    """Return the most 32-bit words of a volume: 16 bits a voxel and 512 labels each sub-block."""
    return 1 + gz * gy * gx * (2 + 256 + 1024)


@helper
def width_of(count):
    """Return the bits of one value, of those that the format knows."""
    bits = value_bits(count)
    return bits if bits < 3 else (4 if bits < 5 else (8 if bits < 9 else 16))


@helper
def pack_low(bits, values, out, at):
    """Pack 512 values, first voxel lowest."""
    per_word = 32 // bits
    for word in range(16 * bits):
        packed = 0
        for k in range(per_word):
            packed |= values[word * per_word + k] << (bits * k)
        store32(out, at + 4 * word, packed)


@helper
def values_of_masks(n, masks, values):
    """Turn the masks of a sub-block's labels into positions of voxels."""
    for i in range(512):
        values[i] = 0
    for label in range(1, n):
        for z in range(8):
            mask = masks[label * 8 + z]
            for i in range(64):
                values[z * 64 + i] |= np.int64(mask >> np.uint64(i) & np.uint64(1)) * label


@helper
def put_subblock(s, n, values, labels, out, words):
    """Write one sub-block's header, values and labels; return the words so far, or TOO_LARGE."""
    bits = width_of(n)
    first = words - 1
    if bits > 0:
        pack_low(bits, values, out, 4 * words)
        words += 16 * bits
    if words - 1 >= _REACH:
        return TOO_LARGE
    store32(out, 4 + 8 * s, words - 1 | bits << 24)
    store32(out, 8 + 8 * s, first)
    for i in range(n):
        store64(out, 4 * words, labels[i])
        words += 2
    return words


@kernel(types.int64(u64, types.int64, types.int64, types.int64, u8_out))
def encode(volume, gz, gy, gx, out):
    """Write a flat volume; return the number of words, or TOO_LARGE."""
    found = np.empty(1024, np.uint64)
    masks = np.empty(MASKED_LABELS * 8, np.uint64)
    values = np.zeros(512, np.int64)
    stamps = np.full(1024, -1, np.int64)
    stride_y = gx * 8
    stride_z = gy * 8 * stride_y
    store32(out, 0, 1)
    words = 1 + 2 * gz * gy * gx
    for s in range(gz * gy * gx):
        sz, sy, sx = s // (gy * gx), s // gx % gy, s % gx
        corner = sz * 8 * stride_z + sy * 8 * stride_y + sx * 8
        n = split_by_rows(volume, corner, stride_z, stride_y, found, masks)
        if n > MASKED_LABELS:
            n = split_by_voxels(volume, corner, stride_z, stride_y, found, values, stamps, s)
        elif n > 1:
            values_of_masks(n, masks, values)
        words = put_subblock(s, n, values, found, out, words)
        if words < 0:
            return TOO_LARGE
    return words


@kernel(types.int64(u8, u64, u8_out))
def transcode(data, table, out):
    """Write a compressed label block; return the number of words, or TOO_LARGE."""
    subblocks = load32(data, 0) * load32(data, 4) * load32(data, 8)
    solid = len(table) == 1
    counts = 16 + 8 * len(table)
    index = counts + 2 * subblocks
    packed = index
    if not solid:
        for s in range(subblocks):
            packed += 4 * load16(data, counts + 2 * s)
    labels = np.empty(512, np.uint64)
    place = np.empty(512, np.int64)
    values = np.zeros(512, np.int64)
    store32(out, 0, 1)
    words = 1 + 2 * subblocks
    for s in range(subblocks):
        count = 1 if solid else load16(data, counts + 2 * s)
        n = 0
        for i in range(count):
            label = table[0] if solid else table[load32(data, index + 4 * i)]
            # Labels that are mapped to one body share an entry.
            at = 0
            while at < n and labels[at] != label:
                at += 1
            if at == n:
                labels[n] = label
                n += 1
            place[i] = at
        if count == 0:
            labels[0] = 0
            n = 1
        bits = value_bits(count)
        if n > 1:
            unpack(data, packed, bits, values)
            for i in range(512):
                values[i] = place[values[i]]
        words = put_subblock(s, n, values, labels, out, words)
        if words < 0:
            return TOO_LARGE
        if not solid:
            index += 4 * count
            packed += 64 * bits
    return words


@kernel(types.int64(u8, types.int64, types.int64, types.int64, u64_out))
def decode(data, gz, gy, gx, out):
    """Write the labels of all voxels; return 0, or OUTSIDE if an offset leads out of the data."""
    end = len(data)
    stride_y = gx * 8
    stride_z = gy * 8 * stride_y
    base = 4 * load32(data, 0)
    if base + 8 * gz * gy * gx > end:
        return OUTSIDE
    for s in range(gz * gy * gx):
        head = load32(data, base + 8 * s)
        bits = head >> 24
        table = base + 4 * (head & (_REACH - 1))
        values = base + 4 * load32(data, base + 8 * s + 4)
        if bits > 32 or bits & (bits - 1) != 0 or (bits > 0 and values + 64 * bits > end):
            return OUTSIDE
        sz, sy, sx = s // (gy * gx), s // gx % gy, s % gx
        corner = sz * 8 * stride_z + sy * 8 * stride_y + sx * 8
        select = (1 << bits) - 1
        for i in range(512):
            value = 0
            if bits > 0:
                first = i * bits
                value = load32(data, values + (first >> 5) * 4) >> (first & 31) & select
            at = table + 8 * value
            if at + 8 > end:
                return OUTSIDE
            place = corner + (i >> 6) * stride_z + (i >> 3 & 7) * stride_y + (i & 7)
            out[place] = load64(data, at)
    return 0
