"""labelblk: voxels in all forms, and lower scales as instances that listen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import pytest
from PIL import Image

from dvid_es.datatypes.labelblk import coarser, endpoints
from dvid_es.datatypes.labelmap.voxels import downres
from tests.datatypes.labelarray import label_model as model
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SHAPE = (64, 96, 96)


def made(live: Any, *names: str, **config: str) -> str:
    """Root of labelblks, each listening to the one before."""
    root: str = live.new_repo()
    for name in names:
        live.new_instance(root, "labelblk", name, BlockSize="32,32,32", **config)
    for finer, lower in pairwise(names):
        live.ok("POST", f"/api/node/{root}/{lower}/sync", json_body={"sync": finer})
    return root


@pytest.mark.parametrize("compression", ["", "lz4", "gzip", "google", "googlegzip"])
def test_voxels_are_read_as_they_were_written(live: Any, compression: str) -> None:
    volume = oracle.cells(SHAPE, 20, 1)
    volume[:, :30] = 0
    seen = Segmentation(live, made(live, "seg"), "seg")
    seen.post(volume, (-32, 0, 32), compression=compression.replace("google", "gzip")[:4])
    got = seen.read((64, 64, 64), (-40, 8, 40), compression, scale="3", supervoxels="true")
    assert np.array_equal(got, oracle.window(volume, (8, 8, -8), (64, 64, 64)))


def test_blocks_slices_and_points_say_the_same(live: Any) -> None:
    volume = oracle.cells(SHAPE, 20, 2)
    root = made(live, "seg")
    seen, node = Segmentation(live, root, "seg"), f"/api/node/{root}/seg"
    seen.post(volume)
    for query, raw in (
        ("", False),
        ("?compression=lz4", False),
        ("?compression=uncompressed", True),
    ):
        blocks = oracle.split(live.ok("GET", f"{node}/blocks/64_32_64/32_64_0{query}").body)
        assert len(blocks) == 4
        for at, data in blocks:
            data = data if raw else lz4.block.decompress(data, uncompressed_size=8 * 32**3)
            part = np.frombuffer(data, "<u8").reshape(32, 32, 32)
            assert np.array_equal(part, oracle.part(volume, at, 32))
    points = [[1, 2, 3], [95, 95, 63], [96, 0, 0], [-1, 0, 0]]
    inside = [int(volume[z, y, x]) for x, y, z in points[:2]]
    assert seen.labels(points, scale="2") == [*inside, 0, 0]
    assert live.ok("GET", f"{node}/label/1_2_3?scale=9").json() == {"Label": inside[0]}
    picture = live.ok("GET", f"{node}/raw/xz/50_40/11_12_13").body
    slices = Segmentation(live, root, "seg").read((40, 1, 50), (11, 12, 13))
    assert picture.startswith(b"\x89PNG")
    assert np.array_equal(slices[:, 0], volume[13:53, 12, 11:61])
    assert (
        live.ok("GET", f"{node}/pseudocolor/xy/20_20/0_0_0").headers["content-type"] == "image/png"
    )


def test_a_write_replaces_what_was_there_at_its_version_only(live: Any) -> None:
    volume = oracle.cells((64, 64, 64), 20, 3)
    root = made(live, "seg")
    Segmentation(live, root, "seg").post(volume)
    live.commit(root)
    child = live.new_version(root)
    for mutate in ("true", "false"):
        part = oracle.cells((32, 32, 32), 3, len(mutate), first=500)
        Segmentation(live, child, "seg").post(part, (32, 0, 32), mutate=mutate)
        below = volume.copy()
        below[32:, :32, 32:] = part
        assert np.array_equal(Segmentation(live, child, "seg").read((64, 64, 64)), below)
    assert np.array_equal(Segmentation(live, root, "seg").read((64, 64, 64)), volume)


def test_halves_are_those_that_numpy_votes_for() -> None:
    rng = np.random.default_rng(0)
    for most in (1, 2, 3, 9):
        volume = rng.integers(0, most + 1, (16, 24, 32)).astype(np.uint64)
        assert np.array_equal(coarser.halve(volume), model.halved(volume, background=True))
    group = np.zeros((2, 2, 2), np.uint64)
    group[0, 0] = 2**64 - 1
    group[1, 1] = 7
    assert coarser.halve(group).tolist() == [[[0]]]
    group[0, 1] = 2**64 - 1
    assert coarser.halve(group).tolist() == [[[2**64 - 1]]]


@pytest.mark.parametrize("ahead", [True, False])
def test_lower_scales_follow_writes_over_versions(
    live: Any, tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ahead:
        monkeypatch.setattr(downres.MEMO, "take", lambda key: None)
    rng = np.random.default_rng(7)
    names = ("labels", "labels_1", "labels_2")
    root = made(live, *names)
    volume = oracle.cells((128, 128, 128), 25, 4)
    volume[volume % 5 == 0] = 0
    Segmentation(live, root, "labels").post(volume)
    volumes = {root: volume}
    for _ in range(2):
        parent = list(volumes)[-1]
        live.commit(parent)
        child = live.new_version(parent)
        volume = volumes[parent].copy()
        for _ in range(4):
            z, y, x = (int(rng.integers(4)) * 32 for _ in range(3))
            part = volume[z : z + 32, y : y + 32, x : x + 32]
            part[:] = rng.integers(0, 4, part.shape) if rng.random() < 0.5 else 0
            Segmentation(live, child, "labels").post(part, (x, y, z))
        volumes[child] = volume
    for uuid, expected in volumes.items():
        for name in names:
            got = Segmentation(live, uuid, name).read(expected.shape)
            assert np.array_equal(got, expected), name
            expected = model.halved(expected, background=True)
    model.check_rebuilt(live, tmp_path)


def test_coarser_blocks_are_made_once_ahead_of_their_event(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_blocks: list[int] = []
    parent = coarser.parent

    def counted(*parts: Any) -> bytes:
        made_blocks.append(1)
        return parent(*parts)

    monkeypatch.setattr(coarser, "parent", counted)
    root = made(live, "labels", "labels_1", "labels_2")
    live.new_instance(root, "labelvol", "vol")
    for name, to in (("labels", "vol"), ("vol", "labels")):
        live.ok("POST", f"/api/node/{root}/{name}/sync", json_body={"sync": to})
    volume = oracle.cells((64, 64, 128), 4, 9)
    Segmentation(live, root, "labels").post(volume)
    assert len(made_blocks) == 2 + 1
    made_blocks.clear()
    live.ok("POST", f"/api/node/{root}/vol/merge", json_body=[1, 2])
    whole = np.unique(np.argwhere(volume == 2)[:, 2] // 64)
    assert len(made_blocks) == len(whole) + 1
    volume[volume == 2] = 1
    half = model.halved(volume, background=True)
    assert np.array_equal(Segmentation(live, root, "labels_1").read(half.shape), half)


def test_halves_made_for_another_type_are_never_taken(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(endpoints, "halve_ahead", nothing)
    root = made(live, "labels", "labels_1")
    live.new_instance(root, "labelarray", "array", BlockSize="32,32,32", MaxDownresLevel="1")
    volume = np.random.default_rng(3).integers(0, 3, (64, 64, 64)).astype(np.uint64)
    Segmentation(live, root, "array").post(volume, dryrun="true")  # it leaves its halves unused
    Segmentation(live, root, "labels").post(volume)
    half = model.halved(volume, background=True)
    assert np.array_equal(Segmentation(live, root, "labels_1").read(half.shape), half)


def test_circles_of_syncs_end(live: Any) -> None:
    root = made(live, "a", "b")
    live.ok("POST", f"/api/node/{root}/a/sync", json_body={"sync": "b"})
    volume = oracle.cells((64, 64, 64), 9, 5)
    Segmentation(live, root, "a").post(volume)
    assert np.array_equal(Segmentation(live, root, "a").read((64, 64, 64)), volume)
    half = model.halved(volume, background=True)
    assert np.array_equal(Segmentation(live, root, "b").read((32, 32, 32)), half)


def test_nobody_follows_before_it_listens_nor_after_it_stopped(live: Any) -> None:
    root = made(live, "a")
    live.new_instance(root, "labelblk", "b", BlockSize="32,32,32")
    node = f"/api/node/{root}/b"
    volume = oracle.cells((64, 64, 64), 9, 6)
    Segmentation(live, root, "a").post(volume)
    seen = Segmentation(live, root, "b")
    assert not seen.read((32, 32, 32)).any()
    live.ok("POST", f"{node}/sync", json_body={"sync": "a"})
    assert not seen.read((32, 32, 32)).any()
    Segmentation(live, root, "a").post(volume[:32, :32, :32])
    half = np.zeros((32, 32, 32), np.uint64)
    half[:16, :16, :16] = model.halved(volume[:32, :32, :32], background=True)
    assert np.array_equal(seen.read((32, 32, 32)), half)
    live.ok("POST", f"{node}/sync?replace=true", json_body={"sync": ""})
    Segmentation(live, root, "a").post(volume)
    assert np.array_equal(seen.read((32, 32, 32)), half)


BAD = [
    ("POST", "raw/0_1_2/32_32_32/1_0_0", bytes(8 * 32**3)),
    ("POST", "raw/0_1_2/31_32_32/0_0_0", b""), ("POST", "raw/0_1_2/32_32_32/0_0_0", b"abc"),
    ("POST", "raw/xy/32_32/0_0_0", b""), ("POST", "raw/0_1_2/32_32_32", b""),
    ("POST", "raw/0_1_2/32_32_32/0_0_0?compression=google", b"abc"),
    ("POST", "raw/0_1_2/32_32_32/0_0_0?compression=lz4", b"abc"),
    ("POST", "raw/0_1_2/32_32_32/0_0_0?roi=none", bytes(8 * 32**3)),
    ("POST", "isotropic/0_1_2/32_32_32/0_0_0", bytes(8 * 32**3)),
    ("POST", "blocks/32_32_32/0_0_0", b""), ("POST", "pseudocolor/xy/9_9/0_0_0", b""),
    ("GET", "blocks/32_32_32/0_0_0?compression=gzip", None), ("GET", "blocks/32_32_32/1_0_0", None),
    ("GET", "blocks/32_32_32/0_0_0?compression=blocks", None), ("GET", "specificblocks", None),
    ("GET", "sparsevol/1", None), ("GET", "maxlabel", None), ("POST", "merge", b"[1,2]"),
    ("POST", "split/1", cases.body_of([(0, 0, 0, 1)])), ("POST", "labels", b"[[1,2,3]]"),
    ("GET", "label/x", None), ("GET", "raw/0_1_2/0_1_1/0_0_0", None),
    ("POST", "sync", b'{"sync": "array"}'), ("POST", "sync", b'{"sync": "large"}'),
    ("POST", "sync", b'{"sync": "seg"}'), ("POST", "sync", b'{"sync": "none"}'), ("POST", "sync", b"{}"),
]  # fmt: skip


def test_what_is_refused_changes_nothing(live: Any) -> None:
    root = made(live, "seg")
    live.new_instance(root, "labelarray", "array", BlockSize="32,32,32")
    live.new_instance(root, "labelblk", "large", BlockSize="64,64,64")
    node = f"/api/node/{root}/seg"
    before = cases.state(live)
    for method, path, body in BAD:
        answer = live.call(method, f"{node}/{path}", body)
        assert answer.status == 400, (method, path, answer)
        assert answer.text.strip(), (method, path)
        assert cases.state(live) == before, (method, path)
    for config in ({"BlockSize": "20,20,20"}, {"BlockSize": "x"}, {"VoxelSize": "0,1,1"}):
        config = {"typename": "labelblk", "dataname": "bad", **config}
        answer = live.call("POST", f"/api/repo/{root}/instance", json_body=config)
        assert answer.status == 400
    live.commit(root)
    answer = live.call("POST", f"{node}/raw/0_1_2/32_32_32/0_0_0", bytes(8 * 32**3))
    assert answer.status == 400


def test_settings_show_in_info_and_metadata(live: Any) -> None:
    root = made(live, "seg", VoxelSize="4,5,6", VoxelUnits="um,um,um", MaxDownresLevel="3")
    node = f"/api/node/{root}/seg"
    Segmentation(live, root, "seg").post(np.ones((32, 64, 32), np.uint64), (32, 0, -32))
    shown = live.ok("GET", f"{node}/info").json()
    assert shown["Base"]["Compression"] == "LZ4 compression, level -1"
    assert "Extents" not in shown
    extended = shown["Extended"]
    assert (extended["VoxelSize"], extended["BlockSize"]) == ([4, 5, 6], [32, 32, 32])
    assert (extended["MinPoint"], extended["MaxPoint"]) == ([32, 0, -32], [63, 63, -1])
    assert "MaxDownresLevel" not in extended
    live.ok("POST", f"{node}/resolution", json_body=[1, 2, 3])
    axes = live.ok("GET", f"{node}/metadata").json()["Axes"]
    assert [axis["Resolution"] for axis in axes] == [1, 2, 3]


def test_a_picture_carries_the_labels(live: Any, tmp_path: Path) -> None:
    volume = oracle.cells((32, 32, 32), 5, 8)
    root = made(live, "seg")
    Segmentation(live, root, "seg").post(volume)
    path = tmp_path / "slice.bmp"
    path.write_bytes(live.ok("GET", f"/api/node/{root}/seg/raw/xy/32_32/0_0_5/bmp").body)
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture)[..., 0], volume[5].astype(np.uint8))
