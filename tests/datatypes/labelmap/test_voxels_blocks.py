from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest

from dvid_es.settings import Settings
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

COMPRESSIONS = ("", "lz4", "gzip", "uncompressed", "blocks")
SIDE = 32
CUBE = (SIDE, SIDE, SIDE)


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("voxels") / "data"
    with run_server(Settings(data=data, admin_token="secret")) as server:
        yield server


@pytest.fixture
def seg(live: Any) -> Segmentation:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1")
    return Segmentation(live, root)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    volume = oracle.cells((64, 64, 96), 30, seed=21, first=1000)
    volume[volume % 7 == 0] = 0
    volume[:32, :32, :32] = 7  # a block with a single label
    volume[:32, :32, 32:64] = 0  # one of background
    return volume


def read_stream(seg: Segmentation, path: str, default: str, **query: Any) -> dict[Any, np.ndarray]:
    answer = seg.live.ok("GET", f"{seg.node}/{path}", **query)
    assert answer.headers["content-type"] == "application/octet-stream"
    compression = query.get("compression", default)
    found = oracle.split(answer.body)
    cubes = {xyz: oracle.unpacked(data, compression, CUBE) for xyz, data in found}
    assert len(cubes) == len(found), "each block once"
    return cubes


def expected_blocks(volume: np.ndarray, first: tuple[int, int, int]) -> dict[Any, np.ndarray]:
    z, y, x = (n // SIDE for n in volume.shape)
    return {
        (first[0] + i, first[1] + j, first[2] + k): oracle.part(volume, (i, j, k), SIDE)
        for k in range(z)
        for j in range(y)
        for i in range(x)
    }


def same(found: dict[Any, np.ndarray], expected: dict[Any, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        (found[xyz] == expected[xyz]).all() for xyz in found
    )


def sequence(seg: Segmentation) -> int:
    return int(seg.live.ok("GET", f"{seg.node}/extents").headers["x-dvid-es-seq"])


@pytest.mark.parametrize("first", [(1, 2, 0), (-2, -1, -1)])
def test_blocks_come_back_in_every_compression(
    seg: Segmentation, volume: np.ndarray, first: tuple[int, int, int]
) -> None:
    where = "_".join(str(SIDE * c) for c in first)
    assert read_stream(seg, f"blocks/96_64_64/{where}", "lz4") == {}
    body = oracle.stream(volume, first, SIDE)
    seg.live.ok("POST", f"{seg.node}/blocks", body, downres="true")
    blocks = expected_blocks(volume, first)
    wide = "_".join(str(SIDE * c - 96) for c in first)
    halves = {xyz for x, y, z in blocks for xyz in [(x >> 1, y >> 1, z >> 1)]}
    for compression in COMPRESSIONS:
        query = {"compression": compression} if compression else {}
        assert same(read_stream(seg, f"blocks/96_64_64/{where}", "lz4", **query), blocks)
        assert same(read_stream(seg, f"blocks/288_288_288/{wide}", "lz4", **query), blocks)
        below = read_stream(seg, f"blocks/288_288_288/{wide}", "lz4", scale=1, **query)
        assert below.keys() >= {xyz for xyz in halves if min(xyz) > min(first) - 3}
        chosen = [first, (99, 3, 4), (first[0] + 2, first[1] + 1, first[2] + 1)]
        text = ",".join(str(c) for xyz in chosen for c in xyz)
        some = read_stream(seg, "specificblocks", "blocks", blocks=text, **query)
        assert same(some, {xyz: blocks[xyz] for xyz in chosen if xyz in blocks})
    offset = tuple(SIDE * c for c in first)
    assert (seg.read(volume.shape, offset) == volume).all()  # type: ignore[arg-type]
    info = seg.live.ok("GET", f"{seg.node}/info").json()["Extents"]
    assert info["MinPoint"] == list(offset)
    assert info["MaxPoint"] == [o + n - 1 for o, n in zip(offset, volume.shape[::-1], strict=True)]


@pytest.mark.parametrize("supervoxels", ["true", "false"])
@pytest.mark.parametrize("count", [1, 3])
def test_blocks_that_are_all_of_one_label_come_back(
    seg: Segmentation, supervoxels: str, count: int
) -> None:
    volume = np.full((32 * count,) * 3, 5, np.uint64)
    volume[:32] = 6
    seg.post(volume, (0, 0, 0))
    path = f"blocks/{'_'.join([str(32 * count)] * 3)}/0_0_0"
    found = read_stream(seg, path, "blocks", compression="blocks", supervoxels=supervoxels)
    assert same(found, expected_blocks(volume, (0, 0, 0)))


def test_a_huge_empty_box_of_blocks_costs_nothing(seg: Segmentation, volume: np.ndarray) -> None:
    seg.live.ok("POST", f"{seg.node}/blocks", oracle.stream(volume, (40, -50, 60), SIDE))
    size, offset = "1600000000_1600000000_1600000000", "-800000000_-800000000_-800000000"
    found = read_stream(seg, f"blocks/{size}/{offset}", "lz4", compression="blocks")
    assert same(found, expected_blocks(volume, (40, -50, 60)))


def test_ingestion_stores_voxels_of_one_scale_and_nothing_else(
    seg: Segmentation, volume: np.ndarray
) -> None:
    half = oracle.halved(np.pad(volume, ((0, 0), (0, 0), (0, 32))))
    seg.live.ok("POST", f"{seg.node}/ingest-supervoxels", oracle.stream(volume, (0, 0, 0), SIDE))
    assert (seg.read(volume.shape) == volume).all()
    assert not seg.read(half.shape, scale=1).any()
    seg.live.ok(
        "POST", f"{seg.node}/ingest-supervoxels", oracle.stream(half, (0, 0, 0), SIDE), scale=1
    )
    for compression in ("", "lz4", "gzip", "googlegzip"):
        assert (seg.read(half.shape, compression=compression, scale=1) == half).all()
    info = seg.live.ok("GET", f"{seg.node}/info").json()
    assert info["Extents"] == {"MinPoint": None, "MaxPoint": None}
    assert info["Extended"]["MaxRepoLabel"] == 0
    refused = seg.live.call("GET", f"{seg.node}/ingest-supervoxels", b"")
    assert refused.status == 400


def test_blocks_of_other_sizes(live: Any) -> None:
    root = live.new_repo()
    volume = oracle.cells((64, 64, 128), 18, seed=5)
    for block in ((16, 16, 16), (64, 32, 16), (128, 64, 64)):
        name = "seg" + "x".join(map(str, block))
        live.new_instance(
            root, "labelmap", name, BlockSize=",".join(map(str, block)), MaxDownresLevel="1"
        )
        seg = Segmentation(live, root, name)
        seg.post(volume)
        for compression in ("", "lz4", "googlegzip"):
            assert (seg.read(volume.shape, compression=compression) == volume).all()
        assert (seg.read((33, 31, 70), (31, 15, 7)) == volume[7:40, 15:46, 31:101]).all()
        half = oracle.halved(volume)
        assert (seg.read(half.shape, scale=1) == half).all()
        assert seg.labels([[127, 63, 63]]) == [int(volume[63, 63, 127])]


def unusual() -> dict[str, bytes]:
    """Legal label blocks of 32^3 that no encoder of ours makes."""

    def block(table: list[int], cells: list[tuple[tuple[int, ...], bytes]]) -> bytes:
        head = struct.pack("<4I", 4, 4, 4, len(table)) + np.array(table, "<u8").tobytes()
        counts = np.array([len(indices) for indices, _ in cells], "<u2").tobytes()
        indices = np.concatenate([np.array(found, "<u4") for found, _ in cells]).tobytes()
        return head + counts + indices + b"".join(bits for _, bits in cells)

    half = np.packbits(np.tile([0, 1], 256).astype(np.uint8)).tobytes()
    return {
        "no labels in a sub-block": block([5, 6], [((), b"")] * 63 + [((0, 1), half)]),
        "unused labels": block([5, 6, 7, 8], [((3,), b"")] * 63 + [((1, 3), half)]),
        "a label twice": block([5, 6, 5], [((2,), b"")] * 63 + [((0, 2), half)]),
        "an index twice": block([5, 6], [((0,), b"")] * 63 + [((1, 1), half)]),
        "bytes behind": block([5, 6], [((0,), b"")] * 63 + [((0, 1), half)]) + b"more",
    }


@pytest.mark.parametrize("name", list(unusual()))
def test_legal_but_unusual_blocks_are_taken(seg: Segmentation, name: str) -> None:
    block = unusual()[name]
    last = {
        "no labels in a sub-block": (0, 5, 6),
        "unused labels": (8, 6, 8),
        "a label twice": (5, 5, 5),
        "an index twice": (5, 6, 6),
        "bytes behind": (5, 5, 6),
    }[name]
    members = gzip.compress(block[:20]) + gzip.compress(block[20:])
    for at, data in enumerate((gzip.compress(block, 9), members)):
        body = oracle.joined([((at, 4, -1), data)])
        seg.live.ok("POST", f"{seg.node}/blocks", body, downres="true")
        cube = np.full(CUBE, last[0], np.uint64)
        cube[24:, 24:, 24::2] = last[1]
        cube[24:, 24:, 25::2] = last[2]
        assert (seg.read(CUBE, (32 * at, 128, -32)) == cube).all()
        half = seg.read((16, 16, 16), (16 * at, 64, -16), scale=1)
        assert (half == oracle.halved(cube)).all()
        points = [[32 * at + 30, 159, -1], [32 * at + 31, 159, -1], [32 * at, 128, -32]]
        assert seg.labels(points) == [last[1], last[2], last[0]]


@cache
def hostile() -> dict[str, Any]:
    good = oracle.packed(np.full(CUBE, 99, np.uint64))
    mixed = oracle.encoded(oracle.cells(CUBE, 5, seed=1))

    def one(data: bytes) -> bytes:
        return oracle.joined([((8, 8, 8), good), ((9, 8, 8), data)])

    bomb = gzip.compress(bytes(100 << 20), 6)
    far = struct.pack("<4i", 1 << 20, 0, 0, len(good)) + good
    return {
        "cut off in a block": one(good)[:-1],
        "cut off in a header": one(good) + bytes(15),
        "an empty block": one(b""),
        "not gzip": one(b"not gzip at all"),
        "gzip cut off": one(good[:-9]),
        "gzip with a wrong checksum": one(good[:-8] + bytes(4) + good[-4:]),
        "bytes behind the gzip": one(good + b"x"),
        "gzip that lies about its length": one(good[:-4] + struct.pack("<I", 7)),
        "a bomb": one(bomb),
        "another shape": one(oracle.packed(np.zeros((64, 64, 64), np.uint64))),
        "no sub-blocks": one(gzip.compress(struct.pack("<4IQ", 0, 4, 4, 1, 5))),
        "no labels": one(gzip.compress(struct.pack("<4IQ", 4, 4, 4, 0, 5))),
        "more labels than bytes": one(
            gzip.compress(struct.pack("<4I", 4, 4, 4, 2**31) + mixed[16:])
        ),
        "shorter than a header": one(gzip.compress(mixed[:11])),
        "values cut off": one(gzip.compress(mixed[:-1])),
        "an index beyond the table": one(
            gzip.compress(mixed[: 16 + 40 + 128] + b"\xff" * 4 + mixed[16 + 40 + 132 :])
        ),
        "too far out": one(good) + far,
        "a length of 4 GiB": one(good) + struct.pack("<3iI", 0, 0, 0, 2**32 - 1),
    }


@pytest.mark.parametrize("name", list(hostile()))
def test_a_wrong_stream_stores_nothing_at_all(seg: Segmentation, name: str) -> None:
    before = sequence(seg)
    body = hostile()[name]
    for path, query in (
        ("blocks", {"downres": "true"}),
        ("ingest-supervoxels", {}),
        ("blocks", {"scale": "1"}),
    ):
        refused = seg.live.call("POST", f"{seg.node}/{path}", body, **query)
        assert refused.status == 400, refused.body[:200]
        assert b"nothing was stored" in refused.body
    assert sequence(seg) == before
    assert read_stream(seg, "blocks/3200_3200_3200/-1600_-1600_-1600", "lz4") == {}
    info = seg.live.ok("GET", f"{seg.node}/info").json()
    assert info["Extents"]["MinPoint"] is None


@pytest.mark.parametrize(
    "query",
    [{"downres": "true", "scale": "1"}, {"compression": "lz4"}, {"scale": "x"}, {"scale": "256"}],
)
def test_a_wrong_option_stores_nothing(seg: Segmentation, query: dict[str, str]) -> None:
    before = sequence(seg)
    body = oracle.stream(np.full(CUBE, 9, np.uint64), (0, 0, 0), SIDE)
    assert seg.live.call("POST", f"{seg.node}/blocks", body, **query).status == 400
    assert sequence(seg) == before


@pytest.mark.parametrize(
    "path",
    [
        "blocks/16_32_32/0_0_0",
        "blocks/32_32_32/0_0_16",
        "blocks/32_32/0_0",
        "blocks/32_32_32",
        "blocks",
        "blocks/a_b_c/0_0_0",
        "blocks/32_32_32/0_0_0?compression=zip",
        "blocks/32_32_32/0_0_0?compression=google",
        "blocks/32_32_32/0_0_0?scale=x",
        "specificblocks?blocks=1,2",
        "specificblocks?blocks=1,2,x",
        "specificblocks?blocks=1,1,0&compression=zip",
    ],
)
def test_a_wrong_read_is_refused(seg: Segmentation, path: str) -> None:
    assert seg.live.call("GET", f"{seg.node}/{path}").status == 400


def test_an_empty_stream_and_an_empty_list_are_no_errors(seg: Segmentation) -> None:
    before = sequence(seg)
    for path in ("blocks", "ingest-supervoxels"):
        assert seg.live.ok("POST", f"{seg.node}/{path}", b"").body == b""
    assert sequence(seg) == before
    assert seg.live.ok("GET", f"{seg.node}/specificblocks").body == b""
    assert seg.live.ok("GET", f"{seg.node}/specificblocks?blocks=").body == b""


def test_of_equal_blocks_in_a_stream_the_last_one_counts(seg: Segmentation) -> None:
    first, second = (np.full(CUBE, label, np.uint64) for label in (5, 6))
    body = oracle.joined([((0, 0, 0), oracle.packed(first)), ((0, 0, 0), oracle.packed(second))])
    seg.live.ok("POST", f"{seg.node}/blocks", body)
    assert (seg.read(CUBE) == second).all()


def test_concurrent_posts_of_one_region_leave_one_of_them_and_its_lower_scale(
    seg: Segmentation,
) -> None:
    volumes = [oracle.cells((64, 64, 64), 12, seed=seed, first=100 * seed) for seed in range(1, 7)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(seg.post, volumes))
    found = seg.read((64, 64, 64))
    assert any((found == volume).all() for volume in volumes)
    assert (seg.read(CUBE, scale=1) == oracle.halved(found)).all()
