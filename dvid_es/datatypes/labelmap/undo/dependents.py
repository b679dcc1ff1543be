"""Which later mutations stand in the way of an undo or a redo."""

from collections.abc import Iterable
from typing import Any

from dvid_es.datatypes.labelmap.bodies import bodysets, mutationlog
from dvid_es.datatypes.labelmap.lineage.walk import entry_at
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.undo import status
from dvid_es.datatypes.labelmap.undo.target import Target, name_of
from dvid_es.errors import DependentMutations
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View, split_suffix

LISTED_MAX = 100
"""Most mutations that a refusal lists."""

_LOOKED_AT_MAX = 10_000
"""Most bodies and supervoxels whose changes are looked up for that."""


def refuse(
    txn: ReadTxn,
    instance_id: int,
    view: View,
    target: Target,
    bodies: Iterable[int],
    svs: Iterable[int],
) -> DependentMutations:
    """Return the refusal of a reversal.

    Args:
        txn: the state.
        instance_id: the labelmap.
        view: of the version that is written to.
        target: what was to be undone or redone.
        bodies: those that are not as they must be.
        svs: supervoxels that are not.
    """
    bodies, svs = sorted(set(bodies)), sorted(set(svs))
    places = set()
    for kinds, labels in (
        ((bodysets.BODIES,), bodies),
        ((mapping.ENTRIES, svindex.TOTALS), svs),
    ):
        for label in labels[:_LOOKED_AT_MAX]:
            for kind in kinds:
                places |= _changes(txn, instance_id, kind, label, view, target.applied)
    found = []
    for sequence, version in sorted(places):
        entry = entry_at(txn, instance_id, version, sequence)
        counts = entry.action not in ("undo", "redo")
        if counts and not status.is_undone(txn, instance_id, sequence, view):
            found.append(_described(txn, entry, version, sequence))
    verb = "redone" if target.redo else "undone"
    what = ", ".join(
        [*(f"body {label}" for label in bodies[:3]), *(f"supervoxel {sv}" for sv in svs[:3])][:3]
    )
    names = ", ".join(name_of(one["MutationID"], one["Sequence"]) for one in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    text = f"{target.name} cannot be {verb}: {what} changed since"
    if found:
        text += f" by {names}{more}: undo the latest of them first"
    return DependentMutations(text, tuple(found[:LISTED_MAX]))


def _changes(
    txn: ReadTxn, instance_id: int, kind: int, label: int, view: View, after: int
) -> set[tuple[int, int]]:
    """Return sequence and version of the rows of one label that a view sees behind a sequence."""
    key = instance_key(instance_id, kind) + label.to_bytes(8, "big")
    found = set()
    for row, _ in txn.scan(key, key + b"\xff" * (versioned.SUFFIX_BYTES + 1)):
        version, sequence = split_suffix(row)
        if after < sequence <= view.bounds.get(version, -1):
            found.add((sequence, version))
    return found


def _described(
    txn: ReadTxn, entry: mutationlog.Entry, version: int, sequence: int
) -> dict[str, Any]:
    uuid = txn.repo.graph.by_id[version].uuid
    action = entry.action.removesuffix("-complete")
    return {**mutationlog.to_fields(entry, {}, uuid, action), "Sequence": sequence}
