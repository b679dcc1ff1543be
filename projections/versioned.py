"""Temporal rows: the value of a key at a version, as of a sequence.

A temporal key ends in 12 bytes, descending version ordinal and descending sequence, so the newest row
that a view may see is found by one `seek`. Rows are added and never changed; an empty value is a
tombstone. At a version merge the nearest ancestor over all parents wins; two unequal nearest values
are a conflict. Source: findMatch in datastore/datastore.go (janelia-flyem/dvid).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dvid_es.errors import VersionConflict
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, VersionGraph, View, row_suffix, split_suffix

SUFFIX_BYTES = 12
TOMBSTONE = b""
_SKIPS_BEFORE_SEEK = 16
_unpack_suffix = struct.Struct(">IQ").unpack_from


class Row(NamedTuple):
    """A row that a view sees, and the event that wrote it."""

    value: bytes
    """Empty for a tombstone."""

    version: int
    sequence: int


def put(txn: WriteTxn, key: bytes, version: int, sequence: int, value: bytes) -> None:
    """Add the row of `key` written at `version` by the event `sequence`; empty deletes the key."""
    txn.put(key + row_suffix(version, sequence), value)


def read(txn: ReadTxn, key: bytes, view: View) -> bytes | None:
    """Return the value of `key` in a view, or None.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    found = txn.seek(key + view.seek_suffix)
    if found is None:
        return None
    row, value = found
    if len(row) != len(key) + SUFFIX_BYTES or not row.startswith(key):
        return None
    version, sequence = _unpack_suffix(row, len(key))
    version = 0xFFFFFFFF - version
    if version >= view.fork and UNBOUNDED - sequence <= view.bounds.get(version, -1):
        return value or None  # nearly always
    chosen = read_row(txn, key, view)
    return None if chosen is None else chosen.value or None


def read_row(txn: ReadTxn, key: bytes, view: View) -> Row | None:
    """Return the row of `key` that a view sees, tombstones included, or None if there is none.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    found = txn.seek(key + view.seek_suffix)
    if found is None:
        return None
    row, value = found
    if len(row) != len(key) + SUFFIX_BYTES or not row.startswith(key):
        return None
    version = 0xFFFFFFFF - int.from_bytes(row[-12:-8], "big")
    sequence = UNBOUNDED - int.from_bytes(row[-8:], "big")
    if version >= view.fork and sequence <= view.bounds.get(version, -1):
        return Row(value, version, sequence)  # nearly always
    rows = visible_rows(txn, key, view)
    first = next(rows, None)
    if first is None or first.version >= view.fork:
        return first
    return _choose([first, *rows], view)


def visible_rows(txn: ReadTxn, key: bytes, view: View) -> Iterator[Row]:
    """Iterate over the newest row of each version that a view sees, the highest ordinal first.

    Nothing else may seek in `txn` before the iteration ends.
    """
    length = len(key) + SUFFIX_BYTES
    bounds = view.bounds
    found = txn.seek(key + view.seek_suffix)
    skipped = 0
    given = -1
    while found is not None:
        row, value = found
        if len(row) != length or not row.startswith(key):
            return
        version = 0xFFFFFFFF - int.from_bytes(row[-12:-8], "big")
        bound = bounds.get(version, -1)
        if version != given:
            sequence = UNBOUNDED - int.from_bytes(row[-8:], "big")
            if sequence <= bound:
                given, skipped = version, 0
                yield Row(value, version, sequence)
        if skipped < _SKIPS_BEFORE_SEEK:
            skipped += 1
            found = txn.next()
            continue
        # Many rows of one version that are hidden here: jump over the rest of them.
        skipped = 0
        if bound >= 0 and version != given:
            found = txn.seek(key + row_suffix(version, bound))
        else:
            found = txn.seek(key + row_suffix(version - 1, UNBOUNDED)) if version else None


def scan(txn: ReadTxn, start: bytes, stop: bytes, view: View) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over (key, value) of the keys in [start, stop) that a view sees.

    Keys deleted in the view are left out, and so are keys in conflict at a version merge. `start`
    and `stop` are without suffix, and no key may be a prefix of another one.
    """
    for key, row in scan_rows(txn, start, stop, view):
        if row.value:
            yield key, row.value


