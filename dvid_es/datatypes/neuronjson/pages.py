"""Annotations page by page, each page in a transaction of its own.

Rows are never changed, so a view bounded by a sequence gives the same answer in a later transaction.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dvid_es.datatypes.neuronjson.reads import Item, find, scan
from dvid_es.datatypes.neuronjson.rows import LARGEST, decode
from dvid_es.datatypes.neuronjson.values import Stored
from dvid_es.http.streaming import Snapshot

PAGE_ROWS = 1000


class Pinned(NamedTuple):
    """One state of one instance at one version, readable in many short transactions."""

    snapshot: Snapshot
    instance: int

    def pages(self, first: int = 0, last: int = LARGEST) -> Iterator[list[Item]]:
        """Iterate over `scan` in pages."""
        while True:
            page: list[Item] = []
            with self.snapshot.open() as txn:
                for item in scan(txn, self.instance, self.snapshot.view, first, last):
                    page.append(item)
                    if len(page) == PAGE_ROWS:
                        break
            if page:
                yield page
            if len(page) < PAGE_ROWS or page[-1][0] == LARGEST:
                return
            first = page[-1][0] + 1

    def items(self, first: int = 0, last: int = LARGEST) -> Iterator[tuple[int, Stored]]:
        """Iterate over bodies and annotations."""
        for page in self.pages(first, last):
            for body, row in page:
                yield body, decode(row)

    def find_pages(self, bodies: Sequence[int]) -> Iterator[list[Stored | None]]:
        """Iterate over the annotations of bodies, in this order and in pages.

        Raises:
            VersionConflict: one of them is in conflict.
        """
        for start in range(0, len(bodies), PAGE_ROWS):
            with self.snapshot.open() as txn:
                page = bodies[start : start + PAGE_ROWS]
                view = self.snapshot.view
                found = [find(txn, self.instance, body, view) for body in page]
            yield found
