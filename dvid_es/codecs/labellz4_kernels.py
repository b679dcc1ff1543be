"""An LZ4 block of labels, made from what is known of volumes rather than by hashing bytes.

A voxel nearly always has the label of a neighbour: the one above, before, in the slice before. So the
encoder looks nowhere else, at 64 voxels at a time. It never sees labels of 8 bytes, except those that
it has to write: each label has a name of one byte or two.
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    fill_bytes,
    helper,
    inlined,
    kernel,
    same64,
    store16,
    store32,
    store64,
    trailing_zeros,
    u8,
    u8_out,
    u16,
    u16_out,
    u64,
    u64_out,
)

OFFSETS = 5
"""How many places before a word are looked at."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_HASH = np.uint64(0x9E3779B97F4A7C15)


@kernel(types.int64(u64, u8_out, u64_out), types.int64(u64, u16_out, u64_out))
def name_labels(labels, names, palette):
    """Give each distinct label a name, 0 to label 0; return how many there are, 0 if too many.

    Args:
        labels: uint64[n], with repeats.
        names: uint8[n] or uint16[n], written.
        palette: uint64[256 or 65536], written: the label of each name.
    """
    size = 64
    while size < 2 * len(labels):
        size *= 2
    shift = np.uint64(64 - trailing_zeros(np.uint64(size)))
    slots = np.zeros(size, np.int32)
    palette[0] = 0
    known = 1
    for i in range(len(labels)):
        label = labels[i]
        name = np.int64(0)
        if label != 0:
            slot = np.int64(label * _HASH >> shift)
            while slots[slot] != 0 and palette[slots[slot]] != label:
                slot = (slot + 1) & (size - 1)
            if slots[slot] == 0:
                if known == len(palette):
                    return 0
                slots[slot] = known
                palette[known] = label
                known += 1
            name = np.int64(slots[slot])
        names[i] = name
    return known


@helper
def some_mask(voxels, at, count, offset):
    """Return which of up to 64 voxels equal those at an offset before them, which may not be there."""
    if count == 64 and at >= offset:
        return same64(voxels, at, at - offset)
    mask = np.uint64(0)
    for i in range(max(0, offset - at), count):
        if voxels[at + i] == voxels[at + i - offset]:
            mask |= np.uint64(1) << np.uint64(i)
    return mask


@inlined
def run_at(mask, place, rank):
    """Return 8 * (how many bits are set from a place on) + rank."""
    return trailing_zeros(~(mask >> np.uint64(place))) << 3 | rank


@helper
def write_length(out, at, length):
    """Write what the four bits of a token leave of a length; return the place behind."""
    full = length // 255
    fill_bytes(out, at, full, 255)
    out[at + full] = length - 255 * full
    return at + full + 1


@helper
def write_literals(voxels, palette, start, literals, match, out, at):
    """Write a token and the labels of some voxels; return the place behind."""
    size = 8 * literals
    out[at] = min(size, 15) << 4 | match
    at += 1
    if size >= 15:
        at = write_length(out, at, size - 15)
    for i in range(literals):
        store64(out, at + 8 * i, palette[voxels[start + i]])
    return at + size


@helper
def write_sequence(voxels, palette, start, literals, length, offset, out, at):
    """Write the labels of some voxels, then a match of `length` bytes, less 4; return the place behind."""
    short = min(length, 15)
    at = write_literals(voxels, palette, start, literals, short, out, at)
    store16(out, at, 8 * offset)
    return at + 2 if short < 15 else write_length(out, at + 2, length - 15)


_offsets = types.UniTuple(types.int64, OFFSETS)


_pair = types.UniTuple(types.int64, 2)


@kernel(_pair(u8, u64, _offsets, u8_out), _pair(u16, u64, _offsets, u8_out))
def compress(voxels, palette, offsets, out):
    """Write the LZ4 block of the labels of at least one voxel.

    Args:
        voxels: uint8[n] or uint16[n], names of labels, different ones of different labels.
        palette: uint64, the label of each name.
        offsets: how many voxels before each one to look, 1 to 8191, the best first.
        out: room for 8 * n + n // 16 + 64 bytes.

    Returns:
        How long it is, and where its last sequence begins, which has no match.
    """
    o0, o1, o2, o3, o4 = offsets
    furthest = max(offsets)
    # The format wants literals at the end: the last voxel's, which are more than the five bytes needed.
    stop = len(voxels) - 1
    written = 0
    start = literals = 0  # voxels in front of the pending match that nothing matched
    matched = 0
    offset = o0
    at = 0
    while at < stop:
        count = min(64, stop - at)
        if at >= furthest and count == 64:
            m = same64(voxels, at, at - offset)
            if m == _ALL and matched > 0:
                matched += 64
                at += 64
                continue
            m0 = same64(voxels, at, at - o0)
            m1 = same64(voxels, at, at - o1)
            m2 = same64(voxels, at, at - o2)
            m3 = same64(voxels, at, at - o3)
            m4 = same64(voxels, at, at - o4)
        else:
            m = some_mask(voxels, at, count, offset)
            m0 = some_mask(voxels, at, count, o0)
            m1 = some_mask(voxels, at, count, o1)
            m2 = some_mask(voxels, at, count, o2)
            m3 = some_mask(voxels, at, count, o3)
            m4 = some_mask(voxels, at, count, o4)
        place = 0
        if matched > 0:
            place = trailing_zeros(~m)
            matched += place
        while place < count:
            best = max(
                max(run_at(m0, place, 4), run_at(m1, place, 3)),
                max(max(run_at(m2, place, 2), run_at(m3, place, 1)), run_at(m4, place, 0)),
            )
            if matched > 0:
                length = 8 * matched - 4
                if literals < 2 and length < 15 + 255:
                    # Nearly all. What these stores write too much is overwritten.
                    short = min(length, 15)
                    store32(out, written, literals << 7 | short)
                    store64(out, written + 1, palette[voxels[start]])
                    written += 1 + 8 * literals
                    store32(out, written, offset << 3 | (length - short) << 16)
                    written += 2 + short // 15
                else:
                    written = write_sequence(
                        voxels, palette, start, literals, length, offset, out, written
                    )
                literals = matched = 0
                start = at + place
            if best < 8:
                literals += 1
                place += 1
                continue
            matched = best >> 3
            rank = best & 7
            offset = o0
            offset = o1 if rank == 3 else offset
            offset = o2 if rank == 2 else offset
            offset = o3 if rank == 1 else offset
            offset = o4 if rank == 0 else offset
            place += matched
        at += count
    if matched > 0:
        length = 8 * matched - 4
        written = write_sequence(voxels, palette, start, literals, length, offset, out, written)
        start, literals = stop, 0
    return write_literals(voxels, palette, start, literals + 1, 0, out, written), written
