from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvid_es.datatypes.keyvalue.events import KeysDeleted, ValuesPut
from dvid_es.datatypes.keyvalue.fold import FOLDS
from dvid_es.datatypes.keyvalue.reads import Pinned, find, scan
from dvid_es.datatypes.keyvalue.rows import (
    CUT,
    GROUP,
    KEY_BYTES_MAX,
    SHORT_MAX,
    check_key,
    decode_value,
    encode_value,
    escape,
    key_of,
    value_key,
)
from dvid_es.errors import InvalidRequest
from dvid_es.events import Header, Record
from dvid_es.ids import PackRef
from dvid_es.projections.catalog import Instance, RepoDocument, put_instance, put_repo, put_version
from dvid_es.projections.store import Store
from dvid_es.versions import Version

ROOT = "0" * 32
REF = PackRef(3, 1 << 40, 12345, 0xFFFFFFFF, bytes(range(16)))

# Texts that meet every border: escapes, the cut, and neighbours that share what a row keeps.
_heads = st.sampled_from(["", "a", "x" * (GROUP - 2), "x" * GROUP, "x" * CUT, "x" * SHORT_MAX])
_tails = st.text(st.sampled_from("\0\1ax\x7fé世\U0010ffff"), max_size=40)
keys = st.builds(str.__add__, _heads, _tails)


class Rows:
    """The rows of one instance, written by events without a log."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.offset = 0
        with self.store.write() as batch:
            txn = batch.scope(ROOT, None, None)
            put_repo(txn, RepoDocument(root=ROOT))
            put_version(txn, Version(id=1, uuid=ROOT))
            put_version(txn, Version(id=2, uuid="1" * 32, parents=(1,)))
            put_instance(
                txn, Instance(id=1, name="kv", typename="keyvalue", data_uuid="", version=1)
            )

    def apply(self, event: ValuesPut | KeysDeleted, version: int = 1) -> None:
        with self.store.write() as batch:
            txn = batch.scope(ROOT, None, None)
            header = Header(version=version, instance=1, user="kat", app="")
            FOLDS[type(event)](txn, Record(self.offset, 10**18, header, event))
        self.offset += 1

    def read(self):  # type: ignore[no-untyped-def]
        return self.store.read(ROOT)

    def listed(self, version: int, first: str = "", last: str | None = None) -> list[str]:
        with self.read() as txn:
            end = None if last is None else last.encode()
            found = scan(txn, 1, txn.view(version), first.encode(), end)
            return [key.decode() for key, _ in found]


@pytest.fixture
def rows(tmp_path):
    made = Rows(tmp_path / "projections")
    yield made
    made.store.close()


@given(keys, keys)
def test_row_keys_fit_into_lmdb_and_none_is_a_prefix_of_another(one, other):
    a, b = value_key(1, one.encode()), value_key(1, other.encode())
    assert len(a) + 4 + 12 <= 511
    if one != other:
        assert not a.startswith(b)
        assert not b.startswith(a)


@given(keys, keys)
def test_short_row_keys_sort_like_their_keys(one, other):
    if all(len(escape(key.encode())) <= SHORT_MAX for key in (one, other)):
        assert (one.encode() < other.encode()) == (
            value_key(1, one.encode()) < value_key(1, other.encode())
        )


@given(keys, st.one_of(st.binary(max_size=512), st.just(REF)))
def test_a_row_gives_back_its_key_and_its_value(key, bulk):
    raw = key.encode()
    row = encode_value(raw, bulk)
    assert row, "an empty value would be a tombstone"
    stored = decode_value(row)
    assert stored.bulk == bulk
    assert key_of(value_key(1, raw), stored) == raw


def test_a_key_over_the_limit_is_refused():
    check_key("k" * KEY_BYTES_MAX)
    with pytest.raises(InvalidRequest, match="over the limit"):
        check_key("é" * KEY_BYTES_MAX)
    with pytest.raises(InvalidRequest, match="UTF-8"):
        check_key("\ud800")


@settings(max_examples=60, deadline=None)
@given(st.sets(keys, max_size=40), keys, keys, st.integers(1, 5))
def test_scans_agree_with_sorted_lists_whatever_the_keys(tmp_path_factory, wanted, first, last, by):
    rows = Rows(tmp_path_factory.mktemp("scan"))
    put = sorted(wanted, key=hash)
    rows.apply(ValuesPut(keys=tuple(put), values=(b"v",) * len(put)))
    in_order = sorted(wanted, key=str.encode)
    assert rows.listed(1) == in_order
    between = [key for key in in_order if first.encode() <= key.encode() <= last.encode()]
    assert rows.listed(1, first, last) == between
    with rows.read() as txn:
        view = txn.view(1)
    pinned = Pinned(rows.read, None, 1, view)  # type: ignore[arg-type]
    pages = list(pinned.pages(first.encode(), last.encode(), rows=by))
    assert [key.decode() for page in pages for key, _ in page] == between
    assert all(len(page) <= by for page in pages)
    rows.store.close()


def test_long_neighbours_are_separate_values(rows):
    long = ["x" * 600 + tail for tail in ("b", "a", "c")]
    rows.apply(ValuesPut(keys=tuple(long), values=(b"2", b"1", b"3")))
    rows.apply(KeysDeleted(keys=(long[2],)), version=2)
    with rows.read() as txn:
        assert [find(txn, 1, key, txn.view(2)) and 1 for key in long] == [1, 1, None]
        assert find(txn, 1, long[1], txn.view(2)).bulk == b"1"
    assert rows.listed(1) == sorted(long)
    assert rows.listed(2) == sorted(long)[:2]


def test_a_key_named_twice_in_a_batch_keeps_its_last_value(rows):
    rows.apply(ValuesPut(keys=("a", "b", "a"), values=(b"1", b"2", b"3")))
    with rows.read() as txn:
        assert find(txn, 1, "a", txn.view(1)).bulk == b"3"


def test_an_empty_value_is_not_a_tombstone(rows):
    rows.apply(ValuesPut(keys=("a",), values=(b"",)))
    with rows.read() as txn:
        assert find(txn, 1, "a", txn.view(1)).bulk == b""
    rows.apply(KeysDeleted(keys=("a",)))
    with rows.read() as txn:
        assert find(txn, 1, "a", txn.view(1)) is None
        assert find(txn, 1, "a", txn.view(1).at(0)).bulk == b""
