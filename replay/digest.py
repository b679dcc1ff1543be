"""Digests of projections: equal exactly if all rows are, whatever number a repository has in a store.

A part is one kind of row of one instance. Kinds whose name begins with "cache" are left out: what
they hold depends on when it was asked for, not on the events alone. Of a value that a fold has
compressed the content counts: which bytes a compressor chooses depends on its version and the
processor, and with ISA-L even varies between two calls.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from typing import NamedTuple

import msgspec

from dvid_es.projections.store import LmdbTxn, Store
from dvid_es.projections.txn import Pair

_LENGTHS = struct.Struct("<II")
_ROWS_PER_UPDATE = 512
_END = b"\xff" * 16
"""After every key: the instance 0xffffffff does not exist."""

REPO_KINDS = {
    1: "checkpoint",
    2: "repository",
    3: "versions",
    4: "instances",
    5: "idempotency keys",
    6: "next mutation id",
    7: "blobs",
    8: "places of mutations",
    16: "mutation records",
}
"""Names of the rows of the repository itself, and of those that any instance may have."""


def unchanged(value: bytes) -> bytes:
    """Return a value as it is."""
    return value


class Kind(NamedTuple):
    """A kind of row that a datatype keeps."""

    name: str
    """For people; "cache..." if its rows do not follow from the events alone."""

    content: Callable[[bytes], bytes] = unchanged
    """What to digest of a value."""


Kinds = Mapping[int, Kind]
"""The kinds of all datatypes, by their numbers."""


class Part(msgspec.Struct, frozen=True, order=True):
    """One kind of row of one instance of one repository."""

    root: str
    instance: int
    """0 for the repository itself."""

    kind: int
    name: str
    """Of the kind, for people."""

    rows: int
    digest: str
    """BLAKE2b, 32 bytes in hexadecimal, over lengths, keys and contents of all rows in order."""

    @property
    def place(self) -> tuple[str, int, int]:
        """Root, instance and kind."""
        return self.root, self.instance, self.kind


def digests(store: Store, kinds: Kinds, roots: list[str] | None = None) -> list[Part]:
    """Return the digest of every part of a store, sorted.

    Args:
        store: any store; each repository is read in one transaction.
        kinds: of all datatypes.
        roots: the repositories; None for all that hold a row.
    """
    found: list[Part] = []
    for root in sorted(store.roots if roots is None else roots):
        with store.read(root) as txn:
            found.extend(_parts(txn, root, kinds))
    return found


def _parts(txn: LmdbTxn, root: str, kinds: Kinds) -> Iterator[Part]:
    for prefix, rows in groupby(txn.scan(b"", _END), key=lambda row: row[0][:5]):
        instance, number = int.from_bytes(prefix[:4], "big"), prefix[4]
        kind = kind_of(number, kinds)
        if kind.name.startswith("cache"):
            continue
        count, digest = _digest(rows, kind.content)
        yield Part(root, instance, number, kind.name, count, digest)


def kind_of(number: int, kinds: Kinds) -> Kind:
    """Return a kind of row by its number."""
    if number in REPO_KINDS:
        return Kind(REPO_KINDS[number])
    return kinds.get(number) or Kind(f"kind {number}")


def _digest(rows: Iterator[Pair], content: Callable[[bytes], bytes]) -> tuple[int, str]:
    state = blake2b(digest_size=32)
    pack = _LENGTHS.pack
    waiting: list[bytes] = []
    count = 0
    for key, stored in rows:
        count += 1
        value = content(stored)
        waiting += (pack(len(key), len(value)), key, value)
        if len(waiting) >= 3 * _ROWS_PER_UPDATE:
            state.update(b"".join(waiting))
            waiting.clear()
    state.update(b"".join(waiting))
    return count, state.hexdigest()
