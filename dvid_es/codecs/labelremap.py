"""Supervoxel -> body from two sorted arrays and a radix index over them: the base of a mapping.

The three arrays are plain and immutable, 16.4 bytes an entry, so they may be mapped from a file and
shared. Supervoxels that are not in the base map to themselves.
"""

import numpy as np
from numba import types
from numpy.typing import NDArray

from dvid_es.codecs.kernel import helper, kernel, u32, u32_out, u64, u64_out

Labels = NDArray[np.uint64]

ENTRIES_PER_BUCKET = 10
"""Mean entries of a bucket of the index: 4 bytes for each bucket are 0.4 bytes for each entry."""

MAX_ENTRIES = 2**32 - 1


@helper
def radix_shift(svs, buckets):
    """Return by how many bits the distance to the first supervoxel gives its bucket."""
    span = svs[-1] - svs[0]
    shift = 0
    while span >> np.uint64(shift) >= np.uint64(buckets):
        shift += 1
    return shift


@kernel(types.void(u64, u32_out))
def fill_radix(svs, radix):
    """Write where each bucket begins; the last entry is the number of supervoxels."""
    buckets = len(radix) - 1
    shift = np.uint64(radix_shift(svs, buckets))
    at = 0
    for i in range(len(svs)):
        bucket = np.int64((svs[i] - svs[0]) >> shift)
        while at <= bucket:
            radix[at] = i
            at += 1
    while at <= buckets:
        radix[at] = len(svs)
        at += 1


@kernel(types.int64(u64, u64, u64, u32, u64_out))
def map_labels(keys, svs, bodies, radix, out):
    """Write the body of each key; return how many were in the base."""
    if len(svs) == 0:
        for i in range(len(keys)):
            out[i] = keys[i]
        return 0
    first, last = svs[0], svs[-1]
    shift = np.uint64(radix_shift(svs, len(radix) - 1))
    found = 0
    for i in range(len(keys)):
        key = keys[i]
        out[i] = key
        if key < first or key > last:
            continue
        bucket = np.int64((key - first) >> shift)
        low, high = np.int64(radix[bucket]), np.int64(radix[bucket + 1])
        while low < high:
            middle = (low + high) >> 1
            if svs[middle] < key:
                low = middle + 1
            else:
                high = middle
        if low < len(svs) and svs[low] == key:
            out[i] = bodies[low]
            found += 1
    return found


def build_radix(svs: Labels) -> NDArray[np.uint32]:
    """Return the index over ascending distinct uint64[n] supervoxels.

    Returns:
        uint32[buckets + 1]; it is valid for exactly these supervoxels.

    Raises:
        ValueError: more than MAX_ENTRIES.
    """
    if len(svs) > MAX_ENTRIES:
        raise ValueError(f"{len(svs)} supervoxels, a base holds at most {MAX_ENTRIES}")
    # Two buckets or more: a shift by 63 bits must reach a bucket that exists.
    radix = np.zeros(len(svs) // ENTRIES_PER_BUCKET + 3, np.uint32)
    if len(svs):
        fill_radix(svs, radix)
    return radix


def lookup(
    keys: Labels, base_svs: Labels, base_bodies: Labels, radix: NDArray[np.uint32], out: Labels
) -> int:
    """Map supervoxels to bodies.

    Args:
        keys: uint64[n] in any order, repeats allowed.
        base_svs: uint64[m], ascending and distinct.
        base_bodies: uint64[m], the body of each.
        radix: of `build_radix(base_svs)`.
        out: uint64[n], written; may be `keys`.

    Returns:
        How many keys were in the base; the others were copied.
    """
    assert len(base_svs) == len(base_bodies), "each supervoxel of the base has a body"
    assert len(radix) == len(base_svs) // ENTRIES_PER_BUCKET + 3, "the index is of another base"
    assert len(keys) == len(out), "the target is as long as the keys"
    found: int = map_labels(keys, base_svs, base_bodies, radix, out)
    return found
