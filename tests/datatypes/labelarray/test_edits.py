"""labelarray: merges and splits rewrite voxels, at all scales and over versions."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelarray import editing, reads
from tests.datatypes.labelarray import label_model as model
from tests.datatypes.labelarray.label_model import SIDE, Labels
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SHAPE = (64, 64, 96)


def made(live: Any, volume: np.ndarray, levels: int = 1, **config: str) -> tuple[str, str]:
    """Root and path of a labelarray with a volume."""
    root = live.new_repo()
    config = {"BlockSize": "32,32,32", "MaxDownresLevel": str(levels), **config}
    node = live.new_instance(root, "labelarray", "seg", **config)
    Segmentation(live, root).post(volume)
    return root, node


def check(live: Any, uuid: str, volume: np.ndarray, absent: set[int], levels: int = 1) -> None:
    node = f"/api/node/{uuid}/seg"
    seen = Segmentation(live, uuid)
    model.check_sparse(live, node, volume, absent)
    for scale in range(levels + 1):
        got = seen.read(volume.shape, scale=str(scale))
        assert np.array_equal(got, volume), f"scale {scale}"
        volume = model.halved(volume)


def three_labels() -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint64)
    volume[10:50, 10:50, 10:80] = 3
    volume[0:10] = 5
    volume[50:60, 20:40, 20:40] = 8
    return volume


class Walk:
    """Random writes, merges and splits over versions, beside what must come of them."""

    def __init__(self, live: Any, seed: int) -> None:
        self.live = live
        self.rng = np.random.default_rng(seed)
        volume = oracle.cells(SHAPE, 12, seed)
        self.root, _ = made(live, volume)
        self.models = {self.root: Labels(volume)}
        self.open = [self.root]
        self.ids = set(range(1, 13))

    def step(self) -> None:
        uuid = self.open[self.rng.integers(len(self.open))]
        kinds = ["merge", "merge", "split", "split", "coarse", "write", "write", "version"]
        getattr(self, str(self.rng.choice(kinds)))(uuid, self.models[uuid])

    def one(self, labels: Labels) -> int:
        return int(self.rng.choice(labels.labels()))

    def merge(self, uuid: str, labels: Labels) -> None:
        there = labels.labels()
        count = min(len(there), int(self.rng.integers(2, 4)))
        target, *others = (int(n) for n in self.rng.choice(there, count, replace=False))
        if others:
            self.live.ok("POST", f"/api/node/{uuid}/seg/merge", json_body=[target, *others])
            labels.merge(target, others)

    def split(self, uuid: str, labels: Labels) -> None:
        label = self.one(labels)
        mask = model.some_of(self.rng, labels.volume, label)
        given = {}
        if self.rng.random() < 0.4:
            # Also labels that were merged away, or that other bodies have.
            given = {"splitlabel": int(self.rng.choice(sorted(self.ids - {label})))}
        new = model.split_fine(self.live, f"/api/node/{uuid}/seg", label, mask, **given)
        self.check_new(new, given)
        labels.split(label, new, mask)

    def coarse(self, uuid: str, labels: Labels) -> None:
        label = self.one(labels)
        blocks = model.blocks_of(labels.volume == label)
        chosen = [blocks[i] for i in self.rng.permutation(len(blocks))[: 1 + len(blocks) // 2]]
        new = model.split_coarse(self.live, f"/api/node/{uuid}/seg", label, chosen)
        self.check_new(new, {})
        labels.split(label, new, model.coarse_mask(chosen, SHAPE))

    def check_new(self, new: int, given: dict[str, int]) -> None:
        if given:
            assert new == given["splitlabel"]
        else:
            assert new > max(self.ids), "a new label is new in every version"
        self.ids.add(new)

    def write(self, uuid: str, labels: Labels) -> None:
        # Labels that were merged away come back, as what they are.
        z, y, x = (int(self.rng.integers(side // SIDE)) * SIDE for side in SHAPE)
        part = labels.volume[z : z + SIDE, y : y + SIDE, x : x + SIDE]
        part[8:20, 4:30] = int(self.rng.choice([0, *self.ids]))
        if self.rng.random() < 0.5:
            Segmentation(self.live, uuid).post(part, (x, y, z))
        else:
            body = oracle.stream(part, (x // SIDE, y // SIDE, z // SIDE), SIDE)
            self.live.ok("POST", f"/api/node/{uuid}/seg/blocks?downres=true", body)

    def version(self, uuid: str, labels: Labels) -> None:
        if len(self.models) >= 5:
            return
        self.live.commit(uuid)
        self.open.remove(uuid)
        for branch in range(int(self.rng.integers(1, 3))):
            body = {"branch": f"b{len(self.models)}-{branch}"}
            child = self.live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()["child"]
            self.models[child] = labels.child()
            self.open.append(child)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_read_follows_random_edits_over_versions(
    live: Any, seed: int, tmp_path: Path
) -> None:
    walk = Walk(live, seed)
    for _ in range(40):
        walk.step()
    assert len(walk.models) > 1
    for uuid, labels in walk.models.items():
        check(live, uuid, labels.volume, walk.ids)
    model.check_rebuilt(live, tmp_path)


def test_a_label_that_was_merged_away_is_itself_again_when_it_is_written(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    live.ok("POST", f"{node}/merge", json_body=[3, 5])
    volume[volume == 5] = 3
    live.commit(root)
    child = live.new_version(root)
    again = np.full((32, 32, 32), 5, np.uint64)
    Segmentation(live, child).post(again, (32, 0, 0))
    below = volume.copy()
    below[:32, :32, 32:64] = 5
    check(live, child, below, {5, 9})
    check(live, root, volume, {5, 9})
    live.commit(child)
    grandchild = live.new_version(child)
    live.ok("POST", f"/api/node/{grandchild}/seg/merge", json_body=[5, 3])
    last = np.where(below == 3, np.uint64(5), below)
    check(live, grandchild, last, {3})
    check(live, child, below, {9})


def test_lower_scales_vote_again_after_a_merge(live: Any) -> None:
    volume = np.zeros((32, 32, 32), np.uint64)
    volume[:2, :2, :2] = np.reshape([1, 1, 2, 2, 3, 3, 3, 0], (2, 2, 2))
    _, node = made(live, volume)
    assert live.ok("GET", f"{node}/label/0_0_0?scale=1").json() == {"Label": 3}
    live.ok("POST", f"{node}/merge", json_body=[1, 2])
    assert live.ok("GET", f"{node}/label/0_0_0?scale=1").json() == {"Label": 1}


def test_a_merge_takes_labels_that_are_not_there_as_nothing(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    before = cases.state(live)
    assert live.ok("POST", f"{node}/merge", json_body=[3, 99]).body == b""
    assert cases.state(live) == before
    live.ok("POST", f"{node}/merge", json_body=[77, 8, 99, 8])
    volume[volume == 8] = 77
    check(live, root, volume, {8, 99})


def test_a_split_leaves_voxels_of_others_and_may_join_a_label(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    mask = np.zeros(SHAPE, bool)
    mask[5:20, 20:30, 0:96] = True
    new = model.split_fine(live, node, 3, mask, splitlabel=8)
    assert new == 8
    volume[mask & (volume == 3)] = 8
    check(live, root, volume, set())
    whole = volume == 3
    assert model.split_fine(live, node, 3, whole) == 9
    volume[whole] = 9
    check(live, root, volume, {3})
    assert model.split_coarse(live, node, 5, [(0, 0, 0), (0, 1, 2), (1, 1, 1), (7, 7, 7)]) == 10
    part = volume[:32]
    for y, x in ((slice(0, 32), slice(0, 32)), (slice(32, 64), slice(64, 96))):
        box = part[:, y, x]
        box[box == 5] = 10
    check(live, root, volume, {3})


def test_the_past_and_a_dry_run_show_voxels_before_an_edit(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    before = cases.state(live)
    answer = live.ok("POST", f"{node}/merge?dryrun=true", b"[3,5]")
    assert cases.state(live) == before
    assert b"labelarray.merge" in answer.body
    sequence = live.ok("GET", f"{node}/label/1_2_3").headers["x-dvid-es-seq"]
    live.ok("POST", f"{node}/merge", json_body=[3, 5])
    assert np.array_equal(Segmentation(live, root).read(SHAPE, at=sequence), volume)
    assert live.ok("GET", f"{node}/sparsevol/5?at={sequence}").status == 200
    assert live.call("GET", f"{node}/sparsevol/5").status == 404


def test_voxels_that_runs_name_twice_are_split_once(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    body = cases.body_of([(20, 30, 30, 10), (25, 30, 30, 10)])
    assert live.ok("POST", f"{node}/split/3", body).json() == {"label": 9}
    volume[30, 30, 20:35] = 9
    check(live, root, volume, set())


def test_counters_are_those_of_the_version_itself(live: Any) -> None:
    root, node = made(live, three_labels())
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 8}
    assert live.ok("GET", f"{node}/nextlabel").json() == {"nextlabel": 9}
    live.commit(root)
    child = live.new_version(root)
    below = f"/api/node/{child}/seg"
    live.ok("POST", f"{below}/merge", json_body=[3, 8])
    assert live.call("GET", f"{below}/maxlabel").status == 400
    Segmentation(live, child).post(np.full((32, 32, 32), 4, np.uint64))
    assert live.ok("GET", f"{below}/maxlabel").json() == {"maxlabel": 4}
    assert live.ok("GET", f"{below}/nextlabel").json() == {"nextlabel": 9}
    assert live.ok("POST", f"{below}/split/4", cases.body_of([(0, 0, 0, 5)])).json()["label"] == 9
    assert live.ok("GET", f"{below}/maxlabel").json() == {"maxlabel": 9}
    assert live.ok("GET", f"{node}/maxlabel").json() == {"maxlabel": 8}
    shown = live.ok("GET", f"{below}/info").json()["Extended"]
    assert sorted(shown["MaxLabel"].values()) == [8, 9]
    assert shown["MaxRepoLabel"] == 9


def test_a_write_between_preparing_and_deciding_is_not_lost(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    rewrite, between = editing.rewrite, [True]
    part = np.full((32, 32, 32), 5, np.uint64)

    async def interrupted(request: Any, *more: Any) -> Any:
        result = await rewrite(request, *more)
        if between:
            between.clear()
            writer = threading.Thread(target=lambda: Segmentation(live, root).post(part))
            writer.start()
            await request.in_thread(writer.join)
        return result

    monkeypatch.setattr(editing, "rewrite", interrupted)
    live.ok("POST", f"{node}/merge", json_body=[3, 5])
    volume[:32, :32, :32] = 5
    volume[volume == 5] = 3
    check(live, root, volume, {5})


def test_a_new_label_that_another_split_took_is_given_anew(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    rewrite, between = editing.rewrite, [True]
    other = np.zeros(SHAPE, bool)
    other[0:3, 0:3, 0:90] = True

    async def interrupted(request: Any, *more: Any) -> Any:
        result = await rewrite(request, *more)
        if between:
            between.clear()
            split = threading.Thread(target=lambda: model.split_fine(live, node, 5, other))
            split.start()
            await request.in_thread(split.join)
        return result

    monkeypatch.setattr(editing, "rewrite", interrupted)
    mask = volume == 8
    mask[:55] = False
    new = model.split_fine(live, node, 8, mask)
    volume[other] = 9
    volume[mask] = new
    assert new > 9
    check(live, root, volume, set())


def test_edits_from_many_clients_at_once_all_count(live: Any) -> None:
    volume = oracle.cells(SHAPE, 24, 5)
    root, node = made(live, volume)
    pairs = [(2 * i + 1, 2 * i + 2) for i in range(12)]
    there = set(np.unique(volume).tolist())

    def merge(target: int, label: int) -> None:
        live.ok("POST", f"{node}/merge", json_body=[target, label])

    threads = [threading.Thread(target=merge, args=pair) for pair in pairs if set(pair) <= there]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for target, label in pairs:
        if {target, label} <= there:
            volume[volume == label] = target
    check(live, root, volume, there)


BAD = [
    ("POST", "merge", b"[3]"), ("POST", "merge", b"[]"), ("POST", "merge", b"null"),
    ("POST", "merge", b"{}"), ("POST", "merge", b"[3,"), ("POST", "merge", b'[3,"5"]'),
    ("POST", "merge", b"[3,-5]"), ("POST", "merge", b"[3,0]"), ("POST", "merge", b"[0,3]"),
    ("POST", "merge", b"[3,5,3]"), ("POST", "merge", b"[3,18446744073709551616]"),
    ("GET", "merge", None), ("PUT", "merge", b"[3,5]"),
    ("POST", "split", b""), ("POST", "split/0", cases.body_of([(0, 0, 0, 1)])),
    ("POST", "split/x", cases.body_of([(0, 0, 0, 1)])),
    ("POST", "split/4242", cases.body_of([(0, 0, 0, 1)])),
    ("POST", "split/3", b""), ("POST", "split/3", b"abc"), ("POST", "split/3", cases.body_of([])),
    ("POST", "split/3", cases.body_of([(20, 20, 20, 5)], spans=2)),
    ("POST", "split/3", cases.body_of([(20, 20, 20, -5)])),
    ("POST", "split/3", cases.body_of([(0, 0, 0, 5)])),
    ("POST", "split/3", cases.body_of([(2**31 - 1, 0, 0, 5)])),
    ("POST", "split/3?splitlabel=3", cases.body_of([(20, 20, 20, 5)])),
    ("POST", "split/3?splitlabel=x", cases.body_of([(20, 20, 20, 5)])),
    ("POST", "split/3?splitlabel=18446744073709551615", cases.body_of([(20, 20, 20, 5)])),
    ("GET", "split/3", None), ("GET", "split-coarse/3", None),
    ("POST", "split-coarse/3", cases.body_of([(9, 9, 9, 5)])),
    ("POST", "split-coarse/4242", cases.body_of([(0, 0, 0, 1)])),
    ("POST", "maxlabel/9", b""), ("POST", "nextlabel/9", b""),
    ("POST", "sparsevol/3", b""), ("POST", "blocks?scale=1&downres=true", b""),
    ("POST", "blocks?compression=lz4", b""), ("POST", "blocks", b"abc"),
    ("POST", "raw/0_1_2/31_32_32/0_0_0", b""), ("POST", "raw/0_1_2/32_32_32/0_0_0", b"abc"),
    ("POST", "sync", b'{"sync": "seg"}'),
]  # fmt: skip


def test_what_is_refused_changes_nothing(live: Any) -> None:
    _, node = made(live, three_labels())
    before = cases.state(live)
    for method, path, body in BAD:
        answer = live.call(method, f"{node}/{path}", body)
        assert answer.status == 400, (method, path, answer)
        assert answer.text.strip(), (method, path)
        assert cases.state(live) == before, (method, path)


def test_runs_far_beyond_a_label_cost_nothing(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume)
    runs = [(-(2**31), y, z, 2**31 - 1) for z in (20, 21) for y in range(-500, 500)]
    runs += [(x, y, z, 2**31 - 1 - x) for z in (20, 21) for y in range(-500, 500) for x in (40,)]
    assert live.ok("POST", f"{node}/split/3", cases.body_of(runs)).json() == {"label": 9}
    part = volume[20:22, :, 40:]
    part[part == 3] = 9
    check(live, root, volume, set())
    huge = cases.body_of([(-(2**31), -5, 1, 2**31 - 1), (0, 0, 1, 2**31 - 1)])
    assert live.ok("POST", f"{node}/split-coarse/8", huge).json() == {"label": 10}


def test_without_indices_there_are_voxels_only(live: Any) -> None:
    volume = three_labels()
    root, node = made(live, volume, IndexedLabels="false", CountLabels="false")
    assert np.array_equal(Segmentation(live, root).read(SHAPE), volume)
    shown = live.ok("GET", f"{node}/info").json()["Extended"]
    assert (shown["IndexedLabels"], shown["CountLabels"]) == (False, False)
    paths = [
        "sparsevol/3",
        "sparsevol-coarse/3",
        "sparsevol-by-point/20_20_20",
        "maxlabel",
        "nextlabel",
    ]
    for path in paths:
        assert live.call("GET", f"{node}/{path}").status == 400, path
    runs = cases.body_of([(20, 20, 20, 5)])
    for path, body in (("merge", b"[3,5]"), ("split/3", runs), ("split-coarse/3", runs)):
        assert live.call("POST", f"{node}/{path}", body).status == 400, path


def test_sparse_volumes_within_bounds_and_sizes_are_those_of_the_type(live: Any) -> None:
    _, node = made(live, three_labels())
    size = live.ok("GET", f"{node}/sparsevol-size/3").json()
    assert size == {"numblocks": 12, "minvoxel": [0, 0, 0], "maxvoxel": [95, 63, 63]}
    assert live.ok("GET", f"{node}/sparsevol-size/99").json()["numblocks"] == 0
    assert live.call("GET", f"{node}/sparsevol/3?minx=85").status == 404
    assert live.call("GET", f"{node}/sparsevol-coarse/3?minz=400").status == 404
    assert live.call("GET", f"{node}/sparsevol/3?minx=70&format=srles").status == 200
    for path in ("supervoxels/3", "size/3", "index/3", "mapping", "existing-labels", "mutations"):
        assert live.call("GET", f"{node}/{path}").status == 400, path


def test_branches_that_edit_one_label_in_other_blocks_can_be_merged(
    live: Any, tmp_path: Path
) -> None:
    volume = three_labels()
    root, _ = made(live, volume)
    live.commit(root)
    branches = []
    for name, label in (("a", 8), ("b", 5)):
        body = {"branch": name}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        live.ok("POST", f"/api/node/{uuid}/seg/merge", json_body=[3, label])
        live.commit(uuid)
        branches.append(uuid)
    body = {"mergeType": "conflict-free", "parents": branches, "note": "both"}
    answer = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()
    assert "conflicts" not in answer
    volume[np.isin(volume, (5, 8))] = 3
    both, node = answer["child"], f"/api/node/{answer['child']}/seg"
    check(live, both, volume, {5, 8})
    coarse = live.ok("GET", f"{node}/sparsevols-coarse/1/9").body
    assert coarse[:8] == (3).to_bytes(8, "little")
    assert coarse[12:] == live.ok("GET", f"{node}/sparsevol-coarse/3").body[12:]
    mask = volume == 3
    mask[:, :, :50] = False
    new = model.split_fine(live, node, 3, mask)
    volume[mask] = new
    check(live, both, volume, {5, 8})
    model.check_rebuilt(live, tmp_path)


def test_coarse_volumes_of_many_labels_come_in_their_order(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAGE_LABELS", 3)
    volume = oracle.cells(SHAPE, 12, 11)
    _, node = made(live, volume)
    live.ok("POST", f"{node}/merge", json_body=[4, 5, 6])
    volume[np.isin(volume, (5, 6))] = 4
    data = live.ok("GET", f"{node}/sparsevols-coarse/2/11").body
    labels = []
    while data:
        labels.append(int.from_bytes(data[:8], "little"))
        size = 12 + 16 * int.from_bytes(data[8:12], "little")
        runs = live.ok("GET", f"{node}/sparsevol-coarse/{labels[-1]}").body[12:]
        assert data[12:size] == runs
        data = data[size:]
    assert labels == [n for n in sorted(oracle.sizes(volume)) if 2 <= n <= 11]
