"""Which later mutations stand in the way of an undo or a redo."""

from typing import Any, NamedTuple

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


class Wrong(NamedTuple):
    """What is not as a reversal needs it."""

    bodies: list[int]
    """Bodies that nobody must have changed at all."""

    ended: list[int]
    """Bodies that must still be there."""

    svs: list[int]
    """Supervoxels that must be where they were, with the voxels that they had."""

    @property
    def anything(self) -> bool:
        """Whether there is anything in it."""
        return any(self)


def refuse(
    txn: ReadTxn, instance_id: int, view: View, target: Target, wrong: Wrong
) -> DependentMutations:
    """Return the refusal of a reversal, with the mutations that are behind what is wrong."""
    bodies, svs = sorted({*wrong.bodies, *wrong.ended}), sorted(set(wrong.svs))
    places = set()
    for kinds, labels in (
        ((bodysets.BODIES,), wrong.bodies),
        ((mapping.ENTRIES, svindex.TOTALS), svs),
    ):
        for label in labels[:_LOOKED_AT_MAX]:
            for kind in kinds:
                places |= _changes(txn, instance_id, kind, label, view, target.applied)
    for label in wrong.ended:
        ends = _changes(txn, instance_id, bodysets.BODIES, label, view, target.applied)
        places |= set(sorted(ends)[-1:])
    if not places:  # an index was posted, which moves no supervoxel in the mapping
        for label in target.bodies():
            places |= _changes(txn, instance_id, bodysets.BODIES, label, view, target.applied)
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
