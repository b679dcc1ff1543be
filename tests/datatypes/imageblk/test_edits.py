"""Random writes of volumes over versions, beside a model of numpy; and rebuilt from the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datatypes.imageblk import volume_model as model
from tests.datatypes.imageblk.volume_model import Model
from tests.datatypes.labelarray.label_model import check_rebuilt

SIDE = 8
GRID = 5
LOW = -2
GROUND = 7
SPANS = [[-2, -2, -2, 0], [-1, 0, 1, 2], [0, 1, -2, 2], [2, 2, 2, 2]]


def in_region() -> np.ndarray:
    inside = np.zeros((GRID,) * 3, bool)
    for z, y, x0, x1 in SPANS:
        inside[z - LOW, y - LOW, x0 - LOW : x1 - LOW + 1] = True
    return inside


class Walk:
    """Random requests to a volume at several versions."""

    def __init__(self, live: Any, seed: int, compression: str) -> None:
        self.live = live
        self.rng = np.random.default_rng(seed)
        self.root = live.new_repo()
        config = {"BlockSize": "8,8,8", "Background": str(GROUND), "Compression": compression}
        live.new_instance(self.root, "uint8blk", "grey", **config)
        live.new_instance(self.root, "roi", "area", BlockSize="8,8,8")
        live.ok("POST", f"/api/node/{self.root}/area/roi", json_body=SPANS)
        self.models = {self.root: Model(SIDE, GRID, LOW)}
        self.open = [self.root]

    def node(self, uuid: str) -> str:
        return f"/api/node/{uuid}/grey"

    def step(self) -> None:
        uuid = self.open[self.rng.integers(len(self.open))]
        kinds = ["volume"] * 3 + ["masked", "row", "row", "extents", "resolution", "version"]
        getattr(self, str(self.rng.choice(kinds)))(uuid, self.models[uuid])

    def box(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First block and number of blocks of a random box of the grid (z, y, x)."""
        first = self.rng.integers(0, GRID, 3)
        count = [int(self.rng.integers(1, min(3, GRID - a) + 1)) for a in first]
        return tuple(first.tolist()), tuple(count)

    def volume(self, uuid: str, known: Model, **query: str) -> None:
        first, count = self.box()
        shape = tuple(n * SIDE for n in count)
        voxels = model.noise(shape, "u1", int(self.rng.integers(1 << 30)))
        if self.rng.random() < 0.3:
            voxels = np.full(shape, int(self.rng.integers(256)), np.uint8)
        offset = [(a + LOW) * SIDE for a in first[::-1]]
        model.post(self.live, self.node(uuid), voxels, tuple(offset), **query)
        inside = in_region() if query else np.ones((GRID,) * 3, bool)
        for step in np.ndindex(*count):
            at = tuple(a + b for a, b in zip(first, step, strict=True))
            if inside[at]:
                part = tuple(slice(b * SIDE, (b + 1) * SIDE) for b in step)
                known.write(at, voxels[part])
        known.grow(offset, [a + n - 1 for a, n in zip(offset, shape[::-1], strict=True)])

    def masked(self, uuid: str, known: Model) -> None:
        self.volume(uuid, known, roi="area")

    def row(self, uuid: str, known: Model) -> None:
        (z, y, x), (_, _, count) = self.box()
        voxels = model.noise((count, SIDE, SIDE, SIDE), "u1", int(self.rng.integers(1 << 30)))
        body = voxels.tobytes() + b"more" * int(self.rng.integers(2))
        path = f"{self.node(uuid)}/blocks/{x + LOW}_{y + LOW}_{z + LOW}/{count}"
        self.live.ok("POST", path, body)
        for place in range(count):
            known.write((z, y, x + place), voxels[place])

    def extents(self, uuid: str, known: Model) -> None:
        box = self.rng.integers(-30, 30, 6).tolist()
        body = {"MinPoint": box[:3], "MaxPoint": box[3:]}
        self.live.ok("POST", f"{self.node(uuid)}/extents", json_body=body)
        known.extents = box

    def resolution(self, uuid: str, known: Model) -> None:
        sizes = self.rng.choice([4, 8, 33.25], 3).tolist()
        self.live.ok("POST", f"{self.node(uuid)}/resolution", json_body=sizes)
        for version in self.models:
            info = self.live.ok("GET", f"{self.node(version)}/info").json()
            assert info["Extended"]["VoxelSize"] == sizes, "the same at every version"

    def version(self, uuid: str, known: Model) -> None:
        if len(self.models) >= 5:
            return
        self.live.commit(uuid)
        self.open.remove(uuid)
        for branch in range(int(self.rng.integers(1, 3))):
            body = {"branch": f"b{len(self.models)}-{branch}"}
            child = self.live.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()["child"]
            self.models[child] = known.child()
            self.open.append(child)

    def check(self, uuid: str, known: Model) -> None:
        live, node = self.live, self.node(uuid)
        side, corner = GRID * SIDE, LOW * SIDE
        got = model.read(live, node, (side + 9,) * 3, (corner - 4,) * 3)
        assert np.array_equal(got[4:-5, 4:-5, 4:-5], known.volume)
        assert not got[:4].any()
        assert not got[:, :, -5:].any()
        shown = np.where(in_region(), 1, 0).repeat(SIDE, 0).repeat(SIDE, 1).repeat(SIDE, 2)
        there = known.there.repeat(SIDE, 0).repeat(SIDE, 1).repeat(SIDE, 2)
        masked = np.where(there & (shown == 0), np.uint8(GROUND), known.volume)
        box = ((side,) * 3, (corner,) * 3)
        assert np.array_equal(model.read(live, node, *box, roi="area"), masked)
        pixels = live.ok("GET", f"{node}/raw/xz/{side}_{side}/{corner}_3_{corner}").body
        assert np.array_equal(model.picture(pixels), known.volume[:, 3 - corner])
        for z, y in ((0, 1), (3, 3)):
            row = live.ok("GET", f"{node}/blocks/{LOW}_{y + LOW}_{z + LOW}/{GRID}").body
            blocks = np.frombuffer(row, np.uint8).reshape(GRID, SIDE, SIDE, SIDE)
            for x in range(GRID):
                at = (z, y, x)
                expected = known.volume[known.block(at)] if known.there[at] else GROUND
                assert (blocks[x] == expected).all()
        stream = f"{node}/subvolblocks/{model.words(*box)}"
        found = model.split_stream(live.ok("GET", stream, compression="uncompressed").body)
        places = [tuple(a - LOW for a in xyz[::-1]) for xyz, _ in found]
        assert places == [tuple(at) for at in np.argwhere(known.there).tolist()]
        for at, (_, payload) in zip(places, found, strict=True):
            assert payload == known.volume[known.block(at)].tobytes()
        extents = live.ok("GET", f"{node}/info").json()["Extents"]
        found = [*(extents["MinPoint"] or ()), *(extents["MaxPoint"] or ())]
        assert found == (known.extents or self.around())

    def around(self) -> list[int]:
        """Extents of all branches, which are shown where a version has none."""
        boxes = np.array([one for uuid in self.open if (one := self.models[uuid].extents)])
        if not len(boxes):
            return []
        return [*boxes[:, :3].min(axis=0).tolist(), *boxes[:, 3:].max(axis=0).tolist()]


