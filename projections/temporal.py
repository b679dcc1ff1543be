"""Many temporal rows at once: keys made and read without work per label in Python."""

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ROOM_BEFORE, ROOM_BEHIND, KeyTable, ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, View, row_suffix

SIGN = 1 << 31
_FEW = 8
"""For fewer keys than this, numpy takes longer to begin than Python to finish."""

PAGE_ROWS = 65_536

_SUFFIX = struct.Struct(">IQ")


def big_endian(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return signed coordinates int32[n, 3] as the bytes uint8[n, 12] of keys, in their order."""
    shifted = (values.astype(np.int64) + SIGN).astype(">u4")
    return shifted.view(np.uint8).reshape(len(values), 12)


def key_table(instance_id: int, kind: int, *parts: NDArray[np.uint8]) -> KeyTable:
    """Return n keys: instance, kind, then the columns of bytes `parts`, each uint8[n, any]."""
    head = np.frombuffer(instance_key(instance_id, kind), np.uint8)
    width = len(head) + sum(part.shape[1] for part in parts)
    table = np.empty((len(parts[0]), ROOM_BEFORE + width + ROOM_BEHIND), np.uint8)
    at = ROOM_BEFORE
    for part in (head, *parts):
        table[:, at : at + part.shape[-1]] = part
        at += part.shape[-1]
    return table


def label_table(instance_id: int, kind: int, labels: NDArray[np.uint64]) -> KeyTable:
    """Return n keys: instance, kind, label."""
    columns = np.ascontiguousarray(labels, ">u8").view(np.uint8).reshape(len(labels), 8)
    return key_table(instance_id, kind, columns)


def keys_of(table: KeyTable) -> list[bytes]:
    """Return the keys of a table one by one."""
    return cut(table[:, ROOM_BEFORE:-ROOM_BEHIND])


def make_keys(instance_id: int, kind: int, *parts: NDArray[np.uint8]) -> list[bytes]:
    """Return the keys of `key_table` one by one."""
    n = len(parts[0])
    if n < _FEW:
        first = instance_key(instance_id, kind)
        return [b"".join((first, *(part[i].tobytes() for part in parts))) for i in range(n)]
    return keys_of(key_table(instance_id, kind, *parts))


def cut(rows: NDArray[np.uint8]) -> list[bytes]:
    """Return the bytes of each row of uint8[n, width]."""
    rows = np.ascontiguousarray(rows)
    pieces: list[bytes] = rows.view(f"V{rows.shape[1]}")[:, 0].tolist()
    return pieces


def read_many(txn: ReadTxn, keys: Sequence[bytes], view: View) -> list[bytes | None]:
    """Return the values of keys in a view, as `read_table`; keys of one width are read fastest.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    table = _table(keys)
    if table is None:
        return [versioned.read(txn, key, view) for key in keys]
    return read_table(txn, table, view)


def read_table(txn: ReadTxn, keys: KeyTable, view: View) -> list[bytes | None]:
    """Return the values of keys in a view; None where there is none.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    if not view.linear:
        return [versioned.read(txn, key, view) for key in keys_of(keys)]
    tails, values = txn.seek_table(keys, view.seek_suffix)
    # Neighbours were often written by the same event: their suffixes are equal.
    seen = _Seen(view)
    if all(seen[tail] for tail in set(tails)):
        return [value or None for value in values] if b"" in values else list(values)
    found: list[bytes | None] = []
    for key, tail, value in zip(keys_of(keys), tails, values, strict=True):
        visible = seen[tail]
        if visible:
            found.append(value or None)
        elif visible is None:
            found.append(None)
        else:
            found.append(versioned.read(txn, key, view))  # leaps over rows of other versions
    return found


def _table(keys: Sequence[bytes]) -> KeyTable | None:
    """Return many keys of one width as a table; None if they are few or of several widths."""
    if len(keys) < _FEW or len(set(map(len, keys))) > 1:
        return None
    width = len(keys[0])
    table = np.empty((len(keys), ROOM_BEFORE + width + ROOM_BEHIND), np.uint8)
    joined = np.frombuffer(b"".join(keys), np.uint8)
    table[:, ROOM_BEFORE:-ROOM_BEHIND] = joined.reshape(len(keys), width)
    return table


class _Seen(dict[bytes, bool | None]):
    """Whether a view sees a row, by what follows in its key; None for what is no suffix."""

    def __init__(self, view: View) -> None:
        self._bounds = view.bounds

    def __missing__(self, suffix: bytes) -> bool | None:
        if len(suffix) != versioned.SUFFIX_BYTES:
            return None
        version, sequence = _SUFFIX.unpack(suffix)
        seen = UNBOUNDED - sequence <= self._bounds.get(0xFFFFFFFF - version, -1)
        self[suffix] = seen
        return seen


def scan_pages(
    txn: ReadTxn, start: bytes, stop: bytes, view: View, width: int, rows: int = PAGE_ROWS
) -> Iterator[tuple[NDArray[np.uint8], list[bytes]]]:
    """Iterate over the keys in [start, stop) that a view sees, as `versioned.scan`, page by page.

    Args:
        txn: the state.
        start: first key, without suffix.
        stop: behind the last one.
        view: what is seen.
        width: bytes of each key, without suffix.
        rows: how many rows a page looks at.

    Yields:
        Keys uint8[n, width] and the n values.
    """
    if not view.linear:
        found = versioned.scan(txn, start, stop, view)
        while page := list(islice(found, rows)):
            keys = np.frombuffer(b"".join(key for key, _ in page), np.uint8).reshape(-1, width)
            yield keys, [value for _, value in page]
        return
    scanned, before = txn.scan(start, stop), b""
    while True:
        names: list[bytes] = []
        values: list[bytes] = []
        for name, value in islice(
            scanned, rows
        ):  # pairs that are kept would be looked at for cycles
            names.append(name)
            values.append(value)
        if not names:
            return
        table = np.frombuffer(b"".join(names), np.uint8).reshape(len(names), width + _SUFFIX.size)
        keys = np.ascontiguousarray(table[:, :width])
        seen = np.flatnonzero(_visible(np.ascontiguousarray(table[:, width:]), view))
        # The first row of a key that is seen is the newest; the key may go on from the page before.
        named = keys.view(f"V{width}")[:, 0][seen]
        first = np.ones(len(seen), bool)
        first[1:] = named[1:] != named[:-1]
        if len(seen):
            first[0] = named[0].tobytes() != before
            before = named[-1].tobytes()
        chosen = [place for place in seen[first].tolist() if values[place]]
        yield keys[chosen], [values[place] for place in chosen]


def _visible(suffixes: NDArray[np.uint8], view: View) -> NDArray[np.bool_]:
    """Say of rows with the suffixes uint8[n, 12] whether a view sees them."""
    versions = 0xFFFFFFFF - suffixes[:, :4].copy().view(">u4")[:, 0].astype(np.int64)
    sequences = np.uint64(UNBOUNDED) - suffixes[:, 4:].copy().view(">u8")[:, 0].astype(np.uint64)
    known, which = np.unique(versions, return_inverse=True)
    bounds = [view.bounds.get(version, -1) for version in known.tolist()]
    limits = np.array([max(bound, 0) for bound in bounds], np.uint64)
    there = np.array([bound >= 0 for bound in bounds])
    return there[which] & (sequences <= limits[which])


def put_many(
    txn: WriteTxn, keys: Sequence[bytes], values: Sequence[bytes], version: int, sequence: int
) -> None:
    """Add rows written by one event; sorted keys of one width are fastest."""
    suffix = row_suffix(version, sequence)
    table = _table(keys)
    if table is not None:
        txn.put_table(table, suffix, values)
    elif keys:
        txn.put_many(zip(keys, values, strict=True), suffix)
