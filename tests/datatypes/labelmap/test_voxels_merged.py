from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SIDE = 32


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("voxels") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


def merge(live: Any, root: str, parents: list[str]) -> dict[str, Any]:
    body = {"mergeType": "conflict-free", "parents": parents, "note": "both"}
    found: dict[str, Any] = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()
    return found


def branches(live: Any, volume: np.ndarray, *parts: tuple[tuple[int, int, int], np.ndarray]) -> Any:
    """Root with a volume, and a committed branch for each part written over it at an offset."""
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    Segmentation(live, root).post(volume)
    live.commit(root)
    found = []
    for number, (offset, part) in enumerate(parts):
        body = {"branch": f"side{number}"}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        Segmentation(live, uuid).post(part, offset)
        live.commit(uuid)
        found.append(uuid)
    return root, found


def check_index(live: Any, root: str, uuid: str, volume: np.ndarray) -> None:
    expected = oracle.sizes(volume)
    stream = live.engine.streams.get(root)
    with live.engine.store.read(root, stream.packs) as txn:
        view = txn.view(txn.repo.graph.by_uuid[uuid].id)
        instance = txn.repo.names["seg"].id
        labels = np.array([*expected, 2**40], np.uint64)
        totals = svindex.voxels_of(txn, instance, labels, view).tolist()
        assert totals == [*expected.values(), 0]
        starts, coords, counts = svindex.read_many_blocks(txn, instance, labels, view)
        for place, label in enumerate(labels[:-1].tolist()):
            a, b = starts[place], starts[place + 1]
            for at, count in zip(coords[a:b].tolist(), counts[a:b].tolist(), strict=True):
                cube = oracle.part(volume, (at[2], at[1], at[0]), SIDE)
                assert count == int((cube == label).sum()) > 0
            assert counts[a:b].sum() == expected[label]


def check_all(live: Any, root: str, uuid: str, volume: np.ndarray) -> None:
    seg = Segmentation(live, uuid)
    assert (seg.read(volume.shape) == volume).all()
    below = volume
    for scale in (1, 2):
        below = oracle.halved(below)
        assert (seg.read(below.shape, scale=scale) == below).all()
        side = "_".join(str(-(-n // SIDE) * SIDE) for n in below.shape[::-1])
        stream = live.ok("GET", f"{seg.node}/blocks/{side}/0_0_0?scale={scale}&compression=blocks")
        for at, data in oracle.split(stream.body):
            cube = oracle.part(np.pad(below, [(0, SIDE)] * 3), at, SIDE)
            assert (oracle.unpacked(data, "blocks", (SIDE,) * 3) == cube).all()
    check_index(live, root, uuid, volume)


def test_branches_that_wrote_different_blocks_of_the_same_supervoxels_are_joined_exactly(
    live: Any,
) -> None:
    volume = np.where(np.arange(128) < 50, np.uint64(5), np.uint64(6))
    volume = np.ascontiguousarray(np.broadcast_to(volume, (64, 64, 128)))
    left, right = volume[:32, :32, :64].copy(), volume[32:, 32:, 64:].copy()
    left[:, :, :20] = 7
    right[:10] = 5
    right[10:20] = 7
    root, parents = branches(live, volume, ((0, 0, 0), left), ((64, 32, 32), right))
    answer = merge(live, root, parents)
    assert "block" not in str(answer.get("conflicts"))
    merged = volume.copy()
    merged[:32, :32, :64] = left
    merged[32:, 32:, 64:] = right
    uuid = answer["child"]
    check_all(live, root, uuid, merged)
    live.commit(uuid)
    check_all(live, root, live.new_version(uuid), merged)


def test_a_supervoxel_that_one_branch_removed_where_the_other_added_some(live: Any) -> None:
    volume = np.full((32, 32, 96), 6, np.uint64)
    volume[:, :, :32] = 5
    gone, more = volume[:, :, :32] + np.uint64(3), volume[:, :, 64:].copy()
    more[:16] = 5
    root, parents = branches(live, volume, ((0, 0, 0), gone), ((64, 0, 0), more))
    merged = np.concatenate([gone, volume[:, :, 32:64], more], axis=2)
    check_all(live, root, merge(live, root, parents)["child"], merged)


def test_a_block_that_both_branches_wrote_is_a_conflict_until_it_is_written_again(
    live: Any,
) -> None:
    volume = oracle.cells((32, 32, 64), 6, seed=2)
    one, two = (np.full((32, 32, 32), label, np.uint64) for label in (70, 80))
    root, parents = branches(live, volume, ((0, 0, 0), one), ((0, 0, 0), two))
    answer = merge(live, root, parents)
    assert "block 0,0,0" in answer["conflicts"]["seg"]
    seg = Segmentation(live, answer["child"])
    refused = live.call("GET", seg.raw(volume.shape, (0, 0, 0)))
    assert refused.status == 400
    assert b"version merge" in refused.body
    assert (seg.read((32, 32, 32), (32, 0, 0)) == volume[:, :, 32:]).all()
    three = np.full((32, 32, 32), 90, np.uint64)
    seg.post(three)
    volume[:, :, :32] = three
    check_all(live, root, answer["child"], volume)
