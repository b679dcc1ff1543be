from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dvid_es.codecs import murmur
from dvid_es.datatypes.labelmap.voxels import slices
from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
NAMES = {"xy": ("xy", "XY", "0_1", "0,1"), "xz": ("xz", "0_2"), "yz": ("yz", "Yz", "1_2")}


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("slices") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    volume = oracle.cells((48, 96, 160), 40, seed=3)
    volume[volume % 5 == 0] = 0
    volume[volume == 7] = 0xFEDCBA9876543210
    return volume


@pytest.fixture(scope="module")
def seg(live: Any, volume: np.ndarray) -> Segmentation:
    """Read only: the tests that write make their own."""
    return filled(live, volume, BlockSize="16,16,16", MaxDownresLevel="2")


def filled(live: Any, volume: np.ndarray, corner: Any = (0, 0, 0), **config: Any) -> Segmentation:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", **config)
    found = Segmentation(live, root)
    found.post(volume, corner)
    return found


def labels_of(png: bytes) -> np.ndarray:
    width, height, depth, colour = struct.unpack_from(">IIBB", png, 16)
    assert (depth, colour) == (16, 6)
    (size,) = struct.unpack_from(">I", png, 33)
    assert png[37:41] == b"IDAT"
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view("<u8").reshape(height, width)


def get(seg: Segmentation, path: str, content_type: str = "image/png", **query: Any) -> bytes:
    answer = seg.live.ok("GET", f"{seg.node}/{path}", **query)
    assert answer.headers["content-type"] == content_type
    body: bytes = answer.body
    return body


def plane_of(volume: np.ndarray, plane: str, size: tuple[int, int], offset: Any) -> np.ndarray:
    """The voxels of a slice, rows down and columns across."""
    across, down = AXES[plane]
    shape = [1, 1, 1]
    shape[2 - across], shape[2 - down] = size
    return oracle.window(volume, tuple(offset[::-1]), tuple(shape)).reshape(size[::-1])


def read(seg: Segmentation, plane: str, size: Any, offset: Any, **query: Any) -> np.ndarray:
    place = f"{size[0]}_{size[1]}/{'_'.join(map(str, offset))}"
    return labels_of(get(seg, f"raw/{plane}/{place}", **query))


@pytest.mark.parametrize("plane", AXES)
def test_a_picture_carries_the_labels_of_any_box_of_a_slice(
    seg: Segmentation, volume: np.ndarray, plane: str
) -> None:
    across, down = AXES[plane]
    whole = (volume.shape[2 - across], volume.shape[2 - down])
    random = np.random.default_rng(1)
    boxes = [
        (whole, (0, 0, 0)),
        (whole, (10, 11, 12)),
        ((1, 1), (50, 50, 20)),
        ((97, 1), (3, 4, 5)),
    ]
    boxes += [((50, 40), (500, 0, 0)), ((30, 30), (-9, -8, 0)), ((20, 20), (3, -1, 7))]
    boxes += [
        (tuple(random.integers(1, 90, 2).tolist()), tuple(random.integers(-40, 100, 3).tolist()))
        for _ in range(12)
    ]
    for place, (size, offset) in enumerate(boxes):
        name = NAMES[plane][place % len(NAMES[plane])]
        found = read(seg, name, size, offset)
        assert (found == plane_of(volume, plane, size, offset)).all(), (size, offset)
    lower = oracle.halved(volume)
    assert (
        read(seg, plane, (20, 20), (4, 5, 6), scale=1)
        == plane_of(lower, plane, (20, 20), (4, 5, 6))
    ).all()
    assert not read(seg, plane, (20, 20), (4, 5, 6), scale=200).any()


