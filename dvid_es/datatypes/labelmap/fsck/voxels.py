"""Blocks, what they add to the supervoxel index, the index itself, and the lower scales."""

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import labelblock, storedblock
from dvid_es.codecs.downres import downres_block
from dvid_es.datatypes.labelmap.fsck.findings import Findings
from dvid_es.datatypes.labelmap.fsck.state import Coords, State
from dvid_es.datatypes.labelmap.svindex import posted_counts
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.svindex.rows import Counts
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.errors import DvidError, VersionConflict
from dvid_es.events import Bulk
from dvid_es.projections.store import LmdbTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Advance = Callable[[int], None]

_OCTANTS = np.array([(i >> 2, i >> 1 & 1, i & 1) for i in range(8)], np.int32)
_LOWER_PER_LOOK = 16
_ENTRY_BYTES = 6
"""Of one block in a row of the supervoxel index."""


def block_coords(state: State) -> Coords:
    """Return the blocks of scale 0 that have voxels, or add to the index, at any version."""
    both = [state.coords(blocks.BLOCKS, 0), state.coords(svindex.BLOCK_COUNTS)]
    return np.unique(np.concatenate(both), axis=0)


def check_blocks(
    state: State, coords_zyx: Coords, findings: Findings, deep: bool, advance: Advance
) -> None:
    """Compare what blocks add to the index with the index, and with their voxels if `deep`."""
    with state.reading() as (txn, view):
        posted = posted_counts.is_marked(txn, state.instance.id)
        linear = view.linear
    pairs = unindexed = 0
    for region in _by_region(coords_zyx):
        with state.reading() as (txn, view):
            try:
                counts = svindex.read_counts(txn, state.instance.id, region, view)
                found = blocks.find_list(txn, state.instance.id, 0, region, view)
            except VersionConflict as problem:
                findings.add("blocks", f"{_named(region[0])} and near it: {problem}", error=False)
                advance(len(region))
                continue
            pairs += len(counts.labels)
            if linear:
                _compare_index(state, txn, view, region, counts, findings, posted)
            for place, block in enumerate(found):
                part = slice(counts.starts[place], counts.starts[place + 1])
                labels, voxels = counts.labels[part], counts.voxels[part]
                if block is None:
                    if len(labels):
                        where = _named(region[place])
                        findings.add("blocks", f"{where} is in the index and has no voxels")
                elif deep:
                    unindexed += _compare_voxels(
                        txn, region[place], block, labels, voxels, findings
                    )
        advance(len(region))
    findings.checked("blocks", len(coords_zyx))
    findings.checked("pairs of supervoxel and block", pairs)
    if unindexed and not posted:
        text = f"{unindexed} blocks were written without indexing, and no index was posted for them"
        findings.add("blocks", text, error=False)
    if linear:
        _compare_totals(state, pairs, findings, posted)


def _by_region(coords_zyx: Coords) -> Iterator[Coords]:
    """Iterate over blocks, those of one region of the index at a time."""
    regions = coords_zyx >> svindex.REGION_BITS
    order = np.lexsort((*coords_zyx.T[::-1], *regions.T[::-1]))
    coords_zyx, regions = coords_zyx[order], regions[order]
    firsts = np.flatnonzero(np.append(True, (regions[1:] != regions[:-1]).any(axis=1)))
    for part in np.split(coords_zyx, firsts[1:]):
        if len(part):
            yield part


def _compare_index(
    state: State,
    txn: LmdbTxn,
    view: View,
    region: Coords,
    counts: Counts,
    findings: Findings,
    posted: bool,
) -> None:
    places = np.repeat(np.arange(len(region)), np.diff(counts.starts))
    coords = region[places]
    held = svindex.counts_at(txn, state.instance.id, view, counts.labels, coords)
    for at in np.flatnonzero(held != counts.voxels).tolist():
        findings.add(
            "supervoxel index",
            f"supervoxel {counts.labels[at]} has {counts.voxels[at]} voxels in {_named(coords[at])},"
            f" the index says {held[at]}",
            error=not posted,
        )


def _compare_voxels(
    txn: LmdbTxn,
    block_zyx: NDArray[np.int32],
    block: Bulk,
    labels: Labels,
    voxels: NDArray[np.uint32],
    findings: Findings,
) -> int:
    """Count the voxels of a block; return 1 if it adds nothing to the index though it has labels."""
    where = _named(block_zyx)
    try:
        there, number = labelblock.counts(storedblock.load(txn.bulk(block)))
    except DvidError as problem:
        findings.add("blocks", f"{where} cannot be read: {problem}")
        return 0
    order = np.argsort(there)
    order = order[(there[order] != 0) & (number[order] != 0)]
    there, number = there[order], number[order]
    if len(there) and not len(labels):
        return 1
    if not np.array_equal(there, labels) or not np.array_equal(number, voxels):
        wrong = _first_wrong(there, number, labels, voxels)
        findings.add(
            "blocks", f"{where} adds other counts to the index than it has voxels: {wrong}"
        )
    return 0


