"""Regions of interest: reads are 0 outside, writes leave the outside alone. All types with label voxels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dvid_es.datatypes.labelblk import endpoints as endpoints_labelblk
from dvid_es.datatypes.labelmap.voxels import ingest, prepare
from tests.datatypes.labelarray.label_model import check_rebuilt
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SIDE = 32
SHAPE = (96, 64, 96)
TYPES = ("labelmap", "labelarray", "labelblk")
SPANS = [[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 2], [1, 1, 2, 2], [2, 0, 0, 0], [7, 7, 0, 9]]

Spans = list[list[int]]


def inside(spans: Spans, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for z, y, x0, x1 in spans:
        z, y, start, stop = (SIDE * n for n in (z, y, x0, x1 + 1))
        mask[z : z + SIDE, y : y + SIDE, start:stop] = True
    return mask


def made(live: Any, typename: str, volume: np.ndarray | None = None, **config: str) -> str:
    """Root of a segmentation "seg" and regions: "area", "empty", and "other" with other blocks."""
    root: str = live.new_repo()
    config = {"BlockSize": "32,32,32", "MaxDownresLevel": "1", **config}
    live.new_instance(root, typename, "seg", **config)
    for name, sides in (("area", "32,32,32"), ("empty", "32,32,32"), ("other", "16,16,16")):
        live.new_instance(root, "roi", name, BlockSize=sides)
    put(live, root, SPANS)
    if volume is not None:
        Segmentation(live, root).post(volume)
    return root


def put(live: Any, uuid: str, spans: Spans, name: str = "area") -> int:
    answer = live.ok("POST", f"/api/node/{uuid}/{name}/roi", json_body=spans)
    return int(answer.headers["x-dvid-es-seq"])


@pytest.mark.parametrize("typename", TYPES)
def test_every_form_of_a_read_is_zero_outside(live: Any, typename: str, tmp_path: Path) -> None:
    volume = oracle.cells(SHAPE, 15, 5)
    root = made(live, typename, volume)
    seg = Segmentation(live, root)
    masked = np.where(inside(SPANS), volume, 0)
    for compression in ("", "lz4", "gzip", "google", "googlegzip"):
        got = seg.read(SHAPE, compression=compression, roi="area")
        assert np.array_equal(got, masked), compression
    for place in ((40, 5, 20), (0, 0, 0), (64, 32, 64), (63, 31, 10)):
        z, y, x = place
        part = masked[z : z + 24, y : y + 32, x : x + 32]
        got = seg.read(part.shape, (x, y, z), roi="area")
        assert np.array_equal(got, part), place
    assert not seg.read(SHAPE, roi="empty").any()
    assert np.array_equal(seg.read(SHAPE, roi=""), volume)
    assert not seg.read((32, 32, 32), (3200, 0, 0), roi="area").any()
    for plane, size, offset, part in (
        ("xy", "96_64", "0_0_40", masked[40]),
        ("xz", "96_96", "0_40_0", masked[:, 40]),
        ("yz", "64_96", "40_0_0", masked[:, :, 40]),
    ):
        for word in ("raw", "isotropic"):
            path = f"{seg.node}/{word}/{plane}/{size}/{offset}/bmp?roi=area"
            (tmp_path / "slice.bmp").write_bytes(live.ok("GET", path).body)
            with Image.open(tmp_path / "slice.bmp") as image:
                assert np.array_equal(np.asarray(image)[..., 0], part & 0xFF), (plane, word)
    assert live.ok("GET", f"{seg.node}/pseudocolor/xy/96_64/0_0_40?roi=area").body


@pytest.mark.parametrize("typename", TYPES)
def test_the_region_is_the_one_of_the_version_and_of_the_moment(live: Any, typename: str) -> None:
    volume = oracle.cells(SHAPE, 15, 6)
    root = made(live, typename, volume)
    at = put(live, root, SPANS[:1])
    put(live, root, SPANS[:2])
    live.commit(root)
    child = live.new_version(root)
    put(live, child, SPANS[3:4])
    for uuid, spans, query in (
        (root, SPANS[:2], {}), (child, SPANS[3:4], {}), (root, SPANS[:1], {"at": str(at)}),
    ):  # fmt: skip
        got = Segmentation(live, uuid).read(SHAPE, roi="area", **query)
        assert np.array_equal(got, np.where(inside(spans), volume, 0))


@pytest.mark.parametrize("typename", TYPES)
def test_a_write_changes_only_blocks_inside(live: Any, typename: str, tmp_path: Path) -> None:
    first, second = oracle.cells(SHAPE, 15, 7), oracle.cells(SHAPE, 15, 8, first=101)
    root = made(live, typename, first)
    live.commit(root)
    child = live.new_version(root)
    seg = Segmentation(live, child)
    seg.post(second, roi="area", mutate="true")
    expected = np.where(inside(SPANS), second, first)
    assert np.array_equal(seg.read(SHAPE), expected)
    assert np.array_equal(Segmentation(live, root).read(SHAPE), first)
    if typename == "labelmap":
        labels = [*range(1, 16), *range(101, 116)]
        sizes = oracle.sizes(expected)
        got = live.ok("GET", f"{seg.node}/sizes", json_body=labels).json()
        assert got == [sizes.get(label, 0) for label in labels]
    if typename != "labelblk":
        lower = seg.read(tuple(side // 2 for side in SHAPE), scale="1")  # type: ignore[arg-type]
        whole = inside(SPANS)[::2, ::2, ::2]
        alone = Segmentation(live, made(live, typename, second))
        assert np.array_equal(
            lower[whole],
            alone.read(lower.shape, scale="1")[whole],  # type: ignore[arg-type]
        )
    check_rebuilt(live, tmp_path)


@pytest.mark.parametrize("typename", TYPES)
def test_a_write_outside_of_a_region_only_makes_the_extents_grow(
    live: Any, typename: str, tmp_path: Path
) -> None:
    volume = oracle.cells((32, 32, 32), 5, 9)
    root = made(live, typename, volume)
    seg = Segmentation(live, root)
    seg.post(np.full((32, 32, 64), 99, np.uint64), (64, 0, 0), roi="empty")
    shown = live.ok("GET", f"{seg.node}/info").json()["Extended"]
    assert (shown["MinPoint"], shown["MaxPoint"]) == ([0, 0, 0], [127, 31, 31])
    expected = np.zeros((32, 32, 128), np.uint64)
    expected[:, :, :32] = volume
    assert np.array_equal(seg.read(expected.shape), expected)
    # The voxels of the body are checked nevertheless.
    assert live.call("POST", f"{seg.raw((32, 32, 32), (0, 0, 0))}?roi=empty", b"x").status == 400
    check_rebuilt(live, tmp_path)


def test_a_region_with_other_blocks_counts_as_in_dvid(live: Any) -> None:
    # Answers of a real DVID: blocks are compared by their coordinates, and the layers of the region that
    # count are those that the box reaches in blocks of the region.
    volume = np.arange(1, 28, dtype=np.uint64).reshape(3, 3, 3)
    volume = volume.repeat(32, 0).repeat(32, 1).repeat(32, 2)
    root = made(live, "labelmap", volume)
    live.new_instance(root, "roi", "coarse", BlockSize="64,64,64")
    put(live, root, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [4, 0, 0, 2]], "other")
    put(live, root, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]], "coarse")
    seg = Segmentation(live, root)
    for name, depth, z, labels in (
        ("other", 96, 0, {0, 1, 14, 27}), ("other", 32, 64, {0}), ("other", 32, 32, {0}),
        ("other", 16, 16, {0}), ("coarse", 96, 0, {0, 1, 14}), ("coarse", 32, 64, {0}),
        ("coarse", 16, 16, {0, 1}), ("coarse", 20, 60, {0, 14}),
    ):  # fmt: skip
        got = seg.read((depth, 96, 96), (0, 0, z), roi=name)
        assert set(np.unique(got).tolist()) == labels, (name, depth, z)


def test_regions_and_volumes_without_versions_go_together(live: Any) -> None:
    volume = oracle.cells(SHAPE, 15, 10)
    root = made(live, "labelmap", volume)
    live.new_instance(root, "roi", "fixed", BlockSize="32,32,32", versioned="false")
    config = {"BlockSize": "32,32,32", "MaxDownresLevel": "0", "versioned": "false"}
    live.new_instance(root, "labelmap", "still", **config)
    Segmentation(live, root, "still").post(volume)
    live.commit(root)
    child = live.new_version(root)
    put(live, child, SPANS[:2], "fixed")
    put(live, child, [], "area")
    expected = np.where(inside(SPANS[:2]), volume, 0)
    assert np.array_equal(Segmentation(live, child).read(SHAPE, roi="fixed"), expected)
    still = Segmentation(live, child, "still")
    assert np.array_equal(still.read(SHAPE, roi="fixed"), expected)
    # What has no versions lies at the root, and sees the region that is there.
    assert np.array_equal(still.read(SHAPE, roi="area"), np.where(inside(SPANS), volume, 0))


@pytest.mark.parametrize("typename", TYPES)
def test_a_region_that_cannot_be_is_refused_and_nothing_changes(live: Any, typename: str) -> None:
    volume = oracle.cells((32, 32, 32), 5, 11)
    root = made(live, typename, volume)
    seg = Segmentation(live, root)
    live.new_instance(root, "keyvalue", "kv")
    box = seg.raw((32, 32, 32), (0, 0, 0))
    for name in ("nowhere", "kv", "seg", f"area,{root}", "area,", "AREA"):
        for method, path, body in (
            ("GET", box, None), ("POST", box, bytes(8 * 32**3)),
            ("GET", f"{seg.node}/raw/xy/32_32/0_0_0", None),
            ("GET", f"{seg.node}/pseudocolor/xy/32_32/0_0_0", None),
            ("GET", f"{seg.node}/isotropic/xz/32_32/0_0_0", None),
        ):  # fmt: skip
            answer = live.call(method, path, body, roi=name)
            assert answer.status == 400, (name, method, path)
            assert name in answer.text, answer
    if typename != "labelblk":
        for path in (box, f"{seg.node}/raw/xy/32_32/0_0_0"):
            assert live.call("GET", path, roi="area", scale="1").status == 400
    assert np.array_equal(seg.read((32, 32, 32)), volume)


@pytest.mark.parametrize("typename", TYPES)
def test_a_region_that_changes_while_a_write_is_prepared_refuses_it(
    live: Any, monkeypatch: pytest.MonkeyPatch, typename: str
) -> None:
    volume = oracle.cells((32, 32, 32), 5, 12)
    root = made(live, typename, volume)
    seg = Segmentation(live, root)
    inflate = prepare.inflate_volume

    def slowly(*args: Any) -> Any:
        other = threading.Thread(target=put, args=(live, root, SPANS[:1]))
        other.start()
        other.join()
        return inflate(*args)

    assert ingest.prepare is endpoints_labelblk.prepare is prepare
    monkeypatch.setattr(prepare, "inflate_volume", slowly)
    path = seg.raw((32, 32, 32), (0, 0, 0))
    answer = live.call("POST", path, bytes(8 * 32**3), roi="area")
    assert answer.status == 400
    assert "send the request again" in answer.text
    assert np.array_equal(seg.read((32, 32, 32)), volume)
    monkeypatch.undo()
    live.ok("POST", path, bytes(8 * 32**3), roi="area")
    assert not seg.read((32, 32, 32)).any()
