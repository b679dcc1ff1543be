"""labelvol and labelblk: each follows the other, within one event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datatypes.labelarray import label_model as model
from tests.datatypes.labelarray.label_model import SIDE, Labels
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SHAPE = (64, 64, 96)


def listen(live: Any, root: str, name: str, to: str) -> None:
    live.ok("POST", f"/api/node/{root}/{name}/sync", json_body={"sync": to})


def made(live: Any, volume: np.ndarray | None = None) -> str:
    """Root of a labelblk "blk" and a labelvol "vol" that listen to each other."""
    root: str = live.new_repo()
    live.new_instance(root, "labelblk", "blk")
    live.new_instance(root, "labelvol", "vol")
    listen(live, root, "blk", "vol")
    listen(live, root, "vol", "blk")
    if volume is not None:
        Segmentation(live, root, "blk").post(volume)
    return root


def check(live: Any, uuid: str, volume: np.ndarray, absent: set[int], vol: str = "vol") -> None:
    assert np.array_equal(Segmentation(live, uuid, "blk").read(volume.shape), volume)
    model.check_sparse(live, f"/api/node/{uuid}/{vol}", volume, absent)


def three_labels() -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint64)
    volume[10:50, 10:50, 10:80] = 3
    volume[0:10] = 5
    volume[50:60, 20:40, 20:40] = 8
    return volume


def edit(live: Any, rng: np.random.Generator, uuid: str, labels: Labels, ids: set[int]) -> None:
    """One random edit or write, to the server and to the model."""
    node = f"/api/node/{uuid}/vol"
    there = labels.labels()
    label = int(rng.choice(there))
    kind = rng.integers(5)
    if kind == 0 and len(there) > 2:
        others = [int(n) for n in rng.permutation(there)[:2] if n != label]
        live.ok("POST", f"{node}/merge", json_body=[label, *others])
        labels.merge(label, others)
    elif kind == 1:
        mask = model.some_of(rng, labels.volume, label)
        given = {"splitlabel": int(rng.choice(sorted(ids - {label})))} if rng.random() < 0.3 else {}
        new = model.split_fine(live, node, label, mask, **given)
        assert given or new > max(ids)
        ids.add(new)
        labels.split(label, new, mask)
    elif kind == 2:
        blocks = model.blocks_of(labels.volume == label)
        chosen = [blocks[i] for i in rng.permutation(len(blocks))[: 1 + len(blocks) // 2]]
        new = model.split_coarse(live, node, label, chosen)
        ids.add(new)
        labels.split(label, new, model.coarse_mask(chosen, SHAPE))
    else:
        z, y, x = (int(rng.integers(side // SIDE)) * SIDE for side in SHAPE)
        part = labels.volume[z : z + SIDE, y : y + SIDE, x : x + SIDE]
        part[3:20, 5:30] = int(rng.choice([0, *ids]))
        Segmentation(live, uuid, "blk").post(part, (x, y, z), mutate=str(kind == 3).lower())


@pytest.mark.parametrize("seed", [1, 2])
def test_both_follow_random_edits_and_writes_over_versions(
    live: Any, seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    volume = oracle.cells(SHAPE, 12, seed)
    root = made(live, volume)
    live.new_instance(root, "labelblk", "blk_1")
    listen(live, root, "blk_1", "blk")
    Segmentation(live, root, "blk").post(volume)  # again, for the coarser one
    models, ids = {root: Labels(volume)}, set(range(1, 13))
    for number in range(30):
        uuid = list(models)[-1]
        edit(live, rng, uuid, models[uuid], ids)
        if number in (9, 19):
            live.commit(uuid)
            models[live.new_version(uuid)] = models[uuid].child()
    for uuid, labels in models.items():
        check(live, uuid, labels.volume, ids)
        half = model.halved(labels.volume, background=True)
        assert np.array_equal(Segmentation(live, uuid, "blk_1").read(half.shape), half)
    model.check_rebuilt(live, tmp_path)


def test_a_labelblk_that_does_not_listen_keeps_its_voxels(live: Any) -> None:
    volume = three_labels()
    root = made(live, volume)
    live.ok("POST", f"/api/node/{root}/blk/sync?replace=true", json_body={"sync": ""})
    live.ok("POST", f"/api/node/{root}/vol/merge", json_body=[3, 8])
    assert np.array_equal(Segmentation(live, root, "blk").read(SHAPE), volume)
    merged = np.where(volume == 8, np.uint64(3), volume)
    model.check_sparse(live, f"/api/node/{root}/vol", merged, {8})


def test_a_labelblk_with_other_voxels_gets_the_edit_and_not_the_blocks(live: Any) -> None:
    volume = three_labels()
    root = made(live, volume)
    node = f"/api/node/{root}/vol"
    live.ok("DELETE", f"{node}/area/5/96_64_32/0_0_0")
    live.ok("POST", f"{node}/merge", json_body=[77, 3])
    volume[volume == 3] = 77
    assert np.array_equal(Segmentation(live, root, "blk").read(SHAPE), volume)
    mask = np.zeros(SHAPE, bool)
    mask[20:30, 20:30, 20:60] = True
    new = model.split_fine(live, node, 77, mask)
    volume[mask] = new
    assert np.array_equal(Segmentation(live, root, "blk").read(SHAPE), volume)
    assert live.ok("POST", f"{node}/split-coarse/77", cases.body_of([(0, 0, 0, 2)])).json()
    part = volume[:32, :32, :64]
    part[part == 77] = new + 1
    assert np.array_equal(Segmentation(live, root, "blk").read(SHAPE), volume)
    without = np.where(volume == 5, np.uint64(0), volume)
    model.check_sparse(live, node, without, {5, 3})


def test_an_area_is_dropped_and_comes_back_by_resync(live: Any, tmp_path: Path) -> None:
    volume = three_labels()
    root = made(live, volume)
    node = f"/api/node/{root}/vol"
    live.ok("DELETE", f"{node}/area/3/32_64_32/32_0_0")
    left = volume.copy()
    part = left[:32, :, 32:64]
    part[part == 3] = 0
    check_runs = model.check_sparse
    check_runs(live, node, left, set())
    assert np.array_equal(Segmentation(live, root, "blk").read(SHAPE), volume)
    before = cases.state(live)
    live.ok("DELETE", f"{node}/area/3/32_64_32/32_0_0")
    live.ok("DELETE", f"{node}/area/999/32_64_32/32_0_0")
    assert cases.state(live) == before, "nothing to drop is no event"
    live.ok("POST", f"{node}/resync/3", cases.body_of([(0, 0, 0, 3)]))
    back = left.copy()
    back[:32, :32, :] = volume[:32, :32, :]
    check_runs(live, node, back, set())
    live.ok(
        "POST", f"{node}/resync/3", cases.body_of([(-5, y, z, 99) for y in (0, 1) for z in (0, 1)])
    )
    check_runs(live, node, volume, set())
    model.check_rebuilt(live, tmp_path)


def test_what_was_written_before_it_listened_is_fetched_by_resync(live: Any) -> None:
    volume = three_labels()
    root: str = live.new_repo()
    live.new_instance(root, "labelblk", "blk")
    node = live.new_instance(root, "labelvol", "vol")
    Segmentation(live, root, "blk").post(volume)
    listen(live, root, "vol", "blk")
    assert live.call("GET", f"{node}/sparsevol/3").status == 404
    for label in (3, 5, 8):
        live.ok(
            "POST",
            f"{node}/resync/{label}",
            cases.body_of([(0, y, z, 3) for y in (0, 1) for z in (0, 1)]),
        )
    model.check_sparse(live, node, volume, {4})
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 8}


def test_all_labelvols_of_a_labelblk_follow_edits_of_one(live: Any, tmp_path: Path) -> None:
    volume = three_labels()
    root = made(live)
    live.new_instance(root, "labelvol", "other")
    listen(live, root, "other", "blk")
    Segmentation(live, root, "blk").post(volume)
    live.ok("POST", f"/api/node/{root}/vol/merge", json_body=[3, 8])
    volume[volume == 8] = 3
    check(live, root, volume, {8})
    check(live, root, volume, {8}, vol="other")
    live.ok("POST", f"/api/node/{root}/other/merge", json_body=[3, 5])
    merged = np.where(volume == 5, np.uint64(3), volume)
    model.check_sparse(live, f"/api/node/{root}/other", merged, {5})
    check(live, root, volume, {8})  # nobody listens to "other"
    model.check_rebuilt(live, tmp_path)


def test_an_unversioned_labelvol_holds_what_was_written_last(live: Any, tmp_path: Path) -> None:
    volume = three_labels()
    root: str = live.new_repo()
    live.new_instance(root, "labelblk", "blk")
    live.new_instance(root, "labelvol", "vol", versioned="false")
    listen(live, root, "vol", "blk")
    Segmentation(live, root, "blk").post(volume)
    live.commit(root)
    child = live.new_version(root)
    part = np.full((32, 32, 32), 70, np.uint64)
    Segmentation(live, child, "blk").post(part)
    volume[:32, :32, :32] = 70
    for uuid in (root, child):
        model.check_sparse(live, f"/api/node/{uuid}/vol", volume, {4})
    model.check_rebuilt(live, tmp_path)


def test_branches_that_edit_one_label_in_other_blocks_can_be_merged(
    live: Any, tmp_path: Path
) -> None:
    volume = three_labels()
    root = made(live, volume)
    live.commit(root)
    branches = []
    for name, label in (("a", 8), ("b", 5)):
        body = {"branch": name}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        live.ok("POST", f"/api/node/{uuid}/vol/merge", json_body=[3, label])
        live.commit(uuid)
        branches.append(uuid)
    body = {"mergeType": "conflict-free", "parents": branches, "note": "both"}
    answer = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()
    assert "conflicts" not in answer
    volume[np.isin(volume, (5, 8))] = 3
    check(live, answer["child"], volume, {5, 8})
    Segmentation(live, answer["child"], "blk").post(np.full((32, 32, 32), 9, np.uint64))
    volume[:32, :32, :32] = 9
    check(live, answer["child"], volume, {5, 8})
    model.check_rebuilt(live, tmp_path)


def test_sparse_volumes_have_their_forms_and_bounds(live: Any) -> None:
    volume = three_labels()
    node = f"/api/node/{made(live, volume)}/vol"
    plain = live.ok("GET", f"{node}/sparsevol/3").body
    for query in ("format=srles", "format=blocks", "scale=4", "supervoxels=true"):
        assert live.ok("GET", f"{node}/sparsevol/3?{query}").body == plain, query
    nothing = bytes([0, 3, 0, 0]) + bytes(8)
    assert live.ok("GET", f"{node}/sparsevol/3?minx=85").body == nothing
    assert live.ok("GET", f"{node}/sparsevol/3?minx=4000").body == nothing
    assert live.call("GET", f"{node}/sparsevol/3?minz=4000").status == 404
    assert live.call("GET", f"{node}/sparsevol/4?minx=0").status == 404
    assert (
        live.ok("GET", f"{node}/sparsevol-by-point/20_20_20?minz=30&compression=lz4").body == plain
    )
    coarse = live.ok("GET", f"{node}/sparsevol-coarse/3").body
    assert live.ok("GET", f"{node}/sparsevol-coarse/3?minz=60").body == coarse
    bounded = live.ok("GET", f"{node}/sparsevol/3?minx=30&maxx=50&minz=40&maxy=33").body
    expected = np.zeros(SHAPE, bool)
    expected[40:50, 10:34, 30:51] = True
    assert np.array_equal(model.decode_runs(bounded, SHAPE), expected)


def test_a_split_label_counts_and_is_not_given_again(live: Any) -> None:
    volume = three_labels()
    root = made(live, volume)
    node = f"/api/node/{root}/vol"
    mask = np.zeros(SHAPE, bool)
    mask[40, 40, 40:45] = True
    assert model.split_fine(live, node, 3, mask, splitlabel=40) == 40
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 40}
    assert live.ok("GET", f"{node}/nextlabel").json() == {"nextlabel": 41}
    mask[40, 40, 40:45], mask[41, 41, 41] = False, True
    assert model.split_fine(live, node, 3, mask) == 41
    assert list(live.ok("GET", f"{node}/info").json()["Extended"]["MaxLabel"].values()) == [41]


BAD = [
    ("POST", "merge", b"[3]"), ("POST", "merge", b"{}"), ("POST", "merge", b"[3,0]"),
    ("POST", "merge", b"[3,3]"), ("GET", "merge", None),
    ("POST", "split/3", cases.body_of([(0, 20, 20, 40)])),
    ("POST", "split/3", cases.body_of([(20, 30, 30, 10), (25, 30, 30, 10)])),
    ("POST", "split/4242", cases.body_of([(0, 0, 0, 1)])), ("POST", "split/3", b""),
    ("POST", "split/3", cases.body_of([(20, 20, 20, 2**31 - 21)])),
    ("POST", "split/3?splitlabel=3", cases.body_of([(20, 20, 20, 1)])),
    ("POST", "split-coarse/8", cases.body_of([(0, 0, 0, 3)])), ("GET", "split-coarse/8", None),
    ("POST", "split-coarse/8", cases.body_of([(0, 0, 1, 2**31 - 1)])),
    ("DELETE", "area/3/31_32_32/0_0_0", None), ("DELETE", "area/3/32_32_32/1_0_0", None),
    ("DELETE", "area/0/32_32_32/0_0_0", None), ("DELETE", "area/3/32_32_32", None),
    ("DELETE", "area", None), ("POST", "area/3/32_32_32/0_0_0", b""),
    ("POST", "resync/0", cases.body_of([(0, 0, 0, 1)])), ("POST", "resync/3", b"abc"),
    ("POST", "resync/3", cases.body_of([(0, 0, 0, 2**31 - 1)])), ("GET", "resync/3", None),
    ("POST", "resync/3", cases.body_of([(2**30, 0, 0, 1)])),
    ("POST", "maxlabel/7", b""), ("POST", "nextlabel/7", b""), ("POST", "sparsevol/3", b""),
    ("GET", "sparsevol/0", None), ("GET", "sparsevol/3?compression=none", None),
    ("GET", "sparsevol/3?minx=a", None), ("GET", "sparsevol-by-point/0_60_63", None),
    ("GET", "sparsevol-by-point/2000000000_0_0", None), ("GET", "raw/0_1_2/8_8_8/0_0_0", None),
    ("GET", "sparsevols-coarse/1/9", None), ("GET", "sparsevol-size/3", None),
    ("POST", "sync", b'{"sync": "large"}'), ("POST", "sync", b'{"sync": "vol"}'),
    ("POST", "sync", b'{"sync": "array"}'),
]  # fmt: skip


def test_what_is_refused_changes_nothing(live: Any) -> None:
    root = made(live, three_labels())
    live.new_instance(root, "labelarray", "array", BlockSize="32,32,32")
    live.new_instance(root, "labelblk", "large", BlockSize="64,64,64")
    node = f"/api/node/{root}/vol"
    before = cases.state(live)
    for method, path, body in BAD:
        answer = live.call(method, f"{node}/{path}", body)
        assert answer.status == 400, (method, path, answer)
        assert answer.text.strip(), (method, path)
        assert cases.state(live) == before, (method, path)


def test_without_a_labelblk_there_is_nothing_to_fetch_from(live: Any) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "labelvol", "vol")
    for method, path, body in (
        ("GET", "sparsevol-by-point/1_2_3", None),
        ("POST", "resync/3", cases.body_of([(0, 0, 0, 1)])),
    ):
        answer = live.call(method, f"{node}/{path}", body)
        assert (answer.status, b"listens to no labelblk" in answer.body) == (400, True)