def test_slices_at_negative_coordinates(live: Any, volume: np.ndarray) -> None:
    corner = (-96, -64, -32)
    seg = filled(live, volume, corner, BlockSize="32,32,16")
    for plane in AXES:
        offset = (-90, -20, -9)
        inside = tuple(a - b for a, b in zip(offset, corner, strict=True))
        expected = plane_of(volume, plane, (60, 50), inside)
        assert expected.any()
        assert (read(seg, plane, (60, 50), offset) == expected).all()
        colours = np.asarray(
            Image.open(io.BytesIO(get(seg, f"pseudocolor/{plane}/60_50/-90_-20_-9")))
        )
        assert (colours == murmur.colours(expected)).all()


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("jpg", "jpeg"),
        ("jpeg", "jpeg"),
        ("jpg:100", "jpeg"),
        ("tiff", "tiff"),
        ("tif", "tiff"),
        ("bmp", "bmp"),
        ("png", "png"),
        ("png:9", "png"),
    ],
)
def test_every_format_shows_the_same_slice(
    seg: Segmentation, volume: np.ndarray, form: str, kind: str
) -> None:
    expected = plane_of(volume, "xz", (80, 48), (5, 40, 0))
    for keyword in ("raw", "isotropic"):
        body = get(seg, f"{keyword}/xz/80_48/5_40_0/{form}", f"image/{kind}")
        assert Image.open(io.BytesIO(body)).size == (80, 48)
        if kind == "tiff":
            assert (
                np.frombuffer(body[-8 * expected.size :], "<u2").byteswap().view("<u8")
                == expected.ravel()
            ).all()
        if kind == "bmp":
            upper = expected.view(np.uint8).reshape(48, 80, 8)[..., :6:2]
            assert (np.asarray(Image.open(io.BytesIO(body))) == upper).all()
        if kind == "png":
            assert (labels_of(body) == expected).all()
    body = get(seg, f"pseudocolor/xz/80_48/5_40_0/{form}", f"image/{kind}")
    picture = Image.open(io.BytesIO(body))
    assert (picture.size, picture.mode) == ((80, 48), "RGB")
    if kind != "jpeg":
        assert (np.asarray(picture) == murmur.colours(expected)).all()


@pytest.mark.parametrize("sizes", [(8, 8, 32), (8, 8, 8), (4, 12, 10), (33.3, 4, 4), (8, 2, 5.5)])
def test_isotropic_pixels_show_the_voxels_that_their_centres_are_in(
    live: Any, volume: np.ndarray, sizes: tuple[float, ...]
) -> None:
    config = {"BlockSize": "32,32,16", "VoxelSize": ",".join(map(str, sizes))}
    seg = filled(live, volume, **config)
    for plane, (across, down) in AXES.items():
        for width, height in ((64, 48), (50, 37), (1, 1), (3, 2)):
            for x, y, z in ((0, 0, 0), (20, 30, 8), (-5, -6, 7)):
                fine = min(sizes[across], sizes[down])
                picture = np.zeros((height, width), np.uint64)
                for i in range(height):
                    for j in range(width):
                        at = [x, y, z]
                        at[across] += int((j + 0.5) * fine / sizes[across])
                        at[down] += int((i + 0.5) * fine / sizes[down])
                        if all(0 <= a < n for a, n in zip(at, volume.shape[::-1], strict=True)):
                            picture[i, j] = volume[at[2], at[1], at[0]]
                path = f"isotropic/{plane}/{width}_{height}/{x}_{y}_{z}"
                assert (labels_of(get(seg, path)) == picture).all(), path


def test_isotropic_repeats_rows_and_follows_the_resolution(live: Any, volume: np.ndarray) -> None:
    seg = filled(live, volume, BlockSize="32,32,16", VoxelSize="8,8,32")
    found = labels_of(get(seg, "isotropic/xz/160_96/0_10_8"))
    assert (found == np.repeat(volume[8:32, 10, :], 4, axis=0)).all()
    live.ok("POST", f"{seg.node}/resolution", json_body=[16, 8, 8])
    found = labels_of(get(seg, "isotropic/xz/160_40/0_10_8"))
    assert (found == np.repeat(volume[8:48, 10, :80], 2, axis=1)).all()
    box = live.ok("GET", f"{seg.node}/isotropic/0_1_2/9_8_7/3_4_5").body
    assert box == volume[5:12, 4:12, 3:12].tobytes()


def test_bodies_supervoxels_and_versions(live: Any, volume: np.ndarray) -> None:
    seg = filled(live, volume, BlockSize="32,32,16", MaxDownresLevel="1")
    merged = np.where(np.isin(volume, [2, 3]), np.uint64(1), volume)
    before = live.ok("POST", f"{seg.node}/merge", json_body=[1, 2]).headers["x-dvid-es-seq"]
    live.ok("POST", f"{seg.node}/merge", json_body=[1, 3])
    root = seg.node.split("/")[3]
    live.commit(root)
    child = Segmentation(live, live.new_version(root))
    live.ok("POST", f"{child.node}/merge", json_body=[1, 4])
    third = np.where(merged == 4, np.uint64(1), merged)
    for node, bodies in ((seg, merged), (child, third)):
        for plane in AXES:
            place = ((60, 48), (40, 41, 0))
            expected = plane_of(bodies, plane, *place)
            assert (read(node, plane, *place) == expected).all()
            svs = plane_of(volume, plane, *place)
            assert (read(node, plane, *place, supervoxels="true") == svs).all()
            body = get(node, f"pseudocolor/{plane}/60_48/40_41_0", supervoxels="true")
            assert (np.asarray(Image.open(io.BytesIO(body))) == murmur.colours(expected)).all()
    then = np.where(volume == 2, np.uint64(1), volume)
    found = read(child, "xy", (160, 96), (0, 0, 20), at=before)
    assert (found == then[20]).all()


