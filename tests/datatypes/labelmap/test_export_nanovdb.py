"""NanoVDB grids against numpy, read as the library reads them, and against the bytes of a real DVID."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.export import bodygrid
from dvid_es.settings import Settings
from tests.datatypes.labelmap.nanovdb_reader import read
from tests.datatypes.labelmap.voxel_oracle import Segmentation, cells

BODY = [1, 2, 5]


@pytest.fixture(scope="module")
def still(run_server: Any, tmp_path_factory: Any) -> Iterator[Segmentation]:
    """A segmentation that no test changes, with its server."""
    with run_server(Settings(data=tmp_path_factory.mktemp("still") / "data")) as live:
        yield made(live, 32, scattered((32, 32, 64), 4), (0, 0, 0))


def scattered(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Small boxes of several labels all over a volume of label 9; 1, 2 and 5 become one body."""
    random = np.random.default_rng(seed)
    volume = np.full(shape, 9, np.uint64)
    for label in [1, 2, 3, 4, 5] * 30:
        z, y, x = random.integers(0, shape)
        c, b, a = random.integers(1, 9, 3)
        volume[z : z + c, y : y + b, x : x + a] = label
    return volume


def expected(mask: np.ndarray, offset_xyz: tuple[int, int, int] = (0, 0, 0)) -> set[Any]:
    z, y, x = np.nonzero(mask)
    points = np.stack([x, y, z], axis=1) + np.array(offset_xyz)
    return set(map(tuple, points.tolist()))


def made(live: Any, side: int, volume: np.ndarray, offset: tuple[int, int, int]) -> Segmentation:
    root = live.new_repo()
    live.new_instance(
        root, "labelmap", "seg", BlockSize=f"{side},{side},{side}", VoxelSize="8,8,40",
        MaxDownresLevel="1",
    )  # fmt: skip
    seg = Segmentation(live, root)
    seg.post(volume, offset)
    live.ok("POST", f"{seg.node}/merge", json_body=BODY)
    return seg


@pytest.mark.parametrize(
    ("side", "offset"),
    [(32, (-32, -96, 4064)), (48, (-48, 96, 4032)), (64, (64, 0, -64)), (144, (-144, 0, 144))],
)
def test_the_grid_of_a_body_holds_its_voxels_and_numbers_them(
    live: Any, side: int, offset: tuple[int, int, int]
) -> None:
    shape = (side, 2 * side, 2 * side)
    volume = scattered(shape, side)
    seg = made(live, side, volume, offset)
    answer = live.ok("GET", f"{seg.node}/fvdb/1")
    grid = read(answer.body)
    wanted = expected(np.isin(volume, BODY), offset)
    assert set(grid.voxels) == wanted
    assert sorted(grid.voxels.values()) == list(range(1, len(wanted) + 1))
    assert grid.values == len(wanted) + 1
    points = np.array(list(wanted))
    low, high = points.min(axis=0), points.max(axis=0)
    assert grid.box == (*low, *high)
    assert grid.world == (*(low * [8, 8, 40]), *((high + 1) * [8, 8, 40]))
    assert (grid.name, grid.voxel_size) == ("label_1", (8, 8, 40))
    assert answer.headers["content-disposition"] == 'attachment; filename="label_1.nvdb"'
    assert answer.headers["content-length"] == str(len(answer.body))


def test_supervoxels_scales_and_names(live: Any) -> None:
    volume = scattered((64, 64, 128), 4)
    seg = made(live, 32, volume, (0, 0, 0))
    one = read(live.ok("GET", f"{seg.node}/fvdb/2", supervoxels="true", name="two").body)
    assert set(one.voxels) == expected(volume == 2)
    assert one.name == "two"
    half = read(live.ok("GET", f"{seg.node}/fvdb/1", scale=1).body)
    low = seg.read((32, 32, 64), scale=1)
    assert set(half.voxels) == expected(low == 1)
    assert half.voxel_size == (16, 16, 80)


