"""The supervoxel index below a version merge, where parents may have changed one row each.

Blocks are what parents really agree or disagree about. A row of the index holds what many blocks add
to one supervoxel, so two parents may change one row without touching the same block; then the row is
made again from what its blocks add. A block that both have changed counts as the newest version says,
until it is written again.
"""

from typing import NamedTuple

import numpy as np

from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import SUFFIX_BYTES, Row
from dvid_es.versions import View

_SIGN = 1 << 31


class Kinds(NamedTuple):
    """Kinds of the rows of the index."""

    regions: int
    block_counts: int
    totals: int


def nearest_rows(txn: ReadTxn, key: bytes, view: View) -> list[Row]:
    """Return the rows that no other one supersedes, tombstones included, newest version first."""
    rows = list(versioned.visible_rows(txn, key, view))
    if len(rows) < 2 or rows[0].version >= view.fork:
        return rows[:1]
    return [rows[place] for place in sorted(view.nearest([(r.version, r.sequence) for r in rows]))]


def block_counts(txn: ReadTxn, key: bytes, view: View) -> bytes | None:
    """Return what a block adds to the index."""
    rows = nearest_rows(txn, key, view)
    return rows[0].value or None if rows else None


def region(txn: ReadTxn, kinds: Kinds, key: bytes, view: View) -> bytes | None:
    """Return the row of a supervoxel in a region; `key` is without suffix."""
    rows = nearest_rows(txn, key, view)
    if len({row.value for row in rows}) < 2:
        return rows[0].value or None if rows else None
    sv = int.from_bytes(key[5:13], "big")
    corner = [int.from_bytes(key[at : at + 4], "big") - _SIGN << 4 for at in (13, 17, 21)]
    places = {
        int(place) for row in rows for place in np.frombuffer(row.value, "<u2", len(row.value) // 6)
    }
    head = key[:4] + bytes((kinds.block_counts,))
    kept: list[tuple[int, int]] = []
    for place in sorted(places):
        inside = (place >> 8, place >> 4 & 15, place & 15)
        at = (c + i + _SIGN for c, i in zip(corner, inside, strict=True))
        block = nearest_rows(txn, head + b"".join(c.to_bytes(4, "big") for c in at), view)
        # Blocks that only posted indices speak of have no row of their own.
        count = _count_of(block[0].value, sv) if block else _count_in(rows, place)
        if count:
            kept.append((place, count))
    numbers, counts = [place for place, _ in kept], [count for _, count in kept]
    return np.array(numbers, "<u2").tobytes() + np.array(counts, "<u4").tobytes() or None


def total(txn: ReadTxn, kinds: Kinds, key: bytes, view: View) -> bytes | None:
    """Return the voxels of a supervoxel in all blocks, as u64; `key` is without suffix."""
    rows = nearest_rows(txn, key, view)
    if len(rows) < 2:
        return rows[0].value or None if rows else None
    instance, sv = int.from_bytes(key[:4], "big"), key[5:13]
    first = instance_key(instance, kinds.regions) + sv
    voxels = 0
    for region_key in region_keys(txn, first, first + b"\xff" * 13, view):
        value = region(txn, kinds, region_key, view) or b""
        n = len(value) // 6
        voxels += int(np.frombuffer(value, "<u4", n, 2 * n).sum(dtype=np.uint64))
    return voxels.to_bytes(8, "little") if voxels else None


def region_keys(txn: ReadTxn, start: bytes, stop: bytes, view: View) -> list[bytes]:
    """Return the keys in [start, stop) of which any row is seen, without suffix."""
    found: list[bytes] = []
    for row, _ in txn.scan(start, stop):
        key = row[:-SUFFIX_BYTES]
        version = 0xFFFFFFFF - int.from_bytes(row[-12:-8], "big")
        if version in view.bounds and not (found and found[-1] == key):
            found.append(key)
    return found


def _count_in(rows: list[Row], place: int) -> int:
    for row in rows:
        n = len(row.value) // 6
        here = np.flatnonzero(np.frombuffer(row.value, "<u2", n) == place)
        if len(here):
            return int(np.frombuffer(row.value, "<u4", n, 2 * n)[here[0]])
    return 0


def _count_of(value: bytes, sv: int) -> int:
    n = len(value) // 12
    labels = np.frombuffer(value, "<u8", n)
    place = int(np.searchsorted(labels, np.uint64(sv)))
    if place == n or int(labels[place]) != sv:
        return 0
    return int.from_bytes(value[8 * n + 4 * place : 8 * n + 4 * place + 4], "little")