def test_a_slice_below_a_version_merge(live: Any) -> None:
    volume = oracle.cells((32, 32, 64), 20, seed=8)
    seg = filled(live, volume, BlockSize="32,32,32", MaxDownresLevel="1")
    root = seg.node.split("/")[3]
    live.commit(root)
    parents = []
    for number in (1, 2):
        body = {"branch": f"side{number}"}
        uuid = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        part = np.full((32, 32, 32), 1000 * number, np.uint64)
        Segmentation(live, uuid).post(part, (32 * (number - 1), 0, 0), mutate="true")
        live.commit(uuid)
        parents.append(uuid)
    body = {"mergeType": "conflict-free", "parents": parents, "note": "both"}
    child = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    both = np.repeat(np.array([1000, 2000], np.uint64), 32)
    assert (read(Segmentation(live, child), "xy", (64, 32), (0, 0, 9)) == both).all()
    assert (read(Segmentation(live, child), "xz", (32, 16), (0, 3, 0), scale=1) == both[::2]).all()


def test_a_wide_slice_is_read_by_several_tasks(seg: Segmentation, volume: np.ndarray) -> None:
    assert (volume[20].size / 16 / 16) < slices.TASK_BLOCKS
    live = seg.live
    wide = np.tile(volume[:16], (1, 3, 3))
    tiled = filled(live, wide, BlockSize="16,16,16")
    assert wide[0].size / 16 / 16 > 8 * slices.TASK_BLOCKS
    assert (read(tiled, "xy", (480, 288), (0, 0, 7)) == wide[7]).all()


@pytest.mark.parametrize(
    "path",
    [
        "raw/xy/8_8/0_0_0/gif",
        "raw/xy/8_8/0_0_0/jpg:high",
        "raw/xy/8_8_8/0_0_0",
        "raw/xy/8/0_0_0",
        "raw/xy/8_8/0_0",
        "raw/xy/0_8/0_0_0",
        "raw/xy/8_-8/0_0_0",
        "raw/xy/8_8/2147483647_0_0",
        "raw/xy/9000_9000/0_0_0",
        "raw/xy/70000_2/0_0_0/jpg",
        "raw/xy/2147483647_2147483647/0_0_0",
        "raw/xy/8_8",
        "raw/yx/8_8/0_0_0",
        "raw/xy/8_8/0_0_0?scale=-1",
        "raw/xy/8_8/0_0_0?roi=nowhere",
        "isotropic/xy/8_8",
        "isotropic/xz/9000_9000/0_0_0",
        "isotropic/xz/8_8/0_0_0/gif",
        "pseudocolor/0_1_2/8_8_8/0_0_0",
        "pseudocolor/xy/8_8",
        "pseudocolor/xy/8_8/0_0_0/gif",
        "pseudocolor/xy/8_8/0_0_0?roi=nowhere",
        "pseudocolor",
    ],
)
def test_a_wrong_slice_is_refused(seg: Segmentation, path: str) -> None:
    refused = seg.live.call("GET", f"{seg.node}/{path}")
    assert refused.status == 400
    assert path.split("?")[0] in refused.text


def test_slices_cannot_be_written(seg: Segmentation) -> None:
    for keyword in ("raw", "isotropic", "pseudocolor"):
        refused = seg.live.call("POST", f"{seg.node}/{keyword}/xy/8_8/0_0_0", bytes(512))
        assert refused.status == 400


def test_boxes_and_distances_can_be_throttled_and_pictures_cannot(
    run_server: Any, tmp_path: Any
) -> None:
    with run_server(Settings(data=tmp_path / "data", max_throttled=0)) as live:
        seg = filled(live, np.ones((16, 16, 16), np.uint64), BlockSize="16,16,16")
        for path, throttled in (
            ("raw/0_1_2/9_9_9/0_0_0", True),
            ("isotropic/0_1_2/9_9_9/0_0_0", True),
            ("proximity/1/2", True),
            ("raw/xy/9_9/0_0_0", False),
            ("isotropic/xy/9_9/0_0_0", False),
            ("pseudocolor/xy/9_9/0_0_0", False),
        ):
            for value in ("true", "on"):
                status = live.call("GET", f"{seg.node}/{path}", throttle=value).status
                assert status == (503 if throttled else 200), path
            assert live.call("GET", f"{seg.node}/{path}", throttle="no").status in (200, 404)
