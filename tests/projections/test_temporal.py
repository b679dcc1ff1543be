"""Many temporal rows at once are what one after the other is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dvid_es.errors import VersionConflict
from dvid_es.projections import versioned
from dvid_es.projections.catalog import RepoDocument, instance_key, put_repo, put_version
from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.projections.temporal import put_many, read_many, scan_pages
from dvid_es.versions import Version, View

ROOT = "a" * 32
PARENTS = {1: (), 2: (1,), 3: (2,), 4: (2,), 5: (4,), 6: (3, 5), 7: (6,)}
"""Versions 3 and 5 are merged in 6."""

KIND = instance_key(1, 80)
WIDTH = len(KIND) + 2


@pytest.fixture(params=[1, 2, 3])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LmdbTxn]:
    """Random rows of sixty keys at all versions, some of them tombstones."""
    rng = np.random.default_rng(request.param)
    store = Store(tmp_path / "store", map_bytes=1 << 26)
    with store.write() as batch:
        txn = batch.scope(ROOT, None, None)
        put_repo(txn, RepoDocument(root=ROOT))
        for ordinal, parents in PARENTS.items():
            put_version(txn, Version(id=ordinal, uuid=f"{ordinal:032x}", parents=parents))
        for sequence in range(400):
            key = KIND + int(rng.integers(60)).to_bytes(2, "big")
            value = b"" if rng.random() < 0.2 else b"%d" % sequence
            versioned.put(txn, key, int(rng.integers(1, 8)), sequence, value)
    with store.read(ROOT) as reading:
        yield reading
    store.close()


def views(txn: LmdbTxn) -> Iterator[View]:
    for version in PARENTS:
        for last in (0, 50, 200, 399, None):
            view = txn.repo.graph.view(version)
            yield view if last is None else view.at(last)


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
def test_pages_are_what_a_scan_finds(rows: LmdbTxn, page: int) -> None:
    linear = set()
    for view in views(rows):
        linear.add(view.linear)
        expected = list(versioned.scan(rows, KIND, KIND + b"\xff" * 3, view))
        found = []
        for keys, values in scan_pages(rows, KIND, KIND + b"\xff" * 3, view, WIDTH, page):
            assert keys.shape == (len(values), WIDTH)
            found += [(key.tobytes(), value) for key, value in zip(keys, values, strict=True)]
        assert found == expected
    assert linear == {True, False}


def test_pages_begin_and_end_where_they_are_told_to(rows: LmdbTxn) -> None:
    view = rows.repo.graph.view(5)
    start, stop = KIND + b"\0\x10", KIND + b"\0\x20"
    expected = dict(versioned.scan(rows, start, stop, view))
    found = {
        key.tobytes(): value
        for keys, values in scan_pages(rows, start, stop, view, WIDTH, 5)
        for key, value in zip(keys, values, strict=True)
    }
    assert found == expected
    assert list(scan_pages(rows, stop, stop, view, WIDTH)) == []


@pytest.mark.parametrize("some", [slice(0, 5), slice(None), slice(None, None, -1)])
def test_many_keys_are_read_as_each_one_alone(rows: LmdbTxn, some: slice) -> None:
    # Also of keys without a row: below the first, between, behind the last of all rows.
    ends = (b"\0\0", b"\0\xff", b"\xff\xff", *(bytes((0, n)) for n in range(60)))
    other = instance_key(2**32 - 1, 255) + b"\0\0"
    keys = [*(KIND + end for end in ends), other, other][some]
    read = conflicts = 0
    for view in views(rows):
        try:
            alone = [versioned.read(rows, key, view) for key in keys]
        except VersionConflict:
            conflicts += 1
            with pytest.raises(VersionConflict):
                read_many(rows, keys, view)
        else:
            read += 1
            assert read_many(rows, keys, view) == alone
    assert read > conflicts > 0 or len(keys) < 10


@pytest.mark.parametrize("count", [0, 1, 7, 8, 30])
def test_many_rows_are_written_as_each_one_alone(tmp_path: Path, count: int) -> None:
    store = Store(tmp_path / "store", map_bytes=1 << 26)
    keys = [KIND + bytes((number, 0)) for number in reversed(range(count))]
    wide = [key + b"\0" * (number % 3) for number, key in enumerate(keys)]
    values = [b"x" * (number % 4) for number in range(count)]
    written = []
    for number, some in enumerate((keys, keys, wide, wide)):
        with store.write() as batch:
            txn = batch.scope(f"{number}" * 32, None, None)
            if number % 2:
                put_many(txn, some, values, 3, 9)
            else:
                for key, value in zip(some, values, strict=True):
                    versioned.put(txn, key, 3, 9, value)
            written.append(list(txn.scan(b"", b"\xff")))
    store.close()
    assert len(written[0]) == count
    assert written[0] == written[1]
    assert written[2] == written[3]


def test_rows_without_as_many_values_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", map_bytes=1 << 26)
    keys = [KIND + bytes((number, 0)) for number in range(20)]
    with store.write() as batch:
        txn = batch.scope(ROOT, None, None)
        with pytest.raises(ValueError, match="zip"):
            put_many(txn, keys, [b"x"] * 19, 1, 1)
    store.close()