def _first_wrong(there: Labels, number: Labels, labels: Labels, voxels: NDArray[np.uint32]) -> str:
    really = dict(zip(there.tolist(), number.tolist(), strict=True))
    said = dict(zip(labels.tolist(), voxels.tolist(), strict=True))
    label = min(
        label for label in really.keys() | said.keys() if really.get(label) != said.get(label)
    )
    return f"supervoxel {label} has {really.get(label, 0)}, not {said.get(label, 0)}"


def _compare_totals(state: State, pairs: int, findings: Findings, posted: bool) -> None:
    """Compare the rows of regions with the totals of supervoxels, side by side."""
    totals = state.rows(svindex.TOTALS)
    total = next(totals, None)
    svs = held = 0
    for label, rows in groupby(state.rows(svindex.REGIONS), key=lambda row: row[0][:8]):
        voxels = 0
        for _, value in rows:
            n = len(value) // _ENTRY_BYTES
            held += n
            voxels += int(np.frombuffer(value, "<u4", n, 2 * n).sum(dtype=np.uint64))
        while total is not None and total[0] < label:
            _wrong_total(findings, total[0], 0, total[1])
            total = next(totals, None)
        if total is not None and total[0] == label:
            if int.from_bytes(total[1], "little") != voxels:
                _wrong_total(findings, label, voxels, total[1])
            total = next(totals, None)
        elif voxels:
            _wrong_total(findings, label, voxels, b"")
        svs += 1
    while total is not None:
        _wrong_total(findings, total[0], 0, total[1])
        total = next(totals, None)
    findings.checked("supervoxels", svs)
    if held != pairs and not posted:
        text = f"the index holds {held} pairs of supervoxel and block, its blocks add {pairs}"
        findings.add("supervoxel index", text)


def _wrong_total(findings: Findings, label: bytes, voxels: int, total: bytes) -> None:
    number, said = int.from_bytes(label, "big"), int.from_bytes(total, "little")
    text = f"supervoxel {number} has {voxels} voxels in the index, its total says {said}"
    findings.add("supervoxel index", text)


# -- lower scales ----------------------------------------------------------------------------


def lower_coords(state: State) -> list[Coords]:
    """Return of each lower scale the blocks that are there, or that follow from the scale above."""
    found = []
    above = state.coords(blocks.BLOCKS, 0)
    for scale in range(1, int(state.instance.settings.get("MaxDownresLevel", 0)) + 1):
        own = state.coords(blocks.BLOCKS, scale)
        found.append(np.unique(np.concatenate([own, above >> 1]), axis=0))
        above = own
    return found


def check_lower(
    state: State, scale: int, coords_zyx: Coords, findings: Findings, advance: Advance
) -> None:
    """Make blocks of a lower scale again from those above, and compare all voxels.

    A difference is a warning: clients may write lower scales themselves, or ingest without them.
    """
    for first in range(0, len(coords_zyx), _LOWER_PER_LOOK):
        some = coords_zyx[first : first + _LOWER_PER_LOOK]
        with state.reading() as (txn, view):
            for block_zyx in some:
                try:
                    same = _follows(state, txn, view, scale, block_zyx)
                except DvidError as problem:
                    where = f"{_named(block_zyx)} of scale {scale}"
                    severe = not isinstance(problem, VersionConflict)
                    findings.add("lower scales", f"{where}: {problem}", error=severe)
                    continue
                if not same:
                    where = f"{_named(block_zyx)} of scale {scale}"
                    text = f"{where} is not what follows from scale {scale - 1}"
                    findings.add("lower scales", text, error=False)
        advance(len(some))
    findings.checked("blocks of lower scales", len(coords_zyx))


def _follows(
    state: State, txn: LmdbTxn, view: View, scale: int, block_zyx: NDArray[np.int32]
) -> bool:
    shape = state.shape_zyx
    nothing = labelblock.solid(0, shape)
    instance_id = state.instance.id
    own = blocks.read_list(txn, instance_id, scale, block_zyx.reshape(1, 3), view)[0]
    below = 2 * block_zyx + _OCTANTS
    stored = blocks.read_list(txn, instance_id, scale - 1, below, view)
    if not any(stored):
        return own is None or labelblock.solid_label(storedblock.load(own)) == 0
    children = [nothing if one is None else storedblock.load(one) for one in stored]
    wanted = labelblock.decode(downres_block(children, None, shape))
    there = labelblock.decode(nothing if own is None else storedblock.load(own))
    return bool(np.array_equal(wanted, there))


def _named(block_zyx: NDArray[np.int32]) -> str:
    z, y, x = block_zyx.tolist()
    return f"block {x},{y},{z}"
