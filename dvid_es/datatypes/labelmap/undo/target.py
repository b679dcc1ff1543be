"""Which mutation a request wants undone or redone, and the states before and after it."""

from typing import NamedTuple

from dvid_es.datatypes.labelmap.bodies.mutationlog import Entry
from dvid_es.datatypes.labelmap.lineage.touched import bodies_of
from dvid_es.datatypes.labelmap.lineage.walk import entry_at
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL
from dvid_es.datatypes.labelmap.undo import status
from dvid_es.datatypes.labelmap.undo.status import Status
from dvid_es.errors import InvalidRequest
from dvid_es.ids import FIRST_MUTATION_ID
from dvid_es.projections.catalog import find_mutation, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

ACTIONS = ("merge", "cleave", "renumber", "split-supervoxel", "split", "mappings")
"""What can be undone."""

SPLITS = ("split-supervoxel", "split")
"""What has changed voxels."""


class Target(NamedTuple):
    """A mutation that is to be undone, or redone."""

    redo: bool
    action: str
    sequence: int
    version: int
    entry: Entry
    status: Status | None

    @property
    def name(self) -> str:
        """For people."""
        return name_of(self.entry.mutation_id, self.sequence)

    @property
    def applied(self) -> int:
        """Sequence since when its effect stands, or is taken back."""
        return self.sequence if self.status is None else self.status.sequence

    def states(self, txn: ReadTxn) -> tuple[View, View]:
        """Return the state that must be there now, and that which is to come back."""
        view = txn.view(self.version)
        before, after = view.at(self.sequence - 1), view.at(self.sequence)
        return (before, after) if self.redo else (after, before)

    def bodies(self) -> list[int]:
        """Return the bodies that it changed, the one that it was sent for first."""
        return bodies_of(self.entry)

    def splits(self) -> list[tuple[int, int, int]]:
        """Return the supervoxels that it split, with their split and remaining parts."""
        facts = self.entry.facts
        if self.action == "split-supervoxel":
            return [(facts["Supervoxel"], facts["SplitSupervoxel"], facts["RemainSupervoxel"])]
        found = facts.get("SVSplits", {}).items() if self.action == "split" else ()
        return [(int(sv), parts["Split"], parts["Remain"]) for sv, parts in found]


def name_of(mutation_id: int, sequence: int) -> str:
    """Return how people call a mutation: by its id, or else by its sequence."""
    return f"mutation {mutation_id}" if mutation_id else f"the event at sequence {sequence}"


def find(txn: ReadTxn, instance_id: int, view: View, number: int, *, redo: bool) -> Target:
    """Return what a request is about.

    Args:
        txn: the state.
        instance_id: the labelmap.
        view: of the version that is written to.
        number: a mutation id, or below 1,000,000,000 a sequence. That of an undo or a redo stands for
            what it undid or redid: an undo is undone by redoing.
        redo: what is asked for.

    Raises:
        InvalidRequest: there is no such mutation here, or nothing to undo or redo.
    """
    version, sequence = _place(txn, instance_id, view, number)
    if sequence > view.bounds.get(version, -1):
        raise InvalidRequest(
            f"{name_of(number, number)} is not part of this version: undo it in its own version or a"
            " descendant"
        )
    entry = entry_at(txn, instance_id, version, sequence)
    if entry.action in ("undo", "redo"):
        redo = redo or entry.action == "undo"
        sequence, version = entry.facts["Of"]
        entry = entry_at(txn, instance_id, version, sequence)
    action = entry.action.removesuffix("-complete")
    if action not in ACTIONS:
        raise InvalidRequest(
            f"a mutation of the kind {action} cannot be undone: only {', '.join(ACTIONS)}"
        )
    found = status.read(txn, instance_id, sequence, view)
    target = Target(redo, action, sequence, version, entry, found)
    undone = found is not None and found.undone
    if redo != undone:
        raise InvalidRequest(_nothing_to_do(target))
    return target


def _nothing_to_do(target: Target) -> str:
    found = target.status
    if not target.redo:
        assert found is not None
        return f"{target.name} was undone already, by mutation {found.mutation_id}"
    if found is None:
        return f"{target.name} cannot be redone: it was never undone"
    return f"{target.name} was redone already, by mutation {found.mutation_id}"


def _place(txn: ReadTxn, instance_id: int, view: View, number: int) -> tuple[int, int]:
    """Return version and sequence of a mutation of this instance."""
    if number >= FIRST_MUTATION_ID:
        place = find_mutation(txn, number)
        if place is None or place.instance != instance_id:
            raise InvalidRequest(f"mutation {number} is none of this instance")
        return place.version, place.sequence
    value = txn.get(instance_key(instance_id, JOURNAL) + number.to_bytes(8, "big"))
    if value is not None:
        return int.from_bytes(value[:4], "big"), number
    for version, sequence, _ in mapruns.visible(txn, instance_id, view):
        if sequence == number:
            return version, sequence
    raise InvalidRequest(f"the event at sequence {number} is no change of bodies of this instance")
