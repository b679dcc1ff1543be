"""What folds, commands and reads see of a store: protocols, no LMDB.

Keys are those of one repository; the store adds the repository's own prefix. A key begins with the
instance (u32, big endian; 0 for the repository itself) and the kind of row (one byte): see KEYS.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.versions import View

if TYPE_CHECKING:
    from dvid_es.projections.catalog import Repo

Pair = tuple[bytes, bytes]

KeyTable = NDArray[np.uint8]
"""Keys of one width, uint8[n, ROOM_BEFORE + width + ROOM_BEHIND]: the store writes into the room what
its own keys have before and behind."""

ROOM_BEFORE = 4
ROOM_BEHIND = 12


class BulkReader(Protocol):
    """Where bulk values are fetched from: the packs of the repository."""

    def get(self, ref: PackRef) -> bytes:
        """Return one value, checked against its reference."""

    def get_many(self, refs: Sequence[PackRef]) -> list[bytes]:
        """Return several values, each checked."""


class ReadTxn(Protocol):
    """One consistent state of the projections of one repository."""

    repo: "Repo"
    """Versions and instances in this state."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under exactly this key."""

    def seek(self, start: bytes) -> Pair | None:
        """Move to the first row at or after `start` and return it."""

    def seek_many(self, keys: Sequence[bytes], suffix: bytes) -> list[Pair | None]:
        """Return of each key the first row that begins with it, at or after key + suffix."""

    def seek_table(self, keys: KeyTable, suffix: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return of the first row at or after each key + suffix what follows the key, and the value.

        The suffix is of 12 bytes. Where that row does not begin with the key, it is there whole, which no
        view takes for a suffix; or nothing is, where there is no row.
        """

    def next(self) -> Pair | None:
        """Move on by one row after a `seek` and return it."""

    def scan(self, start: bytes, stop: bytes) -> Iterator[Pair]:
        """Iterate over the rows of [start, stop) in order of their keys."""

    def under(self, starts: Sequence[bytes]) -> tuple[list[Pair], list[int]]:
        """Return the rows whose keys begin with `starts`, and how many belong to each."""

    def view(self, version: int) -> View:
        """Return what a read at `version` sees in this state (as of the request's sequence)."""

    def bulk(self, value: Bulk) -> bytes:
        """Return the bytes of a bulk value."""

    def bulk_many(self, values: Sequence[Bulk]) -> list[bytes]:
        """Return the bytes of several bulk values."""


class WriteTxn(ReadTxn, Protocol):
    """A state that is being changed; nobody else sees the changes until it commits."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set one row."""

    def put_many(self, rows: Iterable[Pair], suffix: bytes = b"") -> None:
        """Set many rows, `suffix` added to each key; sorted ones are fastest."""

    def put_table(self, keys: KeyTable, suffix: bytes, values: Sequence[bytes]) -> None:
        """Set the rows of many keys + suffix; sorted ones are fastest."""

    def delete(self, key: bytes) -> None:
        """Remove one row, if it is there. Never used on temporal rows."""
