"""Kernels that write and read LabelIndex messages of the protobuf wire form."""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    helper,
    i64,
    i64_out,
    kernel,
    u8,
    u8_out,
    u32,
    u32_out,
    u64,
    u64_out,
)

UNUSUAL = -1
"""The message is damaged, or uses something legal that DVID's encoder never writes."""


@helper
def varint_length(value):
    """Return the bytes of a varint."""
    length = 1
    while value >= np.uint64(128):
        value >>= np.uint64(7)
        length += 1
    return length


@helper
def put_varint(value, out, at):
    """Write a varint; return the place behind it."""
    while value >= np.uint64(128):
        out[at] = np.uint8(value & np.uint64(127) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@helper
def count_entry_length(supervoxel, count):
    """Return the bytes of one entry of the map of counts, without tag and length: at most 17."""
    return 2 + varint_length(supervoxel) + varint_length(np.uint64(count))


@kernel(types.int64(u64, i64, u64, u32, u64, i64_out))
def measure_blocks(keys, starts, supervoxels, counts, mutids, lengths):
    """Write the bytes of each block's SVCount message; return the bytes of the whole map."""
    total = 0
    for b in range(len(keys)):
        length = 0
        for i in range(starts[b], starts[b + 1]):
            length += 2 + count_entry_length(supervoxels[i], counts[i])
        if mutids[b] != 0:
            length += 1 + varint_length(mutids[b])
        lengths[b] = length
        entry = 2 + varint_length(keys[b]) + varint_length(np.uint64(length)) + length
        total += 1 + varint_length(np.uint64(entry)) + entry
    return total


@kernel(types.void(u64, i64, u64, u32, u64, i64, u8_out))
def write_blocks(keys, starts, supervoxels, counts, mutids, lengths, out):
    """Write field 1 of a LabelIndex: for each block its key and SVCount."""
    at = 0
    for b in range(len(keys)):
        length = np.uint64(lengths[b])
        entry = np.uint64(2 + varint_length(keys[b]) + varint_length(length)) + length
        out[at] = 0x0A
        at = put_varint(entry, out, at + 1)
        out[at] = 0x08
        at = put_varint(keys[b], out, at + 1)
        out[at] = 0x12
        at = put_varint(length, out, at + 1)
        for i in range(starts[b], starts[b + 1]):
            out[at] = 0x0A
            out[at + 1] = count_entry_length(supervoxels[i], counts[i])
            out[at + 2] = 0x08
            at = put_varint(supervoxels[i], out, at + 3)
            out[at] = 0x10
            at = put_varint(np.uint64(counts[i]), out, at + 1)
        if mutids[b] != 0:
            out[at] = 0x10
            at = put_varint(mutids[b], out, at + 1)


@helper
def get_varint(data, at, stop):
    """Return a varint and the place behind it; the place is UNUSUAL if there is none before stop."""
    value = np.uint64(0)
    for k in range(10):
        if at >= stop:
            return np.uint64(0), UNUSUAL
        byte = np.uint64(data[at])
        at += 1
        if k == 9 and byte > np.uint64(1):
            return np.uint64(0), UNUSUAL
        value |= (byte & np.uint64(127)) << np.uint64(7 * k)
        if byte < np.uint64(128):
            return value, at
    return np.uint64(0), UNUSUAL


@helper
def get_length(data, at, stop):
    """Return where a length-delimited field begins and ends; the end is UNUSUAL if beyond stop."""
    length, at = get_varint(data, at, stop)
    if at < 0 or length > np.uint64(stop - at):
        return at, UNUSUAL
    return at, at + np.int64(length)


@helper
def get_pair(data, at, stop):
    """Return the two varints of a map entry; `stop` again as third value means it was usual."""
    if at >= stop or data[at] != 0x08:
        return np.uint64(0), np.uint64(0), UNUSUAL
    key, at = get_varint(data, at + 1, stop)
    if at < 0 or at >= stop or data[at] != 0x10:
        return key, np.uint64(0), UNUSUAL
    value, at = get_varint(data, at + 1, stop)
    return key, value, at


@helper
def read_counts(data, at, stop, row, supervoxels, counts, write):
    """Read one SVCount; return the next row and the surface mutation id, row UNUSUAL if odd."""
    mutid = np.uint64(0)
    while at < stop:
        tag = data[at]
        if tag == 0x10:
            mutid, at = get_varint(data, at + 1, stop)
            if at < 0:
                return UNUSUAL, mutid
        elif tag == 0x0A:
            at, end = get_length(data, at + 1, stop)
            if end < 0:
                return UNUSUAL, mutid
            supervoxel, count, at = get_pair(data, at, end)
            if at != end or count > np.uint64(0xFFFFFFFF):
                return UNUSUAL, mutid
            if write:
                supervoxels[row] = supervoxel
                counts[row] = np.uint32(count)
            row += 1
        else:
            return UNUSUAL, mutid
    return row, mutid


@helper
def read_block(data, at, stop):
    """Return a block's key and the bounds of its SVCount, the end UNUSUAL if odd."""
    if at >= stop or data[at] != 0x08:
        return np.uint64(0), at, UNUSUAL
    key, at = get_varint(data, at + 1, stop)
    if at < 0 or at >= stop or data[at] != 0x12:
        return key, at, UNUSUAL
    at, end = get_length(data, at + 1, stop)
    if end != stop:
        return key, at, UNUSUAL
    return key, at, end


@kernel(
    types.int64(u8, types.boolean, u64_out, i64_out, u64_out, u32_out, u64_out, u64_out, i64_out)
)
def read_index(data, write, keys, starts, supervoxels, counts, mutids, numbers, texts):
    """Read a LabelIndex: once to count, once to write.

    Args:
        data: the message.
        write: whether the next five are written.
        keys: uint64[m] blocks.
        starts: int64[m + 1] first row of each.
        supervoxels: uint64[n] of rows.
        counts: uint32[n] of rows.
        mutids: uint64[m] of blocks.
        numbers: uint64[2] for label and last mutation id.
        texts: int64[8]: bounds of time, user and app, then m and n.

    Returns:
        0, or UNUSUAL.
    """
    at, stop = 0, len(data)
    block = row = 0
    while at < stop:
        tag = data[at]
        if tag == 0x0A:
            at, end = get_length(data, at + 1, stop)
            if end < 0:
                return UNUSUAL
            key, at, last = read_block(data, at, end)
            if last < 0:
                return UNUSUAL
            first = row
            row, mutid = read_counts(data, at, last, row, supervoxels, counts, write)
            if row < 0:
                return UNUSUAL
            if write:
                keys[block], starts[block], mutids[block] = key, first, mutid
            block += 1
            at = end
        elif tag == 0x10 or tag == 0x18:
            value, at = get_varint(data, at + 1, stop)
            if at < 0:
                return UNUSUAL
            numbers[(tag >> 3) - 2] = value
        elif tag == 0x22 or tag == 0x2A or tag == 0x32:
            at, end = get_length(data, at + 1, stop)
            if end < 0:
                return UNUSUAL
            texts[2 * ((tag >> 3) - 4)] = at
            texts[2 * ((tag >> 3) - 4) + 1] = end
            at = end
        else:
            return UNUSUAL
    if write:
        starts[block] = row
    texts[6], texts[7] = block, row
    return 0


@kernel(types.boolean(u64, i64, u64))
def is_sorted(keys, starts, supervoxels):
    """Return whether keys ascend, and within each block its supervoxels, all without repeats."""
    for b in range(len(keys)):
        if b > 0 and keys[b] <= keys[b - 1]:
            return False
        for i in range(starts[b] + 1, starts[b + 1]):
            if supervoxels[i] <= supervoxels[i - 1]:
                return False
    return True
