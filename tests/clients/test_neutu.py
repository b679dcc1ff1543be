"""NeuTu: bodies by point, masks of planes and boxes, labels under strokes, splits by runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.settings import Settings
from tests.clients.wire import (
    Session,
    Volume,
    block_counts,
    boxed,
    mask_of_runs,
    rle_payload,
    underscored,
)
from tests.datatypes.labelmap import voxel_oracle as oracle

HEADERS = {
    "User-Agent": "Mozilla/5.0",
    "Connection": "Keep-Alive",
    "Accept-Encoding": "gzip, deflate",
}
JSON = {"Content-Type": "application/json"}
SHAPE = (128, 64, 128)


@pytest.fixture(scope="module")
def volume() -> Volume:
    found = oracle.cells(SHAPE, 16, seed=21)
    found[:9] = 0
    return found


@pytest.fixture
def served(run_server: Any, tmp_path: Path) -> Iterator[Any]:
    found = Settings(data=tmp_path / "served", admin_token="secret", allow_split=True)
    with run_server(found) as live:
        yield live


@pytest.fixture
def dvid(served: Any) -> Iterator[Session]:
    with Session(served.port, HEADERS, u="proofreader", app="NeuTu") as session:
        yield session


@pytest.fixture
def node(served: Any, dvid: Session, volume: Volume) -> str:
    node = served.new_instance(
        served.new_repo(), "labelmap", "segmentation", BlockSize="64,64,64", MaxDownresLevel="1"
    )
    dvid.ok("POST", f"{node}/raw/0_1_2/{boxed(((0, 0, 0), SHAPE))}", volume.tobytes())
    dvid.json("POST", f"{node}/merge", [2, 5, 7])
    return str(node)


BODY = [2, 5, 7]


def test_a_click_on_a_voxel_shows_its_body(dvid: Session, node: str, volume: Volume) -> None:
    z, y, x = np.argwhere(volume == 5)[100].tolist()
    at = underscored((x, y, z))
    truth = np.isin(volume, BODY)
    assert dvid.ok("GET", f"{node}/label/{at}").json() == {"Label": 2}
    assert dvid.ok("GET", f"{node}/label/{at}?supervoxels=true").json() == {"Label": 5}
    content = dvid.ok("GET", f"{node}/sparsevol-by-point/{at}").content
    assert np.array_equal(mask_of_runs(content, SHAPE), truth)
    assert dvid.send("GET", f"{node}/sparsevol-by-point/0_0_0").status == 400
    cells = np.array(list(block_counts(volume, BODY)))
    size = dvid.ok("GET", f"{node}/sparsevol-size/2").json()
    assert size == {
        "voxels": int(truth.sum()), "numblocks": len(cells),
        "minvoxel": (cells.min(axis=0) * 64)[::-1].tolist(),
        "maxvoxel": (cells.max(axis=0) * 64 + 63)[::-1].tolist(),
    }  # fmt: skip
    assert dvid.send("HEAD", f"{node}/sparsevol/2").status == 200
    assert dvid.send("HEAD", f"{node}/sparsevol/5").status == 204
    assert dvid.send("HEAD", f"{node}/sparsevol/2?minz=0&maxz=500").status == 200
    assert dvid.send("GET", f"{node}/sparsevol/5").status == 404


def test_masks_of_planes_boxes_and_scales(dvid: Session, node: str, volume: Volume) -> None:
    truth = np.isin(volume, BODY)
    plane = np.zeros(SHAPE, bool)
    z = int(np.argwhere(truth)[0, 0]) + 3
    plane[z] = truth[z]
    content = dvid.ok("GET", f"{node}/sparsevol/2?minz={z}&maxz={z}&exact=true").content
    assert np.array_equal(mask_of_runs(content, SHAPE), plane)
    box = np.zeros(SHAPE, bool)
    box[20:81, 3:41, 10:100] = truth[20:81, 3:41, 10:100]
    query = "minx=10&maxx=99&miny=3&maxy=40&minz=20&maxz=80"
    runs = np.frombuffer(dvid.ok("GET", f"{node}/sparsevol/2?format=srles&{query}").content, "<i4")
    seen = np.zeros(SHAPE, bool)
    for x, y, k, length in runs.reshape(-1, 4).tolist():
        seen[k, y, x : x + length] = True
    assert np.array_equal(seen, box)
    half = np.isin(oracle.halved(volume), BODY)
    content = dvid.ok("GET", f"{node}/sparsevol/2?scale=1&exact=false").content
    assert np.array_equal(mask_of_runs(content, half.shape), half)
    cells = np.zeros([side // 64 for side in SHAPE], bool)
    cells[tuple(np.array(list(block_counts(volume, BODY))).T)] = True
    content = dvid.ok("GET", f"{node}/sparsevol-coarse/2").content
    assert np.array_equal(mask_of_runs(content, cells.shape), cells)
    empty = dvid.ok("GET", f"{node}/sparsevol-coarse/2?minz=6400").content
    assert empty == bytes([0, 3, 0, 0]) + bytes(8)


def test_labels_under_a_stroke_and_a_slice(dvid: Session, node: str, volume: Volume) -> None:
    points = np.random.default_rng(4).integers(-3, np.add(SHAPE, 3), (300, 3))
    inside = ((points >= 0) & (points < SHAPE)).all(axis=1)
    svs = np.where(inside, volume[tuple(np.clip(points, 0, np.subtract(SHAPE, 1)).T)], 0)
    bodies = np.where(np.isin(svs, BODY), 2, svs)
    asked = points[:, ::-1].tolist()
    assert dvid.json("GET", f"{node}/labels", asked).json() == bodies.tolist()
    assert dvid.json("GET", f"{node}/labels?supervoxels=true", asked).json() == svs.tolist()
    assert dvid.json("GET", f"{node}/mapping", [5, 7, 2, 3, 99]).json() == [2, 2, 2, 3, 0]
    content = dvid.ok("GET", f"{node}/raw/0_1_2/128_64_1/0_0_77?compression=lz4").content
    shown = oracle.unpacked(content, "lz4", (1, 64, 128))[0]
    assert np.array_equal(shown, np.where(np.isin(volume[77], BODY), 2, volume[77]))


def test_splits_of_a_body_and_of_a_supervoxel_by_runs(
    dvid: Session, node: str, volume: Volume
) -> None:
    model = volume.copy()
    seed = np.isin(volume, BODY) & (
        np.indices(SHAPE)[2] < int(np.argwhere(volume == 5)[:, 2].mean())
    )
    assert 0 < seed.sum() < np.isin(volume, BODY).sum()
    new = dvid.ok("POST", f"{node}/split/2", rle_payload(seed)).json()["label"]
    content = dvid.ok("GET", f"{node}/sparsevol/{new}").content
    assert np.array_equal(mask_of_runs(content, SHAPE), seed)
    content = dvid.ok("GET", f"{node}/sparsevol/2").content
    assert np.array_equal(mask_of_runs(content, SHAPE), np.isin(volume, BODY) & ~seed)
    records = dvid.ok("GET", f"{node}/mutations").json()
    assert records[-1]["Target"] == 2
    assert records[-1]["NewLabel"] == new
    for sv, made in records[-1]["SVSplits"].items():
        model[(volume == int(sv)) & seed] = made["Split"]
        model[(volume == int(sv)) & ~seed] = made["Remain"]
    part = (volume == 9) & (np.indices(SHAPE)[0] % 3 == 0)
    made = dvid.ok("POST", f"{node}/split-supervoxel/9?downres=true", rle_payload(part)).json()
    model[volume == 9] = made["RemainSupervoxel"]
    model[part] = made["SplitSupervoxel"]
    path = f"{node}/raw/0_1_2/{boxed(((0, 0, 0), SHAPE))}?compression=lz4&supervoxels=true"
    seen = oracle.unpacked(dvid.ok("GET", path).content, "lz4", SHAPE)
    assert np.array_equal(seen, model)
    refused = [
        ("split/2", rle_payload(volume == 3)), ("split/2", rle_payload(np.zeros(SHAPE, bool))),
        ("split/2", b"\x01" + rle_payload(seed)[1:]), ("split-supervoxel/3", rle_payload(volume == 3)),
    ]  # fmt: skip
    for what, body in refused:
        assert dvid.send("POST", f"{node}/{what}", body).status == 400
    assert np.array_equal(oracle.unpacked(dvid.ok("GET", path).content, "lz4", SHAPE), model)
    left = dvid.json("POST", f"{node}/cleave/{new}", [int(model[seed].max())]).json()
    truth = model == model[seed].max()
    content = dvid.ok("GET", f"{node}/sparsevol/{left['CleavedLabel']}").content
    assert np.array_equal(mask_of_runs(content, SHAPE), truth)
    lastmod = dvid.ok("GET", f"{node}/lastmod/{left['CleavedLabel']}").json()
    assert (lastmod["last mod user"], lastmod["last mod app"]) == ("proofreader", "NeuTu")
