"""What labels without supervoxels must answer: numpy only; and the edits as clients send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dvid_es.bootstrap import row_kinds
from dvid_es.replay.verify import verify
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import decode_runs
from tests.datatypes.labelmap.split_cases import blob_of, body_of

Volume = np.ndarray

SIDE = 32


class Labels:
    """The voxels of one version."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume

    def child(self) -> Labels:
        return Labels(self.volume.copy())

    def merge(self, target: int, labels: list[int]) -> None:
        self.volume[np.isin(self.volume, labels)] = target

    def split(self, label: int, new: int, mask: Volume) -> None:
        self.volume[mask & (self.volume == label)] = new

    def labels(self) -> list[int]:
        return sorted(oracle.sizes(self.volume))


def halved(volume: Volume, background: bool = False) -> Volume:
    """Half resolution as labelarray votes; with `background` as labelblk votes."""
    corners = [volume[z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    parts = np.stack(corners)
    votes = np.stack([(parts == part).sum(axis=0) for part in parts])
    if background:
        return np.where(votes == votes.max(axis=0), parts, np.uint64(0)).max(axis=0)
    votes *= parts > 0
    ahead = (votes == votes.max(axis=0)) & (parts > 0)
    best = np.where(ahead, parts, np.uint64(2**64 - 1)).min(axis=0)
    return np.where(parts.any(axis=0), best, np.uint64(0))


def blocks_of(mask: Volume) -> list[tuple[int, int, int]]:
    """The blocks (z, y, x) that have voxels of a mask."""
    found = np.unique(np.argwhere(mask) // SIDE, axis=0)
    return [(z, y, x) for z, y, x in found.tolist()]


def coarse_body(blocks: list[tuple[int, int, int]]) -> bytes:
    return body_of((x, y, z, 1) for z, y, x in blocks)


def coarse_mask(blocks: list[tuple[int, int, int]], shape: tuple[int, ...]) -> Volume:
    mask = np.zeros(shape, bool)
    for z, y, x in blocks:
        mask[z * SIDE : (z + 1) * SIDE, y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] = True
    return mask


def some_of(rng: np.random.Generator, volume: Volume, label: int) -> Volume:
    """A ragged part of a label's voxels, never none."""
    mask = np.zeros(volume.shape, bool)
    places = np.argwhere(volume == label)
    corner = places[rng.integers(len(places))]
    z, y, x = (slice(max(0, c - 9), c + int(rng.integers(1, 12))) for c in corner.tolist())
    mask[z, y, x] = (
        rng.random((z.stop - z.start, y.stop - y.start, x.stop - x.start))[
            : volume[z, y, x].shape[0], : volume[z, y, x].shape[1], : volume[z, y, x].shape[2]
        ]
        > 0.3
    )
    mask[tuple(corner)] = True
    return mask & (volume == label)


def check_sparse(live: Any, node: str, volume: Volume, absent: set[int]) -> None:
    """Sparse volumes of all labels, and of labels that are not there."""
    for label in sorted(oracle.sizes(volume)):
        mask = volume == label
        got = live.ok("GET", f"{node}/sparsevol/{label}").body
        assert np.array_equal(decode_runs(got, mask.shape), mask), label
        coarse = live.ok("GET", f"{node}/sparsevol-coarse/{label}").body
        grid = tuple(side // SIDE for side in mask.shape)
        expected = np.zeros(grid, bool)
        for at in blocks_of(mask):
            expected[at] = True
        assert np.array_equal(decode_runs(coarse, grid), expected), label
    for label in absent - oracle.sizes(volume).keys():
        assert live.call("GET", f"{node}/sparsevol/{label}").status == 404, label
        assert live.call("HEAD", f"{node}/sparsevol/{label}").status == 204, label


def split_fine(live: Any, node: str, label: int, mask: Volume, **query: int) -> int:
    new: int = live.ok("POST", f"{node}/split/{label}", blob_of(mask), **query).json()["label"]
    return new


def split_coarse(
    live: Any, node: str, label: int, blocks: list[tuple[int, int, int]], **query: int
) -> int:
    path = f"{node}/split-coarse/{label}"
    new: int = live.ok("POST", path, coarse_body(blocks), **query).json()["label"]
    return new


def check_rebuilt(live: Any, tmp_path: Path) -> None:
    """All rows, made again from the log, are the ones that are there."""
    engine = live.engine
    streams = engine.streams.all()
    report = verify(engine.store, streams, engine.projector, row_kinds(), tmp_path / "again")
    assert report.differences == [], report.differences
