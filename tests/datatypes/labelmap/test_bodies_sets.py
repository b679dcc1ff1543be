"""Sets of thousands of supervoxels: bases, what has left them, and their joining; rows of bodies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import Base, Body, Last
from dvid_es.datatypes.labelmap.bodies.labelsets import member, union, without
from dvid_es.events import Header, Record
from dvid_es.projections.catalog import Instance, RepoDocument, put_instance, put_repo, put_version
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.versions import Version

ROOT = "0" * 32


def labels(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def record(offset: int) -> Record:
    return Record(offset, 0, Header(version=1, instance=1), None)  # type: ignore[arg-type]


@pytest.fixture
def txn(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = Store(tmp_path / "store")
    with store.write() as batch:
        scoped = batch.scope(ROOT, None, None)
        put_repo(scoped, RepoDocument(root=ROOT))
        put_version(scoped, Version(id=1, uuid=ROOT))
        instance = Instance(id=1, name="seg", typename="labelmap", data_uuid="", version=1)
        put_instance(scoped, instance)
        yield scoped
    store.close()


@pytest.mark.parametrize("seed", range(3))
def test_large_sets_grow_and_shrink_like_python_sets(txn: LmdbTxn, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model: set[int] = set()
    body = Body()
    past = []
    for offset in range(120):
        if model and rng.random() < 0.45:
            size = int(rng.choice([1, 3, 50, 400, len(model) - 1]))
            gone = rng.choice(sorted(model), min(max(size, 1), len(model)), replace=False)
            model -= set(gone.tolist())
            body = bodysets.with_removed(txn, record(offset), 5, body, np.sort(gone).astype("u8"))
        else:
            new = rng.integers(1, 30_000, int(rng.choice([1, 5, 300, 2500])))
            new = np.setdiff1d(np.unique(new), np.array(sorted(model), np.int64))
            model |= set(new.tolist())
            body = bodysets.with_added(txn, record(offset), 5, body, new.astype(np.uint64))
        value = bodyrow.encode(body)
        assert bodyrow.encode(bodyrow.decode(value)) == value
        past.append((value, sorted(model)))
        assert body.members == len(model)
        assert len(body.bases) <= 7, "few bases"
        assert len(value) < 8 * 8 * 400 + 500, "a row is short, however large the body"
        asked = np.unique(rng.integers(1, 30_000, 200).astype(np.uint64))
        inside = bodysets.contains(txn, 1, body, asked)
        assert inside.tolist() == [int(label) in model for label in asked]
    for value, expected in past:
        found = bodysets.supervoxels(txn, 1, bodyrow.decode(value))
        assert found.tolist() == expected, "older rows keep their sets"


def test_moving_a_few_supervoxels_of_a_large_body_writes_little(txn: LmdbTxn) -> None:
    many = np.arange(1, 100_001, dtype=np.uint64)
    body = bodysets.with_added(txn, record(0), 5, Body(), many)
    written: list[int] = []
    put = LmdbTxn.put

    def counting(self: LmdbTxn, key: bytes, value: bytes) -> None:
        written.append(len(value))
        put(self, key, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LmdbTxn, "put", counting)
        for offset in range(1, 101):
            body = bodysets.with_removed(txn, record(offset), 5, body, labels(offset * 7))
            body = bodysets.with_added(txn, record(offset), 5, body, labels(200_000 + offset))
            bodysets.put(txn, record(offset), 5, body)
    assert sum(written) < 100 * 2500, "of a set of 800,000 bytes"
    assert body.members == 100_000


def test_a_row_keeps_all_that_it_is_told() -> None:
    body = Body(
        voxels=2**40, members=7, last=Last(10**9 + 3, "2024-01-02T03:04:05Z", "José", 'a "b"'),
        bases=(Base(5, 17, 0, 9, labels(4, 6)), Base(2**64 - 1, 2**40, 3, 2, labels())),
        added=labels(1, 2**64 - 1), overridden=True,
    )  # fmt: skip
    found = bodyrow.decode(bodyrow.encode(body))
    assert (found.last, found.voxels, found.overridden) == (body.last, 2**40, True)
    assert [base[:4] for base in found.bases] == [base[:4] for base in body.bases]
    assert found.bases[0].removed.tolist() == [4, 6]
    assert found.added.tolist() == [1, 2**64 - 1]


def test_a_small_body_is_read_without_making_an_object_of_it() -> None:
    value = bodyrow.encode_single(77, 1234)
    assert bodyrow.peek(value) == (1234, 1, labels(77).tobytes(), False)
    body = bodyrow.decode(value)
    assert (body.voxels, body.members, body.added.tolist()) == (1234, 1, [77])
    assert bodyrow.encode(body) == value


@pytest.mark.parametrize("seed", range(5))
def test_set_operations_agree_with_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = np.unique(rng.integers(0, 200, 60).astype(np.uint64))
    b = np.setdiff1d(np.unique(rng.integers(0, 200, 60).astype(np.uint64)), a)
    asked = rng.integers(0, 200, 50).astype(np.uint64)
    assert union(a, b).tolist() == np.union1d(a, b).tolist()
    assert without(a, np.sort(asked)).tolist() == np.setdiff1d(a, asked).tolist()
    assert member(asked, a).tolist() == np.isin(asked, a).tolist()
    assert member(asked, a[:0]).tolist() == [False] * 50
