"""A made-up segmentation: a warped Voronoi diagram, the same for the same size and seed.

Cells lie about 32 voxels apart, so a 64^3 block holds about 38 of them: the density of
supervoxels in electron microscopy at 8 nm. The geometry is computed in integers; the warp is the
only use of floating point, and it is rounded far from any tie.
"""

import numpy as np
from numpy.typing import NDArray

SPACING = 32
MARGIN = 16
"""Most voxels by which the warp moves anything, on each side."""

BACKGROUND_EVERY = 97
"""Each so-manieth cell is background."""


def voronoi(size: int, seed: int = 1) -> NDArray[np.uint64]:
    """Return a segmentation of size^3 voxels: cells numbered from 1, 0 is background.

    Args:
        size: voxels along each axis, a multiple of SPACING.
        seed: of the places of the cells.

    Returns:
        uint64[Z, Y, X], C order. Neighbouring cells have near numbers.
    """
    straight = _straight(size + 2 * SPACING, seed)
    return _warped(straight, size)


def _straight(size: int, seed: int) -> NDArray[np.uint32]:
    """Return the unwarped diagram: for each voxel the nearest of 27 jittered grid points."""
    grid = size // SPACING
    generator = np.random.default_rng(seed)
    jitter = generator.integers(0, SPACING, (grid + 2, grid + 2, grid + 2, 3), dtype=np.int32)
    numbers = np.arange((grid + 2) ** 3, dtype=np.uint32).reshape(grid + 2, grid + 2, grid + 2)
    numbers[numbers % BACKGROUND_EVERY == 0] = 0
    volume = np.empty((size, size, size), np.uint32)
    offsets = np.array([(z, y, x) for z in range(3) for y in range(3) for x in range(3)])
    starts = (offsets.astype(np.int32) - 1) * SPACING
    inside = np.arange(SPACING, dtype=np.int32)
    for z in range(grid):
        for y in range(grid):
            for x in range(grid):
                near = np.add(offsets, (z, y, x))
                points = jitter[near[:, 0], near[:, 1], near[:, 2]] + starts
                labels = numbers[near[:, 0], near[:, 1], near[:, 2]]
                corner = (z * SPACING, y * SPACING, x * SPACING)
                _fill_cube(volume, corner, points, labels, inside)
    return volume


def _fill_cube(
    volume: NDArray[np.uint32],
    corner: tuple[int, int, int],
    points: NDArray[np.int32],
    labels: NDArray[np.uint32],
    inside: NDArray[np.int32],
) -> None:
    best = np.full((SPACING,) * 3, np.iinfo(np.int32).max, np.int32)
    distance = np.empty_like(best)
    squares = np.square(inside[None, :, None] - points[:, None, :])
    for which, square in enumerate(squares):
        # Distance and number of the point in one integer: a single minimum finds both.
        plane = (square[:, 0, None] + square[None, :, 1]) * 32 + which
        np.add(plane[:, :, None], square[:, 2] * 32, out=distance)
        np.minimum(best, distance, out=best)
    z, y, x = corner
    volume[z : z + SPACING, y : y + SPACING, x : x + SPACING] = labels[best & 31]


def _warped(straight: NDArray[np.uint32], size: int) -> NDArray[np.uint64]:
    """Return the middle of a volume with each row taken from a place that waves along Z and Y."""
    place = np.arange(size)
    wave_z = _wave(place, 61)[None, :] + SPACING
    wave_y = _wave(place, 83)[:, None] + SPACING
    from_z = place[:, None] + wave_z
    from_y = place[None, :] + wave_y
    from_x = SPACING + (_wave(place, 97)[:, None] + _wave(place, 71)[None, :]) // 2
    out = np.empty((size, size, size), np.uint64)
    for z in range(size):
        for y in range(size):
            x = from_x[z, y]
            out[z, y] = straight[from_z[z, y], from_y[z, y], x : x + size]
    return out


def _wave(place: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    return np.rint(MARGIN * np.sin(2 * np.pi * place / period)).astype(np.int64)