def test_dvids_layout_holds_the_same_voxels_in_its_own_order(live: Any) -> None:
    volume = scattered((64, 128, 192), 4)
    seg = made(live, 64, volume, (-64, 0, 64))
    grid = read(live.ok("GET", f"{seg.node}/fvdb/1", layout="dvid").body, library=False)
    assert set(grid.voxels) == expected(np.isin(volume, BODY), (-64, 0, 64))
    assert sorted(grid.voxels.values()) == list(range(len(grid.voxels)))


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ("fvdb/1", "11e725d493dec459872f6fb3da3d2110"),
        ("fvdb/1?scale=1", "c57d5f508b8dee5a3d9ee0c4b61e9aaf"),
        ("fvdb/99?name=ball", "e9a5b0e642bfe997b5739d4205a52969"),
        ("fvdb/3?supervoxels=true", "a686ea6e8c435a70e267c942a52c4181"),
        ("fvdb/2", "577e6213ecc34e847e586f5344541cc3"),
    ],
)
def test_dvids_layout_is_what_a_real_dvid_answered(live: Any, path: str, digest: str) -> None:
    # Recorded from DVID 3400c2cb with these voxels.
    z, y, x = np.indices((64, 128, 192))
    volume = (1 + x // 24 % 3 + 3 * (y // 20 % 2) + 6 * (z // 31 % 2)).astype(np.uint64)
    volume[(z - 30) ** 2 + (y - 70) ** 2 + (x - 100) ** 2 < 500] = 99
    root = live.new_repo()
    live.new_instance(
        root, "labelmap", "seg", BlockSize="64,64,64", VoxelSize="8,8,40", MaxDownresLevel="2"
    )
    seg = Segmentation(live, root)
    seg.post(volume, (64, 0, 128))
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 3, 5])
    answer = live.ok("GET", f"{seg.node}/{path}", layout="dvid")
    assert hashlib.sha256(answer.body).hexdigest()[:32] == digest


def test_the_job_writes_the_file_that_the_answer_has(live: Any) -> None:
    volume = scattered((64, 64, 128), 4)
    seg = made(live, 32, volume, (0, 0, 0))
    job = live.call("POST", f"{seg.node}/export/nanovdb", json_body={"label": 1})
    assert job.status == 202
    ended = live.ok("GET", job.headers["location"], wait=60).json()
    assert ended["state"] == "done", ended
    assert ended["done"] == ended["total"] > 0
    file = Path(ended["result"]["file"])
    assert file.read_bytes() == live.ok("GET", f"{seg.node}/fvdb/1").body
    assert sorted(path.name for path in file.parent.iterdir()) == ["export.json", "label_1.nvdb"]
    assert ended["result"]["voxels"] == int(np.isin(volume, BODY).sum())


def test_a_grid_that_is_too_large_for_an_answer_is_refused_and_written_by_the_job(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seg = made(live, 32, scattered((64, 64, 128), 4), (0, 0, 0))
    monkeypatch.setattr(bodygrid, "ANSWER_BYTES_MAX", 960)
    refused = live.call("GET", f"{seg.node}/fvdb/1")
    assert refused.status == 400
    assert "export/nanovdb" in refused.text
    job = live.call("POST", f"{seg.node}/export/nanovdb", json_body={"label": 1})
    assert live.ok("GET", job.headers["location"], wait=60).json()["state"] == "done"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("fvdb", 400), ("fvdb/0", 400), ("fvdb/x", 400), ("fvdb/-1", 400), ("fvdb/12345", 404),
        ("fvdb/2", 404), ("fvdb/1?scale=x", 400), ("fvdb/1?scale=256", 400), ("fvdb/1?scale=2", 400),
        ("fvdb/1?layout=other", 400), ("fvdb/1?name=a%22b", 400), ("fvdb/1?name=a%0Ab", 400),
        ("fvdb/1?name=" + "x" * 256, 400), ("fvdb/18446744073709551616", 400),
        ("fvdb/12345?supervoxels=true", 404),
    ],
)  # fmt: skip
def test_grids_that_cannot_be(still: Segmentation, path: str, status: int) -> None:
    assert still.live.call("GET", f"{still.node}/{path}").status == status


def test_an_instance_without_indices_has_no_bodies_to_export(live: Any) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "labelmap", "flat", IndexedLabels="false", BlockSize="32,32,32")
    Segmentation(live, root, "flat").post(cells((32, 32, 32), 3, 1))
    for method, path, body in (
        ("GET", "fvdb/1", None), ("POST", "export/nanovdb", {"label": 1}),
    ):  # fmt: skip
        answer = live.call(method, f"{node}/{path}", json_body=body)
        assert answer.status == 400
        assert "not label indexed" in answer.text
