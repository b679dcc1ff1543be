from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.sparse import proximity
from dvid_es.datatypes.labelmap.sparse.kernels import FAR, nearest
from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SIDE = 16


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("proximity") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


def squared(sets: np.ndarray) -> int:
    """All pairs of voxels."""
    first, second = (np.argwhere(sets == wanted) for wanted in (1, 2))
    if not len(first) or not len(second):
        return FAR
    return min(int(((second - voxel) ** 2).sum(axis=1).min()) for voxel in first)


@pytest.mark.parametrize(
    "shape", [(16, 16, 16), (8, 24, 16), (1, 1, 40), (1, 30, 1), (30, 1, 7), (9, 1, 1)]
)
def test_the_kernel_finds_the_nearest_pair(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(4)
    n = math.prod(shape)
    seen = set()
    for count in (0, 1, 2, 3, 8, 40):
        for _ in range(12):
            sets = np.zeros(n, np.uint64)
            for which in (1, 2):
                sets[random.integers(0, n, count)] = which
            squares = np.full(n, 7, np.int32)
            found = nearest(sets, *shape, squares)
            assert found == squared(sets.reshape(shape))
            seen.add(found)
    assert FAR in seen
    assert len(seen) > 4


def test_the_kernel_finds_the_distance_of_blobs_apart() -> None:
    for seed in range(12):
        random = np.random.default_rng(seed)
        sets = np.zeros((20, 20, 20), np.uint64)
        z, y, x = np.ogrid[:20, :20, :20]
        for which in (1, 2):
            a, b, c = random.integers(0, 20, 3)
            radius = random.integers(4, 40)
            sets[(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= radius] = which
        found = nearest(sets.reshape(-1), 20, 20, 20, np.empty(8000, np.int32))
        assert found == squared(sets)


def by_hand(volume: np.ndarray, corner_xyz: Any, first: Any, second: Any) -> list[dict[str, Any]]:
    answer = []
    for at in np.ndindex(*(side // SIDE for side in volume.shape)):
        z, y, x = (SIDE * c for c in at)
        block = volume[z : z + SIDE, y : y + SIDE, x : x + SIDE]
        square = squared(np.isin(block, first) + 2 * np.isin(block, second))
        if square < FAR:
            place = [a + b // SIDE for a, b in zip(at[::-1], corner_xyz, strict=True)]
            answer.append({"Block": place, "Distance": pytest.approx(math.sqrt(square), abs=1e-12)})
    return answer


def spaced(seed: int) -> np.ndarray:
    """Cells with room between some of them."""
    volume = oracle.cells((48, 32, 64), 30, seed=seed)
    volume[volume % 3 == 0] = 0
    return volume


def test_distances_in_all_shared_blocks(live: Any) -> None:
    volume, corner = spaced(5), (-32, 0, -16)
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    seg = Segmentation(live, root)
    seg.post(volume, corner)
    labels = np.unique(volume[volume > 0]).tolist()
    shared, distances = 0, set()
    for first in labels[:8]:
        for second in labels[8:]:
            expected = by_hand(volume, corner, first, second)
            found = live.ok("GET", f"{seg.node}/proximity/{first}/{second}")
            assert found.headers["content-type"] == "application/json"
            assert found.json() == expected
            assert live.ok("GET", f"{seg.node}/proximity/{second},{first}").json() == expected
            shared += bool(expected)
            distances |= {entry["Distance"] for entry in found.json()}
    assert shared > 20
    assert len(distances) > 10


def test_bodies_of_several_supervoxels_in_several_versions(live: Any) -> None:
    volume = spaced(6)
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    seg = Segmentation(live, root)
    seg.post(volume)
    labels = np.unique(volume[volume > 0]).tolist()
    mine, other = labels[:9], labels[9:]
    before = live.ok("POST", f"{seg.node}/merge", json_body=mine).headers["x-dvid-es-seq"]
    live.commit(root)
    child = Segmentation(live, live.new_version(root))
    live.ok("POST", f"{child.node}/merge", json_body=other)
    path = f"proximity/{mine[0]}/{other[0]}"
    small = by_hand(volume, (0, 0, 0), mine, other[:1])
    large = by_hand(volume, (0, 0, 0), mine, other)
    assert len(large) > len(small) > 0
    assert len(large) > 8
    assert live.ok("GET", f"{seg.node}/{path}").json() == small
    assert live.ok("GET", f"{child.node}/{path}").json() == large
    assert live.ok("GET", f"{child.node}/{path}", at=before).json() == small
    assert live.call("GET", f"{child.node}/proximity/{mine[0]}/{other[1]}").status == 404


def test_many_blocks_are_looked_at_in_several_tasks(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    seg = Segmentation(live, root)
    volume = np.zeros((64, 64, 64), np.uint64)
    volume[::16], volume[5::16] = 1, 2
    volume[16::16, :16] = 0
    seg.post(volume)
    found = live.ok("GET", f"{seg.node}/proximity/1/2")
    assert found.body.startswith(b'[{"Block":[0,0,0],"Distance":5},{"Block":[1,0,0],')
    assert found.json() == by_hand(volume, (0, 0, 0), 1, 2)
    assert len(found.json()) == 64 - 12 > proximity.TASK_BLOCKS


def test_voxels_that_change_change_the_distance(live: Any) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    seg = Segmentation(live, root)
    volume = np.zeros((16, 16, 16), np.uint64)
    for gap, expected in ((9, 9), (3, 3), (1, 1)):
        volume[:] = 0
        volume[3, 3, 3], volume[3, 3, 3 + gap] = 5, 6
        seg.post(volume, mutate="true")
        found = live.ok("GET", f"{seg.node}/proximity/5/6").json()
        assert found == [{"Block": [0, 0, 0], "Distance": expected}]
    volume[3, 3, 4], volume[4, 4, 4] = 0, 6
    seg.post(volume, mutate="true")
    (entry,) = live.ok("GET", f"{seg.node}/proximity/5/6").json()
    assert entry["Distance"] == math.sqrt(3)
    assert seg.post(np.roll(volume, 0), (32, 0, 0)).status == 200
    assert len(live.ok("GET", f"{seg.node}/proximity/5/6").json()) == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("proximity", 400),
        ("proximity/1", 400),
        ("proximity/1,", 400),
        ("proximity/,1", 400),
        ("proximity/1,2,3", 400),
        ("proximity/1/x", 400),
        ("proximity/-1/1", 400),
        ("proximity/1_2", 400),
        ("proximity/1/1", 400),
        ("proximity/1,1", 400),
        ("proximity/1/0", 400),
        ("proximity/0/1", 400),
        ("proximity/1/18446744073709551616", 400),
        ("proximity/1/99", 404),
        ("proximity/99,1", 404),
    ],
)
def test_a_wrong_pair_is_refused(live: Any, path: str, status: int) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    volume = np.ones((16, 16, 16), np.uint64)
    volume[0] = 2
    Segmentation(live, root).post(volume)
    assert live.call("GET", f"/api/node/{root}/seg/{path}").status == status
