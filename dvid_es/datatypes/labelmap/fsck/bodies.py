"""Bodies: their sets share out the supervoxels, their sizes are sums, counters are above all labels."""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, counters
from dvid_es.datatypes.labelmap.fsck.findings import Findings
from dvid_es.datatypes.labelmap.fsck.state import State
from dvid_es.datatypes.labelmap.fsck.voxels import Advance
from dvid_es.datatypes.labelmap.mapping.lookup import Mapping, lookup_rows
from dvid_es.datatypes.labelmap.svindex import posted_counts
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.errors import VersionConflict

Labels = NDArray[np.uint64]

PASS_SUPERVOXELS = 8_000_000
"""Supervoxels looked at in one pass over the bodies: half a gigabyte at most."""

_MAPPED_AT_ONCE = 100_000


def check_bodies(state: State, findings: Findings, advance: Advance) -> None:
    """Compare the sets of bodies with the supervoxels that have voxels, and with the mapping.

    Posted indices and mappings may say what they like, as with DVID; once any was posted, most of what
    would be an error is a warning.
    """
    with state.reading() as (txn, _):
        posted = posted_counts.is_marked(txn, state.instance.id)
    labels, sizes, free, members, highest = _survey(state)
    passes = max(1, -(-members // PASS_SUPERVOXELS))
    sums = np.zeros(len(labels), np.uint64)
    for number in range(passes):
        part = _sets(state, passes, number)
        totals = _totals(state, passes, number)
        highest = max(highest, int(totals[0][-1]) if len(totals[0]) else 0)
        _compare_sets(findings, part, totals, posted)
        _compare_mapping(state, findings, part)
        _add_up(sums, labels, part, totals)
        advance(1)
    for at in np.flatnonzero((sums != sizes) & ~free).tolist():
        text = f"body {labels[at]} says {sizes[at]} voxels, its supervoxels have {sums[at]}"
        findings.add("bodies", text, error=not posted)
    findings.checked("bodies", len(labels))
    findings.checked("supervoxels of bodies", members)
    _check_counters(state, findings, highest)


def _survey(state: State) -> tuple[Labels, Labels, NDArray[np.bool_], int, int]:
    """Return all bodies: labels, voxels, whether these were posted; supervoxels in all; highest label."""
    labels, sizes, free = [], [], []
    members = 0
    for key, value in state.rows(bodysets.BODIES):
        voxels, count, _, overridden = bodyrow.peek(value)
        labels.append(int.from_bytes(key, "big"))
        sizes.append(voxels)
        free.append(overridden)
        members += count
    highest = max(labels, default=0)
    return (
        np.array(labels, np.uint64), np.array(sizes, np.uint64), np.array(free, bool),
        members, highest,
    )  # fmt: skip


def _sets(state: State, passes: int, number: int) -> tuple[Labels, Labels]:
    """Return those supervoxels of bodies that one pass looks at, ascending, and their bodies."""
    svs: list[Labels] = []
    owners: list[Labels] = []
    for key, value in state.rows(bodysets.BODIES):
        with state.reading() as (txn, _):
            found = bodysets.supervoxels(txn, state.instance.id, bodyrow.decode(value))
        found = found[found % np.uint64(passes) == number]
        svs.append(found)
        owners.append(np.full(len(found), int.from_bytes(key, "big"), np.uint64))
    joined = np.concatenate(svs) if svs else bodyrow.NO_LABELS
    order = np.argsort(joined, kind="stable")
    return joined[order], (np.concatenate(owners) if owners else bodyrow.NO_LABELS)[order]


def _totals(state: State, passes: int, number: int) -> tuple[Labels, Labels]:
    """Return those supervoxels with voxels that one pass looks at, ascending, and their voxels."""
    keys, values = [], []
    for key, value in state.rows(svindex.TOTALS):
        if int.from_bytes(key, "big") % passes == number:
            keys.append(key)
            values.append(value)
    svs = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
    return svs, np.frombuffer(b"".join(values), "<u8").astype(np.uint64)


def _compare_sets(
    findings: Findings, sets: tuple[Labels, Labels], totals: tuple[Labels, Labels], posted: bool
) -> None:
    svs, owners = sets
    for at in np.flatnonzero(svs[1:] == svs[:-1]).tolist():
        text = f"supervoxel {svs[at]} is in body {owners[at]} and in body {owners[at + 1]}"
        findings.add("bodies", text, error=not posted)
    for lost in np.setdiff1d(totals[0], svs).tolist():
        findings.add("bodies", f"supervoxel {lost} has voxels and is in no body", error=not posted)
    for at in np.flatnonzero(~np.isin(svs, totals[0])).tolist():
        text = f"body {owners[at]} has supervoxel {svs[at]}, which has no voxels"
        findings.add("bodies", text, error=not posted)


def _compare_mapping(state: State, findings: Findings, sets: tuple[Labels, Labels]) -> None:
    svs, owners = sets
    for first in range(0, len(svs), _MAPPED_AT_ONCE):
        some = slice(first, first + _MAPPED_AT_ONCE)
        with state.reading() as (txn, view):
            try:
                mapped = Mapping.at(txn, state.instance.id, view).map(svs[some])
                stored, _ = lookup_rows(txn, state.instance.id, view, svs[some])
            except VersionConflict as problem:
                findings.add("mapping", str(problem), error=False)
                continue
        for at in np.flatnonzero(mapped != stored).tolist():
            text = (
                f"supervoxel {svs[first + at]} maps to {stored[at]} by its row"
                f" and to {mapped[at]} by the journal"
            )
            findings.add("mapping", text)
        for at in np.flatnonzero(mapped != owners[some]).tolist():
            text = (
                f"supervoxel {svs[first + at]} is in body {owners[first + at]}"
                f" and maps to {mapped[at]}"
            )
            findings.add("mapping", text, error=False)


def _add_up(
    sums: Labels, labels: Labels, sets: tuple[Labels, Labels], totals: tuple[Labels, Labels]
) -> None:
    svs, owners = sets
    if not len(svs) or not len(totals[0]):
        return
    places = np.minimum(np.searchsorted(totals[0], svs), len(totals[0]) - 1)
    voxels = np.where(totals[0][places] == svs, totals[1][places], 0).astype(np.uint64)
    np.add.at(sums, np.searchsorted(labels, owners), voxels)


def _check_counters(state: State, findings: Findings, highest: int) -> None:
    with state.reading() as (txn, view):
        of_version = counters.effective_max(txn, state.instance.id, view) or 0
        common = counters.read_common(txn, state.instance.id)
    for name, value in (("of this version", of_version), ("of all versions", common.repo_max)):
        if value < highest:
            text = f"the highest label {name} is {value}, but label {highest} is in use"
            findings.add("counters", text)