@pytest.mark.parametrize(("seed", "compression"), [(1, "lz4"), (2, "gzip"), (3, "snappy")])
def test_every_read_follows_random_writes_over_versions(
    live: Any, seed: int, compression: str, tmp_path: Path
) -> None:
    walk = Walk(live, seed, compression)
    for _ in range(45):
        walk.step()
    assert len(walk.models) > 1
    for uuid, known in walk.models.items():
        walk.check(uuid, known)
    check_rebuilt(live, tmp_path)


def merged(live: Any, root: str, left: str, right: str) -> str:
    body = {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    child: str = live.ok("POST", f"/api/repo/{root}/merge", json_body=body).json()["child"]
    return child


def two_branches(live: Any) -> tuple[str, str, str]:
    root = live.new_repo()
    node = live.new_instance(root, "uint8blk", "grey", BlockSize="8,8,8")
    model.post(live, node, np.full((8, 8, 24), 1, np.uint8))
    live.commit(root)
    sides = []
    for value, x in ((50, 0), (60, 1)):
        body = {"branch": f"b{value}"}
        side = live.ok("POST", f"/api/node/{root}/branch", json_body=body).json()["child"]
        path = f"/api/node/{side}/grey"
        for block, voxel in ((x, value), (2, value)):
            model.post(live, path, np.full((8, 8, 8), voxel, np.uint8), (8 * block, 0, 0))
        model.post(live, path, np.full((8, 8, 8), 9, np.uint8), (8 * (value - 40), 0, 0))
        live.commit(side)
        sides.append(side)
    return root, *sides


def test_a_merge_has_the_blocks_of_both_and_refuses_those_that_differ(
    live: Any, tmp_path: Path
) -> None:
    root, left, right = two_branches(live)
    child = merged(live, root, left, right)
    node = f"/api/node/{child}/grey"
    both = model.read(live, node, (16, 8, 8), (0, 0, 0))
    assert (both[:, :, :8] == 50).all()
    assert (both[:, :, 8:] == 60).all()
    for path in ("raw/0_1_2/8_8_8/16_0_0", "raw/xy/30_8/0_0_0", "blocks/0_0_0/3",
                 "subvolblocks/24_8_8/0_0_0", "specificblocks?blocks=2,0,0",
                 "arb/0_0_0/180_0_0/0_40_0/8"):  # fmt: skip
        assert live.call("GET", f"{node}/{path}").status == 400, path
    extents = live.ok("GET", f"{node}/info").json()["Extents"]
    assert extents == {"MinPoint": [0, 0, 0], "MaxPoint": [167, 7, 7]}
    conflicts = live.ok("GET", f"/api/repo/{child}/conflicts").json()
    assert "block 2,0,0" in str(conflicts)
    model.post(live, node, np.full((8, 8, 8), 77, np.uint8), (16, 0, 0))
    assert (model.read(live, node, (8, 8, 8), (16, 0, 0)) == 77).all()
    check_rebuilt(live, tmp_path)


def test_a_merge_is_resolved_in_favour_of_the_first_parent(live: Any, tmp_path: Path) -> None:
    root, left, right = two_branches(live)
    body = {"data": ["grey"], "parents": [right, left], "note": "right first"}
    child = live.ok("POST", f"/api/repo/{root}/resolve", json_body=body).json()["child"]
    found = model.read(live, f"/api/node/{child}/grey", (24, 8, 8), (0, 0, 0))
    assert found[0, 0, ::8].tolist() == [50, 60, 60]
    check_rebuilt(live, tmp_path)


def test_an_earlier_state_is_read_by_its_sequence(live: Any) -> None:
    root = live.new_repo()
    node = live.new_instance(root, "uint8blk", "grey", BlockSize="8,8,8")
    block = np.full((8, 8, 8), 1, np.uint8)
    model.post(live, node, block)
    answer = live.ok("POST", f"{node}/blocks/0_0_0/1", (block * 2).tobytes())
    before = int(answer.headers["x-dvid-es-seq"]) - 1
    assert (model.read(live, node, (8, 8, 8), (0, 0, 0), at=str(before)) == 1).all()
    assert (model.read(live, node, (8, 8, 8), (0, 0, 0)) == 2).all()
