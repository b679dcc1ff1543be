"""The supervoxel index: in which blocks a supervoxel lies, and how many of its voxels.

Three kinds of temporal rows, all derived from the blocks that were written with indexing:

- 65, supervoxel and region of 16x16x16 blocks: n u16 numbers of blocks in the region
  (z << 8 | y << 4 | x, ascending), then n u32 counts; little endian.
- 67, block: n u64 labels, ascending, then n u32 counts: what this block adds to the index.
- 68, supervoxel: u64 voxels in all blocks.

A write changes the index by the difference to what its blocks added before, so the same voxels
written twice change nothing.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.svindex import kernels as voxels
from dvid_es.datatypes.labelmap.svindex import merged as svmerged
from dvid_es.datatypes.labelmap.svindex import posted_counts, regionrows
from dvid_es.events import Record
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import SIGN, big_endian, make_keys, put_many, read_many
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

Coords = NDArray[np.int32]
Labels = NDArray[np.uint64]

REGIONS = 65
BLOCK_COUNTS = 67
TOTALS = 68

REGION_BITS = 4
"""A region is 1 << 4 blocks wide."""

_INSIDE = (1 << REGION_BITS) - 1
_FEW = 16
"""For fewer labels, numpy takes longer to begin than Python to finish."""

_KINDS = svmerged.Kinds(REGIONS, BLOCK_COUNTS, TOTALS)


class Counts(NamedTuple):
    """Voxels of each label in n blocks; labels ascend in each block and exclude 0."""

    starts: NDArray[np.int64]
    """int64[n + 1]: those of block i are [starts[i] : starts[i + 1]]."""

    labels: Labels
    """uint64[m]."""

    voxels: NDArray[np.uint32]
    """uint32[m]."""


class Change(NamedTuple):
    """What a write does to supervoxels."""

    svs: Labels
    """uint64[n], ascending: those whose number of voxels is another now."""

    delta: NDArray[np.int64]
    """int64[n]: voxels gained, negative for lost."""


# -- reading ---------------------------------------------------------------------------------


def read_blocks(
    txn: ReadTxn, instance_id: int, sv: int, view: View
) -> tuple[Coords, NDArray[np.uint32]]:
    """Return the blocks int32[n, 3] (ZYX, in ZYX order) of a supervoxel and its voxels in each."""
    _, coords, counts = read_many_blocks(txn, instance_id, np.array([sv], np.uint64), view)
    order = np.lexsort((coords[:, 2], coords[:, 1], coords[:, 0]))
    return coords[order], counts[order]


def read_many_blocks(
    txn: ReadTxn, instance_id: int, svs: Labels, view: View, used: dict[int, int] | None = None
) -> tuple[NDArray[np.int64], Coords, NDArray[np.uint32]]:
    """Return the blocks of several supervoxels.

    Args:
        txn: state to read.
        instance_id: of the labelmap.
        svs: uint64[n].
        view: what is seen.
        used: if given and the view is linear, the highest sequence of each version whose rows were
            decisive is put here: another linear view of the same versions that has all of these
            within its bounds sees the same.

    Returns:
        starts int64[len(svs) + 1], blocks int32[n, 3] (ZYX), counts uint32[n]: those of svs[i] are
        [starts[i] : starts[i + 1]], region after region, in ZYX order inside of a region.
    """
    firsts = make_keys(instance_id, REGIONS, _sv_bytes(svs))
    rows = (regionrows.read if view.linear else _merged_rows)(txn, firsts, view)
    if used is not None:
        used.update(rows.decisive)
    starts = _starts([len(value) for value in rows.values])
    data = np.frombuffer(b"".join(rows.values), np.uint8)
    n = len(data) // 6
    local, counts = np.empty(n, np.int64), np.empty(n, np.uint32)
    voxels.split_rows(data, starts, local, counts)
    coords = np.repeat((rows.regions - SIGN) << REGION_BITS, np.diff(starts) // 6, axis=0)
    coords += np.stack((local >> 8, local >> 4 & _INSIDE, local & _INSIDE), axis=-1)
    per_sv = np.zeros(len(svs) + 1, np.int64)
    np.cumsum(rows.counts, out=per_sv[1:])
    return starts[per_sv] // 6, coords.astype(np.int32), counts


def total_key(instance_id: int, sv: int) -> bytes:
    """Return the key of the voxels of a supervoxel, without suffix."""
    return instance_key(instance_id, TOTALS) + sv.to_bytes(8, "big")


def voxels_of(txn: ReadTxn, instance_id: int, svs: Labels, view: View) -> Labels:
    """Return the voxels uint64[n] of supervoxels uint64[n]; 0 for those that are not there."""
    if len(svs) < _FEW:
        rows = _read_rows(txn, [total_key(instance_id, sv) for sv in svs.tolist()], view)
        return np.array([int.from_bytes(row or b"", "little") for row in rows], np.uint64)
    found = _read_rows(txn, make_keys(instance_id, TOTALS, _sv_bytes(svs)), view)
    return np.frombuffer(b"".join(value or bytes(8) for value in found), "<u8").astype(np.uint64)


def _read_rows(txn: ReadTxn, keys: Sequence[bytes], view: View) -> Sequence[bytes | None]:
    """Return the values of rows of one kind of the index."""
    if view.linear or not keys:
        return read_many(txn, keys, view)
    kind = keys[0][4]
    if kind == BLOCK_COUNTS:
        return [svmerged.block_counts(txn, key, view) for key in keys]
    merged = svmerged.region if kind == REGIONS else svmerged.total
    return [merged(txn, _KINDS, key, view) for key in keys]


def _merged_rows(txn: ReadTxn, firsts: Sequence[bytes], view: View) -> regionrows.RegionRows:
    """Return the rows that `regionrows.read` does, below a version merge."""
    counts: list[int] = []
    regions: list[bytes] = []
    values: list[bytes] = []
    for first in firsts:
        # No coordinate reaches the highest region, so this is behind all rows of the supervoxel.
        keys = svmerged.region_keys(txn, first, first + b"\xff" * 13, view)
        before = len(values)
        for key, value in zip(keys, _read_rows(txn, keys, view), strict=True):
            if value is not None:
                regions.append(key[-12:])
                values.append(value)
        counts.append(len(values) - before)
    places = np.frombuffer(b"".join(regions), ">u4").reshape(-1, 3).astype(np.int64)
    return regionrows.RegionRows(np.array(counts, np.int64), places, values, {})


def read_counts(txn: ReadTxn, instance_id: int, coords_zyx: Coords, view: View) -> Counts:
    """Return what blocks int32[n, 3] add to the index."""
    return _read_counts(txn, make_keys(instance_id, BLOCK_COUNTS, big_endian(coords_zyx)), view)


def _read_counts(txn: ReadTxn, keys: Sequence[bytes], view: View) -> Counts:
    labels: list[bytes] = []
    counts: list[bytes] = []
    sizes: list[int] = []
    for value in _read_rows(txn, keys, view):
        n = len(value) // 12 if value else 0
        sizes.append(n)
        if value:
            labels.append(value[: 8 * n])
            counts.append(value[8 * n :])
    return Counts(
        _starts(sizes),
        np.frombuffer(b"".join(labels), np.uint64),
        np.frombuffer(b"".join(counts), np.uint32),
    )


def counts_at(
    txn: ReadTxn, instance_id: int, view: View, svs: Labels, coords_zyx: Coords
) -> NDArray[np.uint32]:
    """Return the voxels uint32[n] of pairs of supervoxel uint64[n] and block int32[n, 3]."""
    regions = coords_zyx >> REGION_BITS
    inside = (coords_zyx & _INSIDE).astype(np.int64)
    local = inside[:, 0] << 8 | inside[:, 1] << 4 | inside[:, 2]
    keys = make_keys(instance_id, REGIONS, _sv_bytes(svs), big_endian(regions))
    counts = np.zeros(len(svs), np.uint32)
    for place, value in enumerate(_read_rows(txn, keys, view)):
        if value is not None:
            n = len(value) // 6
            here = np.flatnonzero(np.frombuffer(value, "<u2", n) == local[place])
            if len(here):
                counts[place] = np.frombuffer(value, "<u4", n, 2 * n)[here[0]]
    return counts


# -- changing --------------------------------------------------------------------------------


def change_blocks(txn: WriteTxn, record: Record, coords_zyx: Coords, counts: Counts) -> Change:
    """Make blocks add `counts` to the index in place of what they added before.

    Args:
        txn: the index in it is changed.
        record: the event that writes the blocks.
        coords_zyx: int32[n, 3], distinct, in ZYX order.
        counts: of these blocks.

    Returns:
        The supervoxels that have gained or lost voxels.
    """
    header = record.header
    instance, version, offset = header.instance, header.version, record.offset
    view = txn.view(version)
    block_keys = make_keys(instance, BLOCK_COUNTS, big_endian(coords_zyx))
    before = _read_counts(txn, block_keys, view)
    if posted_counts.is_marked(txn, instance):
        look_up = partial(counts_at, txn, instance, view)
        before = Counts(*posted_counts.settle(txn, record, coords_zyx, before, counts, look_up))
    regions = coords_zyx >> REGION_BITS
    inside = (coords_zyx & _INSIDE).astype(np.int64)
    local = inside[:, 0] << 8 | inside[:, 1] << 4 | inside[:, 2]
    order = np.lexsort((local, regions[:, 2], regions[:, 1], regions[:, 0]))
    size = len(before.labels) + len(counts.labels)
    svs, places = np.empty(size, np.uint64), np.empty(size, np.int64)
    old, new = np.empty(size, np.uint32), np.empty(size, np.uint32)
    n = voxels.changes(*before, *counts, order, svs, places, old, new)
    if n == 0:
        return Change(np.empty(0, np.uint64), np.empty(0, np.int64))
    by_sv = np.argsort(svs[:n], kind="stable")
    svs, blocks, old, new = svs[by_sv], order[places[by_sv]], old[by_sv], new[by_sv]
    change = _summed(svs, new.astype(np.int64) - old)
    keys = make_keys(instance, TOTALS, _sv_bytes(change.svs))
    # Before the rows of regions, of which a total below a version merge may have to be summed.
    totals = voxels_of(txn, instance, change.svs, view).astype(np.int64) + change.delta
    _put_regions(txn, record, svs, regions[blocks], local[blocks], new)
    put_many(txn, keys, _split(totals.astype("<u8").tobytes(), totals), version, offset)
    changed = np.unique(blocks)
    values = [_block_value(counts, block) for block in changed]
    put_many(txn, [block_keys[block] for block in changed], values, version, offset)
    kept = change.delta != 0
    return Change(change.svs[kept], change.delta[kept])


def _put_regions(
    txn: WriteTxn,
    record: Record,
    svs: Labels,
    regions: Coords,
    local: NDArray[np.int64],
    counts: NDArray[np.uint32],
) -> None:
    """Write the rows of kind 65 of changes that are sorted by supervoxel, region and block."""
    header = record.header
    first = np.ones(len(svs), bool)
    first[1:] = (svs[1:] != svs[:-1]) | (regions[1:] != regions[:-1]).any(axis=1)
    groups = np.flatnonzero(first)
    keys = make_keys(header.instance, REGIONS, _sv_bytes(svs[groups]), big_endian(regions[groups]))
    before = [value or b"" for value in _read_rows(txn, keys, txn.view(header.version))]
    old = np.frombuffer(b"".join(before), np.uint8)
    out = np.empty(len(old) + 6 * len(svs), np.uint8)
    out_starts = np.empty(len(groups) + 1, np.int64)
    voxels.merge_rows(
        old,
        _starts([len(value) for value in before]),
        np.append(groups, len(svs)).astype(np.int64),
        local,
        counts,
        out,
        out_starts,
    )
    joined, bounds = out[: out_starts[-1]].tobytes(), out_starts.tolist()
    values = [joined[a:b] for a, b in pairwise(bounds)]
    put_many(txn, keys, values, header.version, record.offset)


def _summed(svs: Labels, delta: NDArray[np.int64]) -> Change:
    firsts = np.flatnonzero(np.concatenate(([True], svs[1:] != svs[:-1])))
    return Change(svs[firsts], np.add.reduceat(delta, firsts))


def _split(joined: bytes, totals: NDArray[np.int64]) -> list[bytes]:
    """Return u64 values one by one, empty ones (tombstones) for 0."""
    values = [joined[at : at + 8] for at in range(0, len(joined), 8)]
    for place in np.flatnonzero(totals == 0).tolist():
        values[place] = b""
    return values


def _block_value(counts: Counts, block: int) -> bytes:
    a, b = counts.starts[block], counts.starts[block + 1]
    return counts.labels[a:b].tobytes() + counts.voxels[a:b].tobytes()


def _sv_bytes(svs: Labels) -> NDArray[np.uint8]:
    return np.asarray(svs, np.uint64).astype(">u8").view(np.uint8).reshape(-1, 8)


def _starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(np.array(sizes, np.int64), out=starts[1:])
    return starts
