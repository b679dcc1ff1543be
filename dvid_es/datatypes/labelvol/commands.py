"""Edits of a labelvol alone: prepared from one state, granted only if that is still the state. Pure."""

from dataclasses import dataclass

import numpy as np

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelarray import edits
from dvid_es.datatypes.labelarray.commands import Rewritten
from dvid_es.datatypes.labelarray.edits import Found, Outdated
from dvid_es.datatypes.labelvol.events import AreaDeleted, Resynced
from dvid_es.geometry import Box
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def find_area(txn: ReadTxn, instance_id: int, view: View, label: int, area: Box) -> Found:
    """Return the blocks of a label that lie in a box of blocks."""
    found = edits.find_labels(txn, instance_id, view, np.array([label], np.uint64))
    low, high = np.array(area.start_zyx), np.array(area.stop_zyx)
    outside = np.any((found.coords_zyx < low) | (found.coords_zyx >= high), axis=1)
    places = np.flatnonzero(~outside)
    return Found(found.coords_zyx[places], [found.stored[place] for place in places.tolist()])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteArea:
    """Drop the runs of a label in a box of blocks."""

    label: int
    area: Box
    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant it, if its blocks are those of the state; none is no event.

        Raises:
            Outdated: it must be prepared again.
        """
        instance_id = fixed_instance(context).id
        found = find_area(context.txn, instance_id, context.view, self.label, self.area)
        self.made.levels(context, found)
        if not len(found.coords_zyx):
            return Decision(())
        event = AreaDeleted(
            label=self.label,
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
        )
        return Decision((Outcome(event=event, mutation_id=context.mutation_id()),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """Make the runs of a label in some blocks again from voxels of a labelblk."""

    label: int
    source: int
    """Number of the labelblk."""

    source_version: int
    """Version of its voxels."""

    voxels: Found
    """The blocks of the labelblk, of the same coordinates."""

    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant it, if its blocks are those of the state; none is no event.

        Raises:
            Outdated: it must be prepared again.
        """
        instance_id = fixed_instance(context).id
        txn, coords = context.txn, self.made.found.coords_zyx
        self.made.levels(context, edits.find_blocks(txn, instance_id, context.view, coords))
        view = txn.view(self.source_version)
        if not edits.find_blocks(txn, self.source, view, coords).same(self.voxels):
            raise Outdated
        if not len(coords):
            return Decision(())
        event = Resynced(
            label=self.label,
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
        )
        return Decision((Outcome(event=event, mutation_id=context.mutation_id()),))
