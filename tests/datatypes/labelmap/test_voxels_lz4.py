from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dvid_es.codecs import labellz4
from dvid_es.datatypes.labelmap.voxels import reads
from dvid_es.datatypes.labelmap.voxels.blockcache import BlockCache
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SHAPE = (64, 64, 64)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often an LZ4 block was made."""
    monkeypatch.setattr(reads, "LZ4", BlockCache())
    calls: list[int] = []
    real = labellz4.compress

    def counted(*given: Any) -> Any:
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(labellz4, "compress", counted)
    return calls


def test_a_block_as_lz4_is_made_once_and_again_when_its_bodies_have_changed(
    live: Any, made: list[int]
) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg")
    volume = oracle.cells(SHAPE, 30, seed=3)
    seg = Segmentation(live, root)
    seg.post(volume)

    def check(uuid: str, expected: np.ndarray, **query: str) -> int:
        before = len(made)
        got = Segmentation(live, uuid).read(SHAPE, compression="lz4", **query)
        assert np.array_equal(got, expected)
        return len(made) - before

    assert [check(root, volume) for _ in range(3)] == [1, 0, 0]
    live.commit(root)
    child = live.new_version(root)
    live.ok("POST", f"/api/node/{child}/seg/merge", json_body=[1, 2, 3])
    merged = np.where(np.isin(volume, (2, 3)), np.uint64(1), volume)
    assert [check(child, merged) for _ in range(2)] == [1, 0]
    assert check(child, volume, supervoxels="true") == 0
    assert check(root, volume) == 0
    part = volume[:, :, ::-1].copy()
    Segmentation(live, child).post(part, mutate="true")
    assert check(child, np.where(np.isin(part, (2, 3)), np.uint64(1), part)) == 1


def test_parts_of_blocks_and_lower_scales_are_as_they_are_stored(
    live: Any, made: list[int]
) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", MaxDownresLevel="1")
    volume = oracle.cells((64, 64, 128), 30, seed=4)
    seg = Segmentation(live, root)
    seg.post(volume, downres="true")
    for _ in range(2):
        for start in ((0, 0, 0), (64, 0, 0), (32, 0, 0)):
            x = start[0]
            got = seg.read(SHAPE, start, compression="lz4")
            assert np.array_equal(got, volume[:, :, x : x + 64]), start
        lower = seg.read(SHAPE, compression="lz4", scale="1")
        assert np.array_equal(lower, seg.read(SHAPE, scale="1"))
