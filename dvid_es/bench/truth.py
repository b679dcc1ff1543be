"""What the right answers are, by numpy alone: no codec and no kernel of the server is used here."""

import zlib

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.uint64]


def fingerprint(*arrays: NDArray[np.generic] | bytes) -> str:
    """Return a short text that differs when any of the arrays does (shape, type or content)."""
    text = []
    for array in arrays:
        data = np.frombuffer(array, np.uint8) if isinstance(array, bytes) else array
        crc = zlib.crc32(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
        text.append(f"{data.dtype}{list(data.shape)}:{crc:08x}")
    return " ".join(text)


def first_difference(got: NDArray[np.generic], want: NDArray[np.generic], what: str) -> str:
    """Return where two arrays differ first, as text; empty when they are equal."""
    if got.shape != want.shape:
        return f"{what}: {got.shape} came where {want.shape} was right"
    differs = got != want
    count = int(np.count_nonzero(differs))
    if not count:
        return ""
    place = tuple(int(axis) for axis in np.unravel_index(int(differs.argmax()), got.shape))
    return f"{what}: {count} differ, first at {place}: {got[place]} and not {want[place]}"


def runs_of(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the runs of a mask as int32[n, 4] of x, y, z, length; by Z, Y, X, as long as can be.

    Args:
        mask: bool[Z, Y, X] from the origin.
    """
    z_count, y_count, x_count = mask.shape
    padded = np.zeros((y_count, x_count + 2), np.int8)
    found = []
    for z in range(z_count):
        padded[:, 1:-1] = mask[z]
        steps = np.diff(padded, axis=1)
        y, start = np.nonzero(steps == 1)
        _, stop = np.nonzero(steps == -1)
        found.append(np.stack([start, y, np.full(len(y), z), stop - start], axis=1))
    return np.concatenate(found).astype(np.int32)


def sorted_runs(runs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return runs by Z, Y, X with those that touch joined: one form for each set of voxels.

    Args:
        runs: int32[n, 4] of x, y, z, length, in any order.
    """
    ordered = runs[np.lexsort((runs[:, 0], runs[:, 1], runs[:, 2]))]
    if not len(ordered):
        return ordered
    same_row = (ordered[1:, 1:3] == ordered[:-1, 1:3]).all(axis=1)
    touches = same_row & (ordered[1:, 0] == ordered[:-1, 0] + ordered[:-1, 3])
    starts = np.concatenate([[True], ~touches])
    first = np.flatnonzero(starts)
    joined = ordered[first].copy()
    joined[:, 3] = np.add.reduceat(ordered[:, 3], first)
    return joined


def half(volume: Volume) -> Volume:
    """Return the next scale: of 2x2x2 voxels the commonest label but 0, the lowest of equals."""
    z, y, x = (extent // 2 for extent in volume.shape)
    out = np.empty((z, y, x), np.uint64)
    step = max(1, 2_000_000 // (y * x))
    for low in range(0, z, step):
        slab = volume[2 * low : 2 * (low + step)]
        out[low : low + step] = _half_of(slab)
    return out


def _half_of(slab: Volume) -> Volume:
    parts = [slab[k::2, j::2, i::2] for k in (0, 1) for j in (0, 1) for i in (0, 1)]
    best = np.zeros(parts[0].shape, np.uint64)
    most = np.zeros(parts[0].shape, np.int8)
    for part in parts:
        votes = np.zeros(part.shape, np.int8)
        for other in parts:
            votes += part == other
        votes[part == 0] = 0
        wins = (votes > most) | ((votes == most) & (votes > 0) & (part < best))
        np.copyto(best, part, where=wins)
        np.copyto(most, votes, where=wins)
    return best


def counts_by_block(
    supervoxels: Volume, chosen: NDArray[np.bool_], side: int
) -> dict[int, dict[int, int]]:
    """Return the label index of a set of supervoxels: per block that holds some, their voxels.

    Args:
        supervoxels: uint64[Z, Y, X] from the origin.
        chosen: bool[n + 1], by supervoxel.
        side: of a block.

    Returns:
        By block key (21 bits per axis, x lowest), {supervoxel: voxels}.
    """
    index: dict[int, dict[int, int]] = {}
    z_blocks, y_blocks, x_blocks = (extent // side for extent in supervoxels.shape)
    for z in range(z_blocks):
        for y in range(y_blocks):
            for x in range(x_blocks):
                block = supervoxels[
                    z * side : (z + 1) * side, y * side : (y + 1) * side, x * side : (x + 1) * side
                ]
                counts = np.bincount(block.ravel().view(np.int64))
                inside = np.flatnonzero(counts * chosen[: len(counts)])
                if len(inside):
                    index[z << 42 | y << 21 | x] = {int(sv): int(counts[sv]) for sv in inside}
    return index
