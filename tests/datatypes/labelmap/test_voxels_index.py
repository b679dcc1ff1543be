from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvid_es.bootstrap import make_projector, row_kinds
from dvid_es.codecs import storedblock
from dvid_es.datatypes.labelmap import LABELMAP
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks, prepare
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut
from dvid_es.errors import InvalidRequest
from dvid_es.events import Header, Record
from dvid_es.geometry import Box
from dvid_es.projections import catalog, temporal, versioned
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.replay.digest import digests
from dvid_es.replay.rebuild import build
from dvid_es.replay.verify import Difference, verify
from dvid_es.settings import Settings
from dvid_es.versions import Version
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

SEG = 1
COUNTED = prepare.Wanted(counted=True, kept=False)
Contents = dict[tuple[int, int, int], np.ndarray]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with a labelmap of 16^3 blocks and the versions 1 < 2, 1 < 3."""
    found = Store(tmp_path / "store")
    settings = LABELMAP.create({"blocksize": "16,16,16", "maxdownreslevel": "2"}).settings
    instance = catalog.Instance(
        id=SEG, name="seg", typename="labelmap", data_uuid="x", version=1, settings=settings
    )
    with found.write() as batch:
        txn = batch.scope("root", None, None)
        catalog.put_repo(txn, catalog.RepoDocument(root="root"))
        catalog.put_version(txn, Version(id=1, uuid="root"))
        catalog.put_version(txn, Version(id=2, uuid="two", parents=(1,)))
        catalog.put_version(txn, Version(id=3, uuid="three", parents=(1,)))
        catalog.put_instance(txn, instance)
    yield found
    found.close()


def event(contents: Contents, **more: Any) -> BlocksPut:
    coords = np.array(sorted(contents), np.int32)
    payloads = [memoryview(oracle.packed(contents[tuple(at)])) for at in coords.tolist()]
    prepared = prepare.prepare_payloads(coords, payloads, (16, 16, 16), COUNTED)
    return BlocksPut(
        scale=0,
        coords=coords.astype("<i4").tobytes(),
        blocks=tuple(one.stored for one in prepared),
        indexed=True,
        counts=prepare.counts_bytes(prepare.join_counts(prepared)),
        **more,
    )


def apply(store: Store, offset: int, version: int, what: BlocksPut) -> None:
    with store.write() as batch:
        txn = batch.scope("root", None, None)
        record = Record(offset, 0, Header(version=version, instance=SEG), what)
        make_projector().apply(txn, record)


def index_of(contents: Contents) -> dict[int, dict[tuple[int, int, int], int]]:
    found: dict[int, dict[tuple[int, int, int], int]] = {}
    for at, cube in contents.items():
        for label, count in oracle.sizes(cube).items():
            found.setdefault(label, {})[at] = count
    return found


def check(
    txn: LmdbTxn, version: int, contents: Contents, labels: range, at: int | None = None
) -> None:
    view = txn.repo.graph.view(version, at)
    expected = index_of(contents)
    svs = np.array(labels, np.uint64)
    starts, coords, counts = svindex.read_many_blocks(txn, SEG, svs, view)
    for place, label in enumerate(labels):
        a, b = starts[place], starts[place + 1]
        pairs = zip(map(tuple, coords[a:b].tolist()), counts[a:b].tolist(), strict=True)
        assert dict(pairs) == expected.get(label, {})
    totals = [sum(expected.get(label, {}).values()) for label in labels]
    assert svindex.voxels_of(txn, SEG, svs, view).tolist() == totals
    one = labels[len(labels) // 2]
    coords, counts = svindex.read_blocks(txn, SEG, one, view)
    assert list(map(tuple, coords.tolist())) == sorted(expected.get(one, {}))


@pytest.mark.parametrize("seed", range(4))
def test_the_index_follows_any_sequence_of_writes_in_each_version(store: Store, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = range(1, 40)
    states: dict[int, Contents] = {1: {}, 2: {}, 3: {}}
    past: list[tuple[int, dict[int, Contents]]] = []
    for offset in range(14):
        # A version has children only when it is locked.
        version = 1 if offset < 5 else int(random.integers(2, 4))
        near = random.integers(-20, 20, (int(random.integers(1, 30)), 3)) // random.choice([1, 8])
        contents = {}
        for at in map(tuple, near.tolist()):
            cube = oracle.cells((16, 16, 16), 4, int(random.integers(99)))
            cube += np.uint64(random.integers(0, 35))
            contents[at] = cube * np.uint64(random.integers(0, 5) > 0)
        apply(store, offset, version, event(contents))
        for seen in (1, 2, 3) if version == 1 else (version,):
            states[seen] = {**states[seen], **contents}
        past.append((offset, {number: dict(state) for number, state in states.items()}))
    with store.read("root") as txn:
        for version, contents in states.items():
            check(txn, version, contents, labels)
        for offset, earlier in past[::3]:
            for version, contents in earlier.items():
                check(txn, version, contents, labels, at=offset)


def rows(store: Store, *kinds: int) -> list[tuple[bytes, bytes]]:
    with store.read("root") as txn:
        return [
            pair
            for kind in kinds
            for pair in txn.scan(
                catalog.instance_key(SEG, kind), catalog.instance_key(SEG, kind + 1)
            )
        ]


def test_the_same_voxels_again_change_no_index(store: Store) -> None:
    contents = {(0, 0, x): oracle.cells((16, 16, 16), 5, x + 9) for x in range(-3, 9)}
    apply(store, 0, 1, event(contents))
    kinds = (svindex.REGIONS, svindex.BLOCK_COUNTS, svindex.TOTALS, 80, 81)
    before = rows(store, *kinds)
    assert len(before) > 20
    apply(store, 1, 1, event(contents))
    apply(store, 2, 2, event(contents))
    assert rows(store, *kinds) == before


def test_rows_of_vanished_supervoxels_are_tombstones(store: Store) -> None:
    cube = np.full((16, 16, 16), 5, np.uint64)
    apply(store, 0, 1, event({(0, 0, 0): cube, (40, 0, 0): cube}))
    apply(store, 1, 2, event({(0, 0, 0): cube * 0, (40, 0, 0): cube + np.uint64(1)}))
    with store.read("root") as txn:
        check(txn, 1, {(0, 0, 0): cube, (40, 0, 0): cube}, range(4, 8))
        check(txn, 2, {(40, 0, 0): cube + np.uint64(1)}, range(4, 8))
        prefix = catalog.instance_key(SEG, svindex.TOTALS)
        found = dict(versioned.scan(txn, prefix, prefix + b"\xff" * 9, txn.view(2)))
        assert list(found) == [prefix + (6).to_bytes(8, "big")]


def test_counts_survive_their_bytes() -> None:
    contents = [oracle.cells((16, 16, 16), n, n) for n in (1, 4, 9)] + [
        np.zeros((16, 16, 16), "u8")
    ]
    payloads = [memoryview(oracle.packed(cube.astype(np.uint64))) for cube in contents]
    coords = np.zeros((4, 3), np.int32)
    prepared = prepare.prepare_payloads(coords, payloads, (16, 16, 16), COUNTED)
    counts = prepare.join_counts(prepared)
    again = prepare.counts_of(prepare.counts_bytes(counts), 4)
    for mine, other in zip(counts, again, strict=True):
        assert mine.dtype == other.dtype
        assert mine.tolist() == other.tolist()
    per_block = [int(counts.voxels[a:b].sum()) for a, b in pairwise(counts.starts.tolist())]
    assert per_block == [4096] * 3 + [0]


def test_boxes_of_blocks_are_found_whatever_way_they_are_looked_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(8)
    there = {tuple(at) for at in random.integers(-6, 7, (300, 3)).tolist()}
    later = {tuple(at) for at in random.integers(-6, 7, (300, 3)).tolist()}
    cube = np.full((16, 16, 16), 3, np.uint64)
    apply(store, 0, 1, event(dict.fromkeys(there, cube)))
    apply(store, 1, 2, event(dict.fromkeys(later, cube + np.uint64(1))))
    with store.read("root") as txn:
        for version, known in ((1, there), (2, there | later), (3, there)):
            view = txn.view(version)
            for start, stop in (
                ((-6,) * 3, (7,) * 3),
                ((-2, 0, 1), (1, 5, 3)),
                ((0,) * 3, (0, 5, 5)),
            ):
                expected = sorted(
                    at
                    for at in known
                    if all(a <= c < b for a, c, b in zip(start, at, stop, strict=True))
                )
                box = Box(start, stop)  # type: ignore[arg-type]
                for direct in (0, 10**6):
                    monkeypatch.setattr(blocks, "_DIRECT_MAX", direct)
                    coords, found = blocks.read_box(txn, SEG, 0, box, view)
                    assert list(map(tuple, coords.tolist())) == expected
                    for at, stored in zip(map(tuple, coords.tolist()), found, strict=True):
                        assert stored == blocks.read_block(txn, SEG, 0, at, view)
        far = np.array([(5, 5, 99), *list(there)[:3]], np.int32)
        assert [one is None for one in blocks.read_list(txn, SEG, 0, far, txn.view(1))] == [
            True,
            False,
            False,
            False,
        ]


def test_many_rows_are_read_as_each_one_alone(store: Store) -> None:
    random = np.random.default_rng(2)
    keys = [bytes((0, 0, 0, 9, 70)) + bytes([n]) * 4 for n in range(30)]
    with store.write() as batch:
        txn = batch.scope("root", None, None)
        for offset in range(90):
            key = keys[int(random.integers(30))]
            value = b"" if random.random() < 0.2 else offset.to_bytes(2, "big")
            versioned.put(txn, key, int(random.integers(1, 4)), offset, value)
    with store.read("root") as txn:
        for version in (1, 2, 3):
            for at in (None, 10, 50):
                view = txn.repo.graph.view(version, at)
                alone = [versioned.read(txn, key, view) for key in keys]
                assert temporal.read_many(txn, keys, view) == alone


def test_lower_scales_follow_from_partial_changes_in_any_order(store: Store) -> None:
    random = np.random.default_rng(6)
    full = np.zeros((64, 64, 64), np.uint64)
    other = full
    for offset in range(8):
        version = 1 if offset < 5 else 2
        target = full if version == 1 else other
        contents: Contents = {}
        for at in {tuple(at) for at in random.integers(0, 4, (6, 3)).tolist()}:
            cube = oracle.cells((16, 16, 16), 6, int(random.integers(999)))
            cube[random.random(cube.shape) < 0.3] = 0
            if random.random() < 0.3:
                cube[:] = random.integers(0, 2)
            contents[at] = cube
            z, y, x = (16 * c for c in at)
            target[z : z + 16, y : y + 16, x : x + 16] = cube
        apply(store, offset, version, event(contents, downres_levels=2))
        if offset == 4:
            other = full.copy()
    with store.read("root") as txn:
        for version, volume in ((1, full), (2, other)):
            for scale in (1, 2):
                volume = oracle.halved(volume)
                side = range(64 >> scale + 4)
                for at in [(z, y, x) for z in side for y in side for x in side]:
                    stored = blocks.read_block(txn, SEG, scale, at, txn.view(version))
                    z, y, x = (16 * c for c in at)
                    cube = volume[z : z + 16, y : y + 16, x : x + 16]
                    if stored is None:
                        assert not cube.any()
                    else:
                        found = prepare.storedblock.load(stored)
                        assert (oracle.decoded(found) == cube).all()


def test_rows_rebuilt_from_the_log_are_the_same(run_server: Any, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", admin_token="secret")
    with run_server(settings) as live:
        root = live.new_repo()
        live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
        seg = Segmentation(live, root)
        volume = oracle.cells((64, 64, 96), 20, seed=4)
        seg.post(volume)
        seg.post(volume[:32, :32, :32] + np.uint64(50), (32, 0, 32))
        live.commit(root)
        child = Segmentation(live, live.new_version(root))
        child.post(oracle.cells((32, 32, 32), 5, seed=8, first=700), (-32, 0, 32))
        body = oracle.stream(volume[:32], (1, 1, 0), 32)
        live.ok("POST", f"{child.node}/blocks", body, downres="true")
        live.ok("POST", f"{child.node}/ingest-supervoxels", body, scale=1)
        live.ok("POST", f"{child.node}/extents", b'{"MinPoint":[0,0,0],"MaxPoint":[9,9,9]}')
        live.ok("POST", f"{child.node}/resolution", b"[4, 4, 40]")
        kinds = row_kinds()
        expected = digests(live.engine.store, kinds)
        build(tmp_path / "again", live.engine.streams.all(), make_projector())
        again = Store(tmp_path / "again")
        try:
            assert digests(again, kinds) == expected
        finally:
            again.close()
        assert {part.kind for part in expected if part.instance} >= {64, 65, 66, 67, 68}
    expected_volume = volume.copy()
    expected_volume[32:64, :32, 32:64] = volume[:32, :32, :32] + np.uint64(50)
    with run_server(settings) as live:
        shown = Segmentation(live, root).read(volume.shape)
        assert (shown == expected_volume).all(), "the same after a restart"


def test_verify_compares_what_blocks_hold_and_not_how_they_were_compressed(
    live: Any, tmp_path: Path
) -> None:
    root = live.new_repo()
    live.new_instance(root, "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="2")
    Segmentation(live, root).post(oracle.cells((64, 64, 96), 20, seed=4))
    engine = live.engine
    prefix = catalog.instance_key(1, blocks.BLOCKS)
    with engine.store.read(root) as txn:
        rows = [(k, v) for k, v in txn.scan(prefix + b"\1", prefix + b"\2") if v[2] == 2]
    assert rows
    changed = [(key, otherwise_compressed(value)) for key, value in rows]
    assert all(ours != theirs for (_, ours), (_, theirs) in zip(rows, changed, strict=True))

    def compared(folder: str) -> list[Difference]:
        streams = engine.streams.all()
        return verify(
            engine.store, streams, engine.projector, row_kinds(), tmp_path / folder
        ).differences

    write(engine.store, root, changed)
    assert compared("same") == []
    key, value = rows[0]
    damaged = value[:-9] + bytes([value[-9] ^ 4]) + value[-8:]
    write(engine.store, root, [(key, damaged)])
    assert [found.key for found in compared("damaged")] == [key.hex()]


def otherwise_compressed(value: bytes) -> bytes:
    block = storedblock.load(value[1:])
    prefix = 16 + 8 * int.from_bytes(block[12:16], "little")
    slow = zlib.compressobj(9, wbits=-15)
    return value[: 1 + 16 + prefix] + slow.compress(block[prefix:]) + slow.flush()


def write(store: Store, root: str, rows: list[tuple[bytes, bytes]]) -> None:
    with store.write() as batch:
        txn = batch.scope(root, None, None)
        for key, value in rows:
            txn.put(key, value)


def test_a_request_whose_blocks_are_too_large_in_all_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepare, "BLOCK_BYTES_MAX", 5 * 24)
    payload = memoryview(oracle.packed(np.zeros((16, 16, 16), np.uint64)))
    coords = np.zeros((6, 3), np.int32)
    for number in (5, 6):
        wanted = prepare.Wanted(counted=False, kept=True)
        given = coords[:number], [payload] * number, (16, 16, 16), wanted
        if number == 5:
            assert len(prepare.prepare_payloads(*given)) == 5
        else:
            with pytest.raises(InvalidRequest, match="in parts"):
                prepare.prepare_payloads(*given)
