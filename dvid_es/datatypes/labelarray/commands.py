"""Merges and splits of labels: prepared from one state, granted only if that is still the state. Pure.

Source: MergeLabels, SplitLabels and SplitCoarseLabels in datatype/labelarray/mutate.go
(janelia-flyem/dvid).
"""

from dataclasses import dataclass

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelarray import edits
from dvid_es.datatypes.labelarray.edits import Found, Labels, Outdated
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelmap import instance_settings
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.labelsets import to_bytes
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """Blocks with other labels, kept already; see the events for the fields."""

    found: Found
    """The state that they were made from."""

    coords: Bulk
    blocks: tuple[Bulk, ...]
    counts: Bulk
    shape_zyx: Triple

    def levels(self, context: Context, found: Found) -> int:
        """Return how many lower scales follow.

        Raises:
            Outdated: the blocks were made from another state than `found`.
        """
        instance = fixed_instance(context)
        same_shape = instance_settings.block_shape(instance) == self.shape_zyx
        if not same_shape or not found.same(self.found):
            raise Outdated
        return int(instance.settings.get("MaxDownresLevel", 0))


def check_label(txn: ReadTxn, instance_id: int, view: View, label: int) -> None:
    """Refuse a label that no voxel has.

    Raises:
        InvalidRequest: it is one.
    """
    if not edits.voxels_of(txn, instance_id, label, view):
        raise InvalidRequest(f"there is no label {label} at this version")


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeLabels:
    """Give the voxels of some labels another label."""

    target: int
    labels: Labels
    """Ascending, distinct, none of them the target. Those that no voxel has change nothing."""

    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant it if its blocks are those of the state; none is no event.

        Raises:
            Outdated: it must be prepared again.
        """
        instance_id = fixed_instance(context).id
        found = edits.find_labels(context.txn, instance_id, context.view, self.labels)
        levels = self.made.levels(context, found)
        if not len(found.coords_zyx):
            return Decision(())
        event = LabelsMerged(
            target=self.target,
            labels=to_bytes(self.labels),
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
            downres_levels=levels,
        )
        return Decision((Outcome(event=event, mutation_id=context.mutation_id()),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLabel:
    """Give some voxels of a label another label."""

    label: int
    new_label: int
    given: bool
    """Whether the server gives the new label; the client has chosen it otherwise."""

    reserved: bool
    """Whether it was reserved for this split."""

    runs: Bulk
    coarse: bool
    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant it if its blocks are those of the state, and its new label is new.

        Raises:
            InvalidRequest: the label is no more.
            Outdated: it must be prepared again.
        """
        instance_id = fixed_instance(context).id
        txn, view = context.txn, context.view
        check_label(txn, instance_id, view, self.label)
        found = edits.find_blocks(txn, instance_id, view, self.made.found.coords_zyx)
        levels = self.made.levels(context, found)
        new = self.new_label
        if self.given and not self.reserved and counters.allocate(txn, instance_id)[0] != new:
            raise Outdated(labels=True)
        event = LabelSplit(
            label=self.label,
            new_label=new,
            runs=self.runs,
            coarse=self.coarse,
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
            downres_levels=levels,
        )
        answer = f'{{"label": {new}}}'.encode()
        return Decision((Outcome(event=event, mutation_id=context.mutation_id()),), answer)
