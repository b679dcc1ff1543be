"""Sparse volumes against numpy: formats, bounds, scales, single supervoxels, points, HEAD."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import lz4.block
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.datatypes.labelmap.body_model import decode_runs, volume_of

SHAPE = (64, 64, 96)
BLOCK = 32
BODY = [1, 2, 3, 7]


@pytest.fixture(scope="module")
def volume() -> NDArray[np.uint64]:
    volume = volume_of(SHAPE, 20, 11)
    volume[32:64, 0:32, 32:64] = 7
    volume[2:4, 4:6, 6:8] = 7
    volume[3, 5, 7] = 99
    return volume


@pytest.fixture
def node(live: Any, volume: Any) -> str:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    node = f"/api/node/{root}/seg"
    live.ok("POST", f"{node}/raw/0_1_2/96_64_64/0_0_0", volume.astype("<u8").tobytes())
    live.ok("POST", f"{node}/merge", json_body=BODY)
    return node


def at_scale(live: Any, node: str, scale: int) -> NDArray[np.uint64]:
    """The supervoxels at a scale, as GET raw has them."""
    z, y, x = (-(-(side >> scale) // BLOCK) * BLOCK for side in SHAPE)
    path = f"{node}/raw/0_1_2/{x}_{y}_{z}/0_0_0?supervoxels=true&scale={scale}"
    return np.frombuffer(live.ok("GET", path).body, "<u8").reshape(z, y, x)


def as_legacy(srles: bytes) -> bytes:
    return struct.pack("<4B2I", 0, 3, 0, 0, 0, len(srles) // 16) + srles


def decode_blocks(data: bytes, shape: tuple[int, ...], label: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    if not data:
        return mask
    assert struct.unpack_from("<IIIQ", data) == (4, 4, 4, label)
    at = 20
    while at < len(data):
        x, y, z, kind = struct.unpack_from("<iiiB", data, at)
        at += 13
        block = mask[z : z + BLOCK, y : y + BLOCK, x : x + BLOCK]
        if kind == 1:
            block[...] = True
            continue
        for cell in np.ndindex(4, 4, 4):
            part = block[tuple(slice(8 * c, 8 * c + 8) for c in cell)]
            sub, at = data[at], at + 1
            if sub == 2:
                bits = np.frombuffer(data, np.uint8, 64, at)
                part[...] = np.unpackbits(bits, bitorder="little").reshape(8, 8, 8)
                at += 64
            elif sub == 1:
                part[...] = True
    return mask


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_every_format_has_the_voxels_that_raw_has(live: Any, node: str, scale: int) -> None:
    shown = at_scale(live, node, scale)
    for label, svs, query in ((1, BODY, ""), (7, [7], "&supervoxels=true"), (4, [4], "")):
        mask = np.isin(shown, np.array(svs, np.uint64))
        path = f"{node}/sparsevol/{label}?scale={scale}{query}"
        data = live.ok("GET", path).body
        assert np.array_equal(decode_runs(data, mask.shape), mask)
        packed = live.ok("GET", f"{path}&compression=gzip").body
        assert gzip.decompress(packed) == data
        packed = live.ok("GET", f"{path}&compression=lz4").body
        assert lz4.block.decompress(packed, uncompressed_size=len(data)) == data
        assert as_legacy(live.ok("GET", f"{path}&format=srles").body) == data
        blocks = live.ok("GET", f"{path}&format=blocks").body
        assert np.array_equal(decode_blocks(blocks, mask.shape, label), mask)


def test_a_body_that_vanishes_at_a_scale_is_200_without_bytes(live: Any, node: str) -> None:
    for form in ("rles", "srles", "blocks"):
        assert live.ok("GET", f"{node}/sparsevol/99?format={form}").body
        assert live.ok("GET", f"{node}/sparsevol/99?format={form}&scale=1").body == b""


def test_random_bounds_clip_voxels_or_choose_blocks(live: Any, node: str, volume: Any) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        label = int(rng.choice([1, 4, 6]))
        whole = np.isin(volume, np.array(BODY if label == 1 else [label], np.uint64))
        inside, blocks = np.ones(SHAPE, bool), np.ones(SHAPE, bool)
        query = []
        for axis, name in enumerate("zyx"):
            grid = np.arange(SHAPE[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
            low, high = sorted(int(n) for n in rng.integers(-8, SHAPE[axis] + 8, 2))
            if rng.random() < 0.5:
                query.append(f"min{name}={low}")
                inside &= grid >= low
                blocks &= grid // BLOCK >= low // BLOCK
            if rng.random() < 0.5:
                query.append(f"max{name}={high}")
                inside &= grid <= high
                blocks &= grid // BLOCK <= high // BLOCK
        text = "&".join(query)
        head = live.call("HEAD", f"{node}/sparsevol/{label}?{text}").status
        exact = live.call("GET", f"{node}/sparsevol/{label}?{text}")
        coarse = live.ok("GET", f"{node}/sparsevol-coarse/{label}?{text}").body
        cells = (whole & blocks).reshape(2, BLOCK, 2, BLOCK, 3, BLOCK).any(axis=(1, 3, 5))
        assert np.array_equal(decode_runs(coarse, cells.shape), cells)
        if not cells.any():
            assert (exact.status, head) == (404, 204)
            continue
        assert (exact.status, head) == (200, 200)
        if (whole & inside).any():
            assert np.array_equal(decode_runs(exact.body, SHAPE), whole & inside)
        else:
            assert exact.body == b""
        loose = live.ok("GET", f"{node}/sparsevol/{label}?{text}&exact=false").body
        assert np.array_equal(decode_runs(loose, SHAPE), whole & blocks)


def test_a_point_finds_its_body_or_its_supervoxel(live: Any, node: str, volume: Any) -> None:
    z, y, x = (int(n) for n in np.argwhere(volume == 2)[0])
    body = live.ok("GET", f"{node}/sparsevol/1").body
    sv = live.ok("GET", f"{node}/sparsevol/2?supervoxels=true").body
    assert live.ok("GET", f"{node}/sparsevol-by-point/{x}_{y}_{z}").body == body
    path = f"{node}/sparsevol-by-point/{x}_{y}_{z}?supervoxels=true"
    assert live.ok("GET", path).body == sv
    assert live.call("GET", f"{node}/sparsevol-by-point/9000_0_0").status == 400


def test_a_supervoxel_that_is_no_body_has_a_volume_as_supervoxel_only(live: Any, node: str) -> None:
    assert live.call("GET", f"{node}/sparsevol/2").status == 404
    assert live.call("HEAD", f"{node}/sparsevol/2").status == 204
    assert live.call("HEAD", f"{node}/sparsevol/2?supervoxels=true").status == 200
    assert live.call("GET", f"{node}/sparsevol/12345?supervoxels=true").status == 404


def test_coarse_volumes_of_a_range_are_those_of_its_bodies(live: Any, node: str) -> None:
    data = live.ok("GET", f"{node}/sparsevols-coarse/1/6").body
    at, found = 0, {}
    while at < len(data):
        label, spans = struct.unpack_from("<QI", data, at)
        found[label] = data[at + 12 : at + 12 + 16 * spans]
        at += 12 + 16 * spans
    bodies = [n for n in live.ok("GET", f"{node}/existing-labels").json() if n <= 6]
    assert list(found) == bodies
    for label, runs in found.items():
        assert live.ok("GET", f"{node}/sparsevol-coarse/{label}").body[12:] == runs
