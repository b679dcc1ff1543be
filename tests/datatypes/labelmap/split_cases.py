"""Volumes to be split, the bodies of requests, and what must come of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from dvid_es.bootstrap import row_kinds
from dvid_es.replay.digest import digests
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import Model

Volume = np.ndarray


def volume_a() -> Volume:
    """Four bodies in 128^3 voxels, for blocks of 32^3."""
    volume = np.zeros((128, 128, 128), np.uint64)
    volume[10:90, 40:60, 10:30] = 1
    volume[40:60, 20:70, 30:80] = 2
    volume[10:40, 40:60, 40:60] = 3
    volume[60:90, 40:60, 75:95] = 4
    return volume


def part_of_4() -> Volume:
    """A ragged part of body 4: 3989 of its 12000 voxels."""
    mask = np.zeros((128, 128, 128), bool)
    mask[80:90, 40:60, 75:95] = True
    mask[80, 40, 75:86] = False
    assert mask.sum() == 3989
    return mask


def runs_of(mask: Volume) -> Iterator[tuple[int, int, int, int]]:
    """Runs x, y, z, length."""
    for z, y in np.argwhere(mask.any(axis=2)).tolist():
        row = np.concatenate([[0], mask[z, y].astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(row)).reshape(-1, 2).tolist()
        yield from ((a, y, z, b - a) for a, b in edges)


def box_runs(x: range, y: range, z: range) -> list[tuple[int, int, int, int]]:
    return [(x.start, j, k, len(x)) for k in z for j in y]


def body_of(runs: Any, spans: int | None = None) -> bytes:
    """A request with runs."""
    runs = list(runs)
    data = b"".join(struct.pack("<4i", *run) for run in runs)
    return struct.pack("<4B2I", 0, 3, 0, 0, 0, len(runs) if spans is None else spans) + data


def blob_of(mask: Volume) -> bytes:
    return body_of(runs_of(mask))


def check_scales(live: Any, uuid: str, volume: Volume, levels: int) -> None:
    """All scales hold what follows from the voxels of scale 0."""
    seen = oracle.Segmentation(live, uuid)
    for scale in range(levels + 1):
        got = seen.read(volume.shape, supervoxels="true", scale=str(scale))
        assert np.array_equal(got, volume), f"scale {scale}"
        volume = oracle.halved(volume)


def state(live: Any) -> Any:
    """All rows, as a digest, and the end of the log."""
    ends = [stream.log.end for stream in live.engine.streams.all()]
    return digests(live.engine.store, row_kinds()), ends


def split_supervoxel(model: Model, sv: int, mask: Volume, answer: dict[str, int]) -> None:
    """Do to a model what a granted split does."""
    split, remain = answer["SplitSupervoxel"], answer["RemainSupervoxel"]
    body = model.mapped(sv, False)
    own = model.volume == sv
    assert not (mask & ~own).any()
    model.volume[own] = remain
    model.volume[mask] = split
    model.bodies[body] = model.bodies[body] - {sv} | {split, remain}
    model.mapping.update({sv: 0, split: body, remain: body})
    model.last[body] = answer["MutationID"]


def split_body(
    model: Model, body: int, mask: Volume, answer: dict[str, int], made: dict[int, tuple[int, int]]
) -> None:
    """Do to a model what a granted split of a body does; `made` has split and remaining parts."""
    new = answer["label"]
    mask = mask & (model.volume > 0)
    assert made.keys() == set(np.unique(model.volume[mask]).tolist())
    model.bodies[new] = set()
    for sv, (split, remain) in made.items():
        own = model.volume == sv
        model.volume[own] = remain
        model.volume[own & mask] = split
        model.bodies[new].add(split)
        model.bodies[body].discard(sv)
        if (own & ~mask).any():
            model.bodies[body].add(remain)
        model.mapping.update({sv: 0, split: new, remain: body})
    model.last[body] = model.last[new] = answer["MutationID"]
