"""Splits as commands: prepared from one state, granted only if that is still the state.

Source: SplitSupervoxel and SplitLabels in datatype/labelmap/mutate.go (janelia-flyem/dvid).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelmap import instance_settings
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.labelsets import to_bytes
from dvid_es.datatypes.labelmap.splits import splitting
from dvid_es.datatypes.labelmap.splits.events import BodySplit, SupervoxelSplit
from dvid_es.datatypes.labelmap.splits.splitting import Found, Outdated, Parts
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Triple

Labels = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The blocks of a split with their new labels, kept already; see the events for the fields."""

    runs: Bulk
    coords: Bulk
    blocks: tuple[Bulk, ...]
    counts: Bulk
    shape_zyx: Triple
    downres: bool

    def levels(self, context: Context) -> int:
        """Return how many lower scales follow.

        Raises:
            InvalidRequest: the instance has other blocks by now.
        """
        instance = fixed_instance(context)
        if instance_settings.block_shape(instance) != self.shape_zyx:
            raise InvalidRequest("the BlockSize of the instance has changed; send the split again")
        return int(instance.settings["MaxDownresLevel"]) if self.downres else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSupervoxel:
    """Make two supervoxels of one."""

    supervoxel: int
    split: int
    """Label that the client has chosen, 0 for a new one."""

    remain: int
    voxels: int
    """Voxels of the split part."""

    found: Found
    """The state that the blocks were made from."""

    parts: Parts
    """The labels in the blocks."""

    reserved: bool
    """Whether those of them that the client has not chosen were reserved for this split."""

    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant the split if its blocks are those of the state.

        Raises:
            InvalidRequest: it cannot be granted any more.
            Outdated: it must be prepared again.
        """
        instance_id = fixed_instance(context).id
        txn, view = context.txn, context.view
        levels = self.made.levels(context)
        found = splitting.find_supervoxel(txn, instance_id, view, self.supervoxel)
        if not found.same(self.found):
            raise Outdated
        parts = self.parts
        if self.reserved:
            for label in (parts.split, parts.remain):
                splitting.check_unused(txn, instance_id, view, label)
        elif parts != splitting.label_parts(txn, instance_id, view, self.split, self.remain):
            raise Outdated(labels=True)
        event = SupervoxelSplit(
            supervoxel=self.supervoxel,
            body=found.body,
            split=parts.split,
            remain=parts.remain,
            split_voxels=self.voxels,
            remain_voxels=found.voxels - self.voxels,
            given=parts.given,
            chosen=parts.chosen,
            runs=self.made.runs,
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
            downres_levels=levels,
        )
        mutation_id = context.mutation_id()
        answer = (
            f'{{"SplitSupervoxel": {parts.split}, "RemainSupervoxel": {parts.remain},'
            f' "MutationID": {mutation_id}}}'
        )
        return Decision((Outcome(event=event, mutation_id=mutation_id),), answer.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitBody:
    """Make a new body of voxels of another one."""

    body: int
    supervoxels: Labels
    """Those that have some of the voxels, in the order in which the runs met them."""

    surveyed: tuple[Bulk | None, ...]
    """The blocks that the runs lie in, in which these supervoxels were found."""

    cut: splitting.Cut
    found: Found
    """The state that the blocks were made from."""

    first: int
    """The new body; the labels of both parts of each supervoxel follow."""

    reserved: bool
    """Whether these labels were reserved for this split."""

    made: Rewritten

    def decide(self, context: Context) -> Decision:
        """Grant the split if its blocks are those of the state.

        Raises:
            InvalidRequest: it cannot be granted, or not any more.
            Outdated: it must be prepared again.
        """
        need_allowed(context.settings.get("allow_split"))
        instance_id = fixed_instance(context).id
        txn, view = context.txn, context.view
        levels = self.made.levels(context)
        found = splitting.find_members(txn, instance_id, view, self.body, self.supervoxels)
        surveyed = splitting.find_blocks(txn, instance_id, view, self.cut)
        if not found.same(self.found) or tuple(surveyed) != self.surveyed:
            raise Outdated
        count = 1 + 2 * len(self.supervoxels)
        last = self.first + count - 1
        if self.reserved:
            for label in range(self.first, last + 1):
                splitting.check_unused(txn, instance_id, view, label)
        elif counters.allocate(txn, instance_id, count) != (self.first, last):
            raise Outdated(labels=True)
        splits, remains = splitting.numbered(self.first, len(self.supervoxels))
        event = BodySplit(
            body=self.body,
            new_body=self.first,
            given=last,
            supervoxels=to_bytes(self.supervoxels),
            splits=to_bytes(splits),
            remains=to_bytes(remains),
            runs=self.made.runs,
            coords=self.made.coords,
            blocks=self.made.blocks,
            counts=self.made.counts,
            downres_levels=levels,
        )
        mutation_id = context.mutation_id()
        answer = f'{{"label": {self.first}, "MutationID": {mutation_id}}}'.encode()
        return Decision((Outcome(event=event, mutation_id=mutation_id),), answer)


def need_allowed(allowed: Any) -> None:
    """Refuse splits of bodies unless the server is configured to make them.

    Raises:
        InvalidRequest: it is not.
    """
    if not allowed:
        raise InvalidRequest(
            "split of bodies is deactivated on this server: set allow_split (DVID's"
            " allowLabelmapSplit), or use cleave and split-supervoxel"
        )
