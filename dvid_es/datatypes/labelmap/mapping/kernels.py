"""Kernels of the mapping: the overlay of changed supervoxels, and the runs that lie in packs.

A *stamp* names an event and orders what a version sees: ordinal << 44 | sequence. It is never 0.
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import (
    helper,
    i64,
    i64_out,
    kernel,
    load32,
    load64,
    u8,
    u64,
    u64_out,
)

SEQUENCE_BITS = 44
"""Bits of the sequence in a stamp: 17 million million events, and a million versions above them."""

RUN_HEADER = 16


@helper
def slot_of(key, slots):
    """Return the first slot of a key in a table of 2**n slots."""
    hashed = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((hashed ^ (hashed >> np.uint64(32))) & np.uint64(slots - 1))


@kernel(types.int64(u64, u64, u64, types.int64, u64_out, i64_out, u64_out, u64_out, i64_out))
def insert(svs, bodies, stamps, first_node, slot_sv, slot_head, node_stamp, node_body, node_next):
    """Add one node for each entry in front of its chain; return how many slots were filled.

    Others may read meanwhile: a node is complete before a chain shows it, a slot has its key before
    its chain.
    """
    filled = 0
    slots = len(slot_sv)
    for i in range(len(svs)):
        node = first_node + i
        at = slot_of(svs[i], slots)
        while slot_head[at] >= 0 and slot_sv[at] != svs[i]:
            at = (at + 1) & (slots - 1)
        node_stamp[node] = stamps[i]
        node_body[node] = bodies[i]
        node_next[node] = slot_head[at]
        if slot_head[at] < 0:
            slot_sv[at] = svs[i]
            filled += 1
        slot_head[at] = node
    return filled


@kernel(types.void(u64, i64, u64_out, i64_out))
def rehash(old_sv, old_head, slot_sv, slot_head):
    """Copy the chains of a table into a larger empty one."""
    slots = len(slot_sv)
    for i in range(len(old_sv)):
        if old_head[i] < 0:
            continue
        at = slot_of(old_sv[i], slots)
        while slot_head[at] >= 0:
            at = (at + 1) & (slots - 1)
        slot_sv[at] = old_sv[i]
        slot_head[at] = old_head[i]


@helper
def newest_node(key, slot_sv, slot_head, node_stamp, node_body, node_next, bounds):
    """Return stamp and body of the newest node of a key that the bounds let through, or 0 and 0.

    And whether nodes of several versions that are seen have different bodies.
    """
    slots = len(slot_sv)
    at = slot_of(key, slots)
    while slot_head[at] >= 0 and slot_sv[at] != key:
        at = (at + 1) & (slots - 1)
    node = slot_head[at]
    best = np.uint64(0)
    body = np.uint64(0)
    several = False
    while node >= 0:
        stamp = node_stamp[node]
        ordinal = np.int64(stamp >> np.uint64(44))
        sequence = np.int64(stamp & np.uint64(0xFFFFFFFFFFF))
        if ordinal < len(bounds) and sequence <= bounds[ordinal]:
            if best > 0 and node_body[node] != body:
                several = several or ordinal != np.int64(best >> np.uint64(44))
            if stamp > best:
                best = stamp
                body = node_body[node]
        node = node_next[node]
    return best, body, several


@kernel(
    types.int64(
        u64, u64, i64, u64, u64, i64, i64, types.int64, u64_out, u64_out, types.boolean[::1]
    )
)
def look_up_overlay(
    keys,
    slot_sv,
    slot_head,
    node_stamp,
    node_body,
    node_next,
    bounds,
    fork,
    stamps,
    out,
    doubtful,
):
    """Write body and stamp of the newest node of each key that the bounds let through.

    `bounds` holds for each ordinal the last sequence that is seen, -1 for versions that are not.
    Below `fork`, the newest version merge that is seen, the newest node need not be the right one: a
    key with nodes of several versions there, of different bodies, is marked as doubtful. Keys without
    a node keep what `out` and `stamps` hold. Returns how many have one.
    """
    found = 0
    for i in range(len(keys)):
        best, body, several = newest_node(
            keys[i], slot_sv, slot_head, node_stamp, node_body, node_next, bounds
        )
        if best > 0:
            stamps[i] = best
            out[i] = body
            found += 1
            doubtful[i] = several and np.int64(best >> np.uint64(44)) < fork
    return found


@kernel(types.void(u64_out, u64, i64, u64, u64, i64, i64, types.uint64))
def map_overlay(labels, slot_sv, slot_head, node_stamp, node_body, node_next, bounds, unset):
    """Replace each label by the body of its newest node, unless it has none or that is `unset`; not 0."""
    for i in range(len(labels)):
        if labels[i] > 0:
            best, body, _ = newest_node(
                labels[i], slot_sv, slot_head, node_stamp, node_body, node_next, bounds
            )
            if best > 0 and body != unset:
                labels[i] = body


@helper
def run_shift(first, last, buckets):
    """Return by how many bits the distance to the first supervoxel gives its bucket."""
    span = last - first
    shift = 0
    while span >> np.uint64(shift) >= np.uint64(buckets):
        shift += 1
    return np.uint64(shift)


@kernel(types.int64(u8, u64, types.uint64, u64_out, u64_out))
def look_up_run(run, keys, stamp, stamps, out):
    """Write the body of each key that is in a run and has an older stamp; return how many."""
    buckets = np.int64(load32(run, 4))
    count = np.int64(load64(run, 8))
    if count == 0:
        return 0
    radix = 16
    svs = radix + 4 * (buckets + 1)
    bodies = svs + 8 * count
    first = load64(run, svs)
    last = load64(run, svs + 8 * (count - 1))
    shift = run_shift(first, last, buckets)
    found = 0
    for i in range(len(keys)):
        key = keys[i]
        if key < first or key > last or stamps[i] >= stamp:
            continue
        bucket = np.int64((key - first) >> shift)
        low = load32(run, radix + 4 * bucket)
        high = load32(run, radix + 4 * bucket + 4)
        while low < high:
            middle = (low + high) >> 1
            if load64(run, svs + 8 * middle) < key:
                low = middle + 1
            else:
                high = middle
        if low < count and load64(run, svs + 8 * low) == key:
            out[i] = load64(run, bodies + 8 * low)
            stamps[i] = stamp
            found += 1
    return found
