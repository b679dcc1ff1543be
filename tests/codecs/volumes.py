"""Synthetic label volumes for the tests of codecs, and the real cubes where they are at hand."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def voronoi(seed: int, cells: int, shape=(64, 64, 64), zeros: float = 0.1):
    """Compact cells with 64-bit labels, some of them background."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((cells, 3)).astype(np.float32) * np.array(shape, np.float32)
    labels = rng.integers(1, 2**63, cells, dtype=np.uint64)
    labels[rng.random(cells) < zeros] = 0
    grid = np.indices(shape, np.float32)
    best = np.full(shape, np.inf, np.float32)
    volume = np.zeros(shape, np.uint64)
    for seed_zyx, label in zip(seeds, labels, strict=True):
        distance = sum((grid[axis] - seed_zyx[axis]) ** 2 for axis in range(3))
        nearer = distance < best
        best[nearer] = distance[nearer]
        volume[nearer] = label
    return volume


def noise(seed: int, labels: int, shape=(16, 24, 32)):
    """Every voxel at random from a palette that holds 0 and large labels."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(1, 2**64, labels, dtype=np.uint64)
    palette[0] = 0
    return palette[rng.integers(0, labels, shape)]


def mixed(seed: int, shape=(16, 24, 32)):
    """Sub-blocks of 1, 2, 3 ... 512 labels beside each other."""
    rng = np.random.default_rng(seed)
    volume = np.empty(shape, np.uint64)
    for z in range(0, shape[0], 8):
        for y in range(0, shape[1], 8):
            for x in range(0, shape[2], 8):
                count = int(rng.choice([1, 1, 2, 2, 3, 4, 5, 9, 16, 17, 33, 200, 256, 257, 512]))
                palette = rng.integers(0, 400, count).astype(np.uint64) * np.uint64(3**20)
                volume[z : z + 8, y : y + 8, x : x + 8] = palette[rng.integers(0, count, (8,) * 3)]
    return volume


SHAPES = [(8, 8, 8), (16, 16, 16), (16, 24, 32), (8, 40, 16), (32, 16, 72), (24, 8, 136)]


@st.composite
def volumes(draw, shapes=tuple(SHAPES)):
    """Volumes of all kinds; hypothesis draws the kind and a seed, not each voxel."""
    shape = draw(st.sampled_from(shapes))
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["solid", "noise", "mixed", "cells"]))
    if kind == "solid":
        return np.full(shape, draw(st.sampled_from([0, 1, 2**64 - 1])), np.uint64)
    if kind == "noise":
        return noise(seed, draw(st.sampled_from([2, 3, 4, 8, 15, 40, 600])), shape)
    if kind == "mixed":
        return mixed(seed, shape)
    return voronoi(seed, draw(st.integers(2, 30)), shape)


def real_cubes():
    """The real 64^3 cubes by name; the test is skipped where they are not at hand."""
    names = [f"{brain}-64x64x64-sample{i}" for brain in ("fib19", "cx") for i in (1, 2)]
    if not (DATA / f"{names[0]}.dat.gz").exists():
        pytest.skip("the real cubes are not beside this checkout")
    return {
        name: np.frombuffer(gzip.decompress((DATA / f"{name}.dat.gz").read_bytes()), "<u8")
        .reshape(64, 64, 64)
        .copy()
        for name in names
    }


def paint(runs, shape, start_zyx=(0, 0, 0)):
    """How often each voxel of a box is in runs."""
    z0, y0, x0 = start_zyx
    times = np.zeros(shape, np.int32)
    for x, y, z, length in runs.tolist():
        times[z - z0, y - y0, x - x0 : x - x0 + length] += 1
    return times