def scan_rows(txn: ReadTxn, start: bytes, stop: bytes, view: View) -> Iterator[tuple[bytes, Row]]:
    """Iterate like `scan`, over rows, tombstones included."""
    bounds, fork = view.bounds, view.fork
    done = candidate_key = b""
    candidates: list[Row] = []
    for row, value in txn.scan(start, stop):
        key = row[:-SUFFIX_BYTES]
        if key == done:
            continue
        if candidates and candidate_key != key:
            yield from _settled(candidate_key, candidates, view)
            candidates = []
        version = 0xFFFFFFFF - int.from_bytes(row[-12:-8], "big")
        sequence = UNBOUNDED - int.from_bytes(row[-8:], "big")
        if sequence > bounds.get(version, -1):
            continue
        if version >= fork:
            done = key
            yield key, Row(value, version, sequence)
        elif not candidates or candidates[-1].version != version:
            candidate_key = key
            candidates.append(Row(value, version, sequence))
    if candidates:
        yield from _settled(candidate_key, candidates, view)


def _settled(key: bytes, candidates: list[Row], view: View) -> Iterator[tuple[bytes, Row]]:
    try:
        yield key, _choose(candidates, view)
    except VersionConflict:
        return


def _choose(candidates: list[Row], view: View) -> Row:
    """Return the one row that no other supersedes; a value beats a tombstone beside it."""
    nearest = _not_superseded(candidates, view)
    values = [row for row in nearest if row.value]
    if len({row.value for row in values}) > 1:
        raise VersionConflict(
            "the parents of a version merge hold unequal values here; write the value again to settle it"
        )
    return values[0] if values else nearest[0]


def _not_superseded(candidates: list[Row], view: View) -> list[Row]:
    places = view.nearest([(row.version, row.sequence) for row in candidates])
    return [candidates[place] for place in places]


class Conflict(NamedTuple):
    """A key that a view cannot read: parents of a version merge hold unequal values."""

    key: bytes
    rows: tuple[Row, ...]
    """The nearest rows with a value, at least two of them unequal; newest version first."""


def conflicts(txn: ReadTxn, start: bytes, stop: bytes, view: View) -> Iterator[Conflict]:
    """Iterate over the keys in [start, stop) that `scan` leaves out because of a conflict."""
    if view.linear:
        return
    bounds = view.bounds
    key, candidates = b"", list[Row]()
    for row, value in txn.scan(start, stop):
        if row[:-SUFFIX_BYTES] != key:
            yield from _in_conflict(key, candidates, view)
            key, candidates = row[:-SUFFIX_BYTES], []
        version, sequence = split_suffix(row)
        seen = sequence <= bounds.get(version, -1)
        if seen and not (candidates and candidates[-1].version == version):
            candidates.append(Row(value, version, sequence))
    yield from _in_conflict(key, candidates, view)


def _in_conflict(key: bytes, candidates: list[Row], view: View) -> Iterator[Conflict]:
    if len(candidates) > 1:
        nearest = tuple(row for row in _not_superseded(candidates, view) if row.value)
        if len({row.value for row in nearest}) > 1:
            yield Conflict(key, nearest)


def winner(rows: Sequence[Row], graph: VersionGraph, parents: Sequence[int]) -> Row:
    """Return the row of a conflict that the first of `parents` sees.

    A parent that sees none of them leaves the choice to the next one; one that sees several of them
    is a version merge with that conflict in itself, and its own parents choose, in their order.
    """
    for parent in parents:
        bounds = graph.view(parent).bounds
        seen = [row for row in rows if row.sequence <= bounds.get(row.version, -1)]
        if len(seen) == 1:
            return seen[0]
        if seen:
            return winner(seen, graph, graph.by_id[parent].parents)
    raise AssertionError("a row in conflict is seen by none of the parents")
