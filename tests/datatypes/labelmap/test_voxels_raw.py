from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import lz4.block
import numpy as np
import pytest

from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SIDE = 32
COMPRESSIONS = ("", "lz4", "gzip", "google", "googlegzip")


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("voxels") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


@pytest.fixture
def root(live: Any) -> str:
    uuid: str = live.new_repo()
    live.new_instance(uuid, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    return uuid


@pytest.fixture
def seg(live: Any, root: str) -> Segmentation:
    return Segmentation(live, root)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    volume = oracle.cells((64, 96, 128), 40, seed=3)
    volume[volume % 5 == 0] = 0
    volume[volume == 7] = 0x1122334455667788
    return volume


def test_voxels_come_back_in_every_compression_and_from_every_kind_of_box(
    seg: Segmentation, volume: np.ndarray
) -> None:
    assert not seg.read((40, 40, 40)).any(), "nothing yet: zeros"
    for start, compression in ((0, ""), (32, "lz4")):
        seg.post(volume[start : start + 32], (0, 0, start), compression=compression)
    seg.post(volume[:32], (0, 0, 0), compression="gzip")
    boxes = (
        (volume.shape, (0, 0, 0)),
        ((32, 32, 32), (64, 32, 32)),
        ((56, 24, 40), (13, 27, 5)),
        ((64, 64, 64), (96, 64, 32)),
        ((32, 32, 32), (320, 32, 32)),
        ((40, 48, 56), (-17, -20, -9)),
    )
    for shape, offset in boxes:
        expected = oracle.window(volume, offset[::-1], shape)
        for compression in COMPRESSIONS:
            found = seg.read(shape, offset, compression)
            assert (found == expected).all(), (shape, offset, compression)
    for shape, offset in (((1, 1, 1), (50, 50, 50)), ((35, 33, 31), (33, 31, 29))):
        expected = oracle.window(volume, offset[::-1], shape)
        for compression in ("", "lz4", "gzip"):
            assert (seg.read(shape, offset, compression) == expected).all()


def test_answers_larger_than_one_slab_are_sent_in_parts_and_are_right(live: Any, root: str) -> None:
    live.new_instance(root, "labelmap", "wide", BlockSize="64,64,64")
    wide = Segmentation(live, root, "wide")
    volume = np.kron(oracle.cells((48, 48, 48), 60, seed=9), np.ones((4, 4, 4), np.uint64)).astype(
        np.uint64
    )
    wide.post(volume[:, :, :128])
    for offset in ((0, 0, 0), (5, -7, 60)):
        expected = oracle.window(volume * (np.arange(192) < 128), offset[::-1], (150, 170, 190))
        for compression in ("", "lz4", "gzip"):
            assert (wide.read((150, 170, 190), offset, compression) == expected).all()


def test_a_child_version_shows_its_parent_until_it_writes(
    live: Any, root: str, seg: Segmentation, volume: np.ndarray
) -> None:
    seg.post(volume)
    live.commit(root)
    child = Segmentation(live, live.new_version(root))
    assert (child.read(volume.shape) == volume).all()
    part = oracle.cells((32, 32, 64), 9, seed=4, first=900)
    child.post(part, (32, 64, 32), mutate="true")
    second = volume.copy()
    second[32:64, 64:96, 32:96] = part
    for node, expected in ((seg, volume), (child, second)):
        for compression in COMPRESSIONS:
            assert (node.read(volume.shape, compression=compression) == expected).all()
        points = np.random.default_rng(2).integers(-9, 140, (300, 3)).tolist()
        wanted = [int(oracle.window(expected, (z, y, x), (1, 1, 1))[0, 0, 0]) for x, y, z in points]
        assert node.labels(points) == wanted
        half = oracle.halved(expected)
        assert (node.read(half.shape, scale=1) == half).all()
    refused = live.call("POST", seg.raw(part.shape, (0, 0, 0)), part.tobytes())
    assert refused.status == 400
    assert b"locked" in refused.body


def test_a_read_as_of_a_sequence_shows_the_voxels_of_then(
    seg: Segmentation, volume: np.ndarray
) -> None:
    then = int(seg.post(volume).headers["x-dvid-es-seq"])
    seg.post(volume + np.uint64(1000))
    assert (seg.read(volume.shape) == volume + np.uint64(1000)).all()
    assert (seg.read(volume.shape, at=then) == volume).all()
    assert seg.labels([[64, 64, 30]], at=then) == [int(volume[30, 64, 64])]
    half = oracle.halved(volume)
    assert (seg.read(half.shape, scale=1, at=then) == half).all()


def test_voxels_at_negative_coordinates(seg: Segmentation, volume: np.ndarray) -> None:
    corner = (-96, -64, -32)
    seg.post(volume, corner)
    assert (seg.read(volume.shape, corner) == volume).all()
    offset = (-100, -50, -13)
    shape = (40, 50, 60)
    start = tuple(o - c for o, c in zip(offset[::-1], corner[::-1], strict=True))
    assert (seg.read(shape, offset) == oracle.window(volume, start, shape)).all()
    for point in ((-1, -1, -1), (-96, -64, -32), (-33, 10, 10), (5, -5, 20)):
        x, y, z = (p - c for p, c in zip(point, corner, strict=True))
        assert seg.labels([list(point)]) == [int(volume[z, y, x])]
        text = "_".join(map(str, point))
        answer = seg.live.ok("GET", f"{seg.node}/label/{text}")
        assert answer.body == b'{"Label": %d}' % int(volume[z, y, x])
    half = oracle.halved(volume)
    assert (seg.read(half.shape, (-48, -32, -16), scale=1) == half).all()
    info = seg.live.ok("GET", f"{seg.node}/info").json()["Extended"]
    assert (info["MinPoint"], info["MaxPoint"]) == ([-96, -64, -32], [31, 31, 31])
    assert (info["MinIndex"], info["MaxIndex"]) == ([-3, -2, -1], [0, 0, 0])


def test_unversioned_instances_write_to_the_root(live: Any, volume: np.ndarray) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", versioned="false")
    live.commit(root)
    child = live.new_version(root)
    Segmentation(live, child).post(volume)
    assert (Segmentation(live, root).read(volume.shape) == volume).all()


REFUSED: list[tuple[str, str, Any, dict[str, str]]] = [
    ("one voxel short", "raw/0_1_2/64_64_64/0_0_0", lambda d: d[:-8], {}),
    ("one voxel too many", "raw/0_1_2/64_64_64/0_0_0", lambda d: d + bytes(8), {}),
    ("no voxels", "raw/0_1_2/64_64_64/0_0_0", lambda d: b"", {}),
    ("offset off the blocks", "raw/0_1_2/64_64_64/0_0_16", lambda d: d, {}),
    ("size off the blocks", "raw/0_1_2/48_64_64/0_0_0", lambda d: d[: 64 * 64 * 48 * 8], {}),
    ("two sizes", "raw/0_1_2/64_64/0_0_0", lambda d: d, {}),
    ("a slice", "raw/xy/64_64/0_0_0", lambda d: d[: 64 * 64 * 8], {}),
    ("unknown shape", "raw/xyz/64_64_64/0_0_0", lambda d: d, {}),
    ("empty box", "raw/0_1_2/0_64_64/0_0_0", lambda d: b"", {}),
    ("negative size", "raw/0_1_2/-64_64_64/0_0_0", lambda d: b"", {}),
    ("beyond all blocks", "raw/0_1_2/64_64_64/2000000000_0_0", lambda d: d, {}),
    ("beyond 32 bits", "raw/0_1_2/64_64_64/2147483616_0_0", lambda d: d, {}),
    ("more than 3 GiB", "raw/0_1_2/2048_2048_2048/0_0_0", lambda d: d, {}),
    ("isotropic", "isotropic/0_1_2/64_64_64/0_0_0", lambda d: d, {}),
    ("unknown compression", "raw/0_1_2/64_64_64/0_0_0", lambda d: d, {"compression": "zip"}),
    ("read-only compression", "raw/0_1_2/64_64_64/0_0_0", lambda d: d, {"compression": "google"}),
    ("not gzip", "raw/0_1_2/64_64_64/0_0_0", lambda d: d, {"compression": "gzip"}),
    (
        "gzip of too little",
        "raw/0_1_2/64_64_64/0_0_0",
        lambda d: gzip.compress(d[:-8]),
        {"compression": "gzip"},
    ),
    (
        "gzip of too much",
        "raw/0_1_2/64_64_64/0_0_0",
        lambda d: gzip.compress(d * 40),
        {"compression": "gzip"},
    ),
    (
        "gzip cut off",
        "raw/0_1_2/64_64_64/0_0_0",
        lambda d: gzip.compress(d)[:-9],
        {"compression": "gzip"},
    ),
    ("not LZ4", "raw/0_1_2/64_64_64/0_0_0", lambda d: b"\xff" * 99, {"compression": "lz4"}),
    (
        "LZ4 of too little",
        "raw/0_1_2/64_64_64/0_0_0",
        lambda d: lz4.block.compress(d[:-8], store_size=False),
        {"compression": "lz4"},
    ),
    (
        "LZ4 of too much",
        "raw/0_1_2/64_64_64/0_0_0",
        lambda d: lz4.block.compress(d + d, store_size=False),
        {"compression": "lz4"},
    ),
    ("no such ROI", "raw/0_1_2/64_64_64/0_0_0", lambda d: d, {"roi": "nowhere"}),
    ("no offset", "raw/0_1_2/64_64_64", lambda d: d, {}),
    ("nothing", "raw", lambda d: d, {}),
]


@pytest.mark.parametrize(
    ("path", "body", "query"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_wrong_post_changes_nothing(
    live: Any, root: str, seg: Segmentation, path: str, body: Any, query: dict[str, str]
) -> None:
    before = live.ok("GET", f"/api/node/{root}/seg/info")
    data = np.full((64, 64, 64), 5, np.uint64).tobytes()
    refused = live.call("POST", f"{seg.node}/{path}", body(data), **query)
    assert refused.status == 400, refused.body[:200]
    after = live.ok("GET", f"/api/node/{root}/seg/info")
    assert (after.body, after.headers["x-dvid-es-seq"]) == (
        before.body,
        before.headers["x-dvid-es-seq"],
    )
    assert not seg.read((64, 64, 64)).any()


@pytest.mark.parametrize(
    "path",
    [
        "raw/0_1_2/0_3_3/0_0_0",
        "raw/0_1_2/-1_3_3/0_0_0",
        "raw/0_1_2/3_3_3/a_0_0",
        "raw/0_1_2/3.5_3_3/0_0_0",
        "raw/0_1_2/3_3_3",
        "raw/0_1_2/3,3,3/0,0,0",
        "raw/0_1_2/3_3_3/0_0",
        "raw/0_1_2_3/3_3_3_3/0_0_0_0",
        "raw/yx/10_10/0_0_0",
        "raw/0_1_2/3_3_3/0_0_0?compression=zip",
        "raw/0_1_2/12_8_8/0_0_0?compression=google",
        "raw/0_1_2/8_8_12/0_0_0?compression=googlegzip",
        "raw/0_1_2/8_8_8/0_0_0?scale=x",
        "raw/0_1_2/8_8_8/0_0_0?scale=-1",
        "raw/0_1_2/8_8_8/0_0_0?scale=256",
        "raw/0_1_2/8_8_8/0_0_0?roi=nowhere",
        "raw/0_1_2/2048_2048_2048/0_0_0",
        "raw/",
        "raw",
        "label/1_2",
        "label/1_2_3_4",
        "label/a_b_c",
        "label/1.5_2_3",
        "label/99999999999_0_0",
        "label",
        "label/1_2_3?scale=x",
    ],
)
def test_a_wrong_read_is_refused(seg: Segmentation, path: str) -> None:
    assert seg.live.call("GET", f"{seg.node}/{path}").status == 400


def test_other_names_of_the_shape_and_isotropic(seg: Segmentation, volume: np.ndarray) -> None:
    seg.post(volume)
    expected = volume[22:29, 21:29, 20:29].tobytes()
    for shape in ("raw/vol", "raw/VOL", "raw/0,1,2", "isotropic/0_1_2"):
        answer = seg.live.ok("GET", f"{seg.node}/{shape}/9_8_7/20_21_22")
        assert answer.body == expected
        assert answer.headers["content-type"] == "application/octet-stream"
    assert not seg.read((20, 20, 20), scale=200).any()


def test_points_may_be_short_long_or_far_away(seg: Segmentation, volume: np.ndarray) -> None:
    seg.post(volume)
    assert seg.labels([]) == []
    assert seg.live.ok("GET", f"{seg.node}/labels", b"null").json() == []
    expected = [int(volume[0, 9, 17]), int(volume[0, 0, 3]), int(volume[0, 0, 0]), 0]
    assert seg.labels([[17, 9], [3], [], [2**31 - 1, -(2**31), 5]]) == expected
    assert seg.labels([[17, 9, 0, 77]]) == expected[:1]
    many = np.random.default_rng(1).integers(0, 64, (5000, 3))
    assert seg.labels(many.tolist()) == volume[many[:, 2], many[:, 1], many[:, 0]].tolist()
    half = oracle.halved(volume)
    assert seg.labels([[30, 20, 10]], scale=1) == [int(half[10, 20, 30])]
    for body in (b"", b"{}", b"[1,2,3]", b'[["1",2,3]]', b"[[1.5,2,3]]", b"[[1,2,99999999999]]"):
        assert seg.live.call("GET", f"{seg.node}/labels", body).status == 400
    body = json.dumps([[1, 2, 3]]).encode()
    assert seg.live.call("POST", f"{seg.node}/labels", body).status == 400
    assert seg.live.call("GET", f"{seg.node}/labels", body, hash="0" * 32).status == 400
    right = hashlib.md5(body).hexdigest()
    assert seg.live.ok("GET", f"{seg.node}/labels", body, hash=right).json() == [
        int(volume[3, 2, 1])
    ]
