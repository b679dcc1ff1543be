"""What may be read of a keyvalue instance.

Long answers are read page by page, each page in a transaction of its own: rows are never changed, so
a view bounded by a sequence gives the same answer in a later transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from dvid_es.datatypes.keyvalue.rows import (
    GROUP,
    HEAD_BYTES,
    VALUES,
    bulk_length,
    decode_value,
    key_of,
    start_of,
    stop_of,
    value_key,
)
from dvid_es.errors import VersionConflict
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import BulkReader, ReadTxn
from dvid_es.versions import View

PAGE_ROWS = 1000
FETCH_BYTES = 4 << 20


class Found(NamedTuple):
    """The value of a key, not yet fetched, and the event that wrote it."""

    bulk: Bulk
    sequence: int


Item = tuple[bytes, Bulk]
"""A key (UTF-8) and its value, not yet fetched."""


def find(txn: ReadTxn, instance: int, key: str, view: View) -> Found | None:
    """Return what a view sees under a key, or None.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    try:
        row = versioned.read_row(txn, value_key(instance, key.encode()), view)
    except VersionConflict as conflict:
        raise VersionConflict(f'key "{key}": {conflict}') from None
    if row is None or not row.value:
        return None
    return Found(decode_value(row.value).bulk, row.sequence)


def scan(
    txn: ReadTxn, instance: int, view: View, first: bytes, last: bytes | None
) -> Iterator[Item]:
    """Iterate over the keys of [first, last] that have a value, in the order of their bytes.

    Keys in conflict at a version merge are left out. `last` of None is the end.
    """
    start = start_of(instance, first)
    stop = instance_key(instance, VALUES + 1) if last is None else stop_of(instance, last)
    if start >= stop:
        return
    group = b""
    waiting: list[Item] = []
    for row_key, value in versioned.scan(txn, start, stop, view):
        stored = decode_value(value)
        key = key_of(row_key, stored)
        near = row_key[HEAD_BYTES : HEAD_BYTES + GROUP]
        if waiting and near != group:
            yield from sorted(waiting, key=_by_key)
            waiting = []
        if key < first or (last is not None and key > last):
            continue
        if len(near) < GROUP:
            yield key, stored.bulk
        else:  # neighbours may be in the order of their hashes
            group = near
            waiting.append((key, stored.bulk))
    yield from sorted(waiting, key=_by_key)


def _by_key(item: Item) -> bytes:
    return item[0]


@dataclass(frozen=True, slots=True)
class Pinned:
    """One state of one instance at one version, readable in many short transactions."""

    open: Callable[[], AbstractContextManager[ReadTxn]]
    packs: BulkReader
    instance: int
    view: View
    """Bounded by a sequence."""

    def pages(
        self, first: bytes, last: bytes | None, rows: int = PAGE_ROWS
    ) -> Iterator[list[Item]]:
        """Iterate over `scan` in pages of at most `rows` keys."""
        while True:
            page: list[Item] = []
            with self.open() as txn:
                for item in scan(txn, self.instance, self.view, first, last):
                    page.append(item)
                    if len(page) == rows:
                        break
            if page:
                yield page
            if len(page) < rows:
                return
            first = page[-1][0] + b"\0"  # the smallest key that is greater

    def fetched(self, items: Sequence[tuple[Any, Bulk | None]]) -> Iterator[tuple[Any, bytes]]:
        """Iterate over items with their values fetched, about 4 MiB at once; None is empty."""
        batch: list[tuple[Any, Bulk]] = []
        size = 0
        for name, bulk in items:
            batch.append((name, bulk if bulk is not None else b""))
            size += bulk_length(bulk) if isinstance(bulk, PackRef) else 0
            if size >= FETCH_BYTES:
                yield from self._fetch(batch)
                batch, size = [], 0
        yield from self._fetch(batch)

    def _fetch(self, batch: list[tuple[Any, Bulk]]) -> Iterator[tuple[Any, bytes]]:
        refs = [bulk for _, bulk in batch if isinstance(bulk, PackRef)]
        values = iter(self.packs.get_many(refs) if refs else ())
        for name, bulk in batch:
            yield name, next(values) if isinstance(bulk, PackRef) else bulk

    def find_all(self, keys: Sequence[str]) -> list[Bulk | None]:
        """Return the values of many keys, not yet fetched.

        Raises:
            VersionConflict: one of them is in conflict.
        """
        with self.open() as txn:
            found = [find(txn, self.instance, key, self.view) for key in keys]
        return [None if item is None else item.bulk for item in found]
