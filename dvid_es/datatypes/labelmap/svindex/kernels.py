"""Kernels over label counts of blocks: what changed, and the new rows of the supervoxel index."""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    i64,
    i64_out,
    kernel,
    load16,
    load32,
    store16,
    store32,
    u8,
    u8_out,
    u32,
    u32_out,
    u64,
    u64_out,
)


@kernel(types.int64(i64, u64, u32, i64, u64, u32, i64, u64_out, i64_out, u32_out, u32_out))
def changes(
    old_starts,
    old_labels,
    old_counts,
    new_starts,
    new_labels,
    new_counts,
    order,
    labels_out,
    places_out,
    old_out,
    new_out,
):
    """Compare the counts of blocks before and after; return the number of changes.

    Labels and counts of block i are [starts[i] : starts[i + 1]], ascending. `order` has the blocks in
    the order in which their changes are wanted. Written are the label, the position in `order`, the
    old and the new count of each change.
    """
    n = 0
    for place in range(len(order)):
        block = order[place]
        i, i_end = old_starts[block], old_starts[block + 1]
        j, j_end = new_starts[block], new_starts[block + 1]
        while i < i_end or j < j_end:
            old = new = np.uint32(0)
            if j >= j_end or (i < i_end and old_labels[i] < new_labels[j]):
                label, old = old_labels[i], old_counts[i]
                i += 1
            elif i >= i_end or new_labels[j] < old_labels[i]:
                label, new = new_labels[j], new_counts[j]
                j += 1
            else:
                label, old, new = old_labels[i], old_counts[i], new_counts[j]
                i += 1
                j += 1
            if old != new:
                labels_out[n] = label
                places_out[n] = place
                old_out[n] = old
                new_out[n] = new
                n += 1
    return n


@kernel(types.void(u8, i64, i64, i64, u32, u8_out, i64_out))
def merge_rows(old, old_starts, group_starts, local, counts, out, out_starts):
    """Write new rows of the index: old rows with some blocks changed.

    A row is n u16 numbers of blocks, ascending, then n u32 counts; rows lie behind each other, `starts`
    say where. Changes [group_starts[g] : group_starts[g + 1]] are those of row g, ascending: the number
    of a block (`local`) and its new count, where 0 takes the block out.
    """
    at = 0
    for g in range(len(group_starts) - 1):
        out_starts[g] = at
        first = old_starts[g]
        n = (old_starts[g + 1] - first) // 6
        i = 0
        j, j_end = group_starts[g], group_starts[g + 1]
        size = 0
        # Counts are written behind room for all numbers, then moved up to the numbers kept.
        room = 2 * (n + j_end - j)
        while i < n or j < j_end:
            if j >= j_end or (i < n and load16(old, first + 2 * i) < local[j]):
                number = load16(old, first + 2 * i)
                count = load32(old, first + 2 * n + 4 * i)
                i += 1
            else:
                if i < n and load16(old, first + 2 * i) == local[j]:
                    i += 1
                number, count = local[j], np.int64(counts[j])
                j += 1
            if count > 0:
                store16(out, at + 2 * size, number)
                store32(out, at + room + 4 * size, count)
                size += 1
        for k in range(size):
            store32(out, at + 2 * size + 4 * k, load32(out, at + room + 4 * k))
        at += 6 * size
    out_starts[len(group_starts) - 1] = at


@kernel(types.void(u8, i64, i64_out, u32_out))
def split_rows(data, starts, local, counts):
    """Write block numbers and counts of rows that lie behind each other."""
    k = 0
    for g in range(len(starts) - 1):
        first = starts[g]
        n = (starts[g + 1] - first) // 6
        for i in range(n):
            local[k] = load16(data, first + 2 * i)
            counts[k] = np.uint32(load32(data, first + 2 * n + 4 * i))
            k += 1
