"""Undo and redo as a command: what must be so now, and what comes back.

A mutation made one state of some bodies, entries of the mapping and voxels into another one, and both
are still in the temporal rows. It can be undone where all that it changed is as it left it; what others
have changed since, even of the same body, stays as they made it. A redo is the same the other way round.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelmap.bodies.labelsets import to_bytes
from dvid_es.datatypes.labelmap.splits.splitting import Outdated
from dvid_es.datatypes.labelmap.undo import dependents
from dvid_es.datatypes.labelmap.undo.deciding import Comparison
from dvid_es.datatypes.labelmap.undo.events import Redone, Undone
from dvid_es.datatypes.labelmap.undo.target import SPLITS, Target, find
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.events import Bulk
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]


class Made(NamedTuple):
    """The blocks of a split as they come back, kept already; see the event for the fields."""

    sequence: int
    """Of the mutation that they belong to."""

    coords_zyx: Coords
    stored: list[Bulk | None]
    """The blocks that they were made from."""

    coords: Bulk
    blocks: tuple[Bulk, ...]
    counts: Bulk
    levels: int


@dataclass(frozen=True, slots=True)
class Reverse:
    """Undo or redo a mutation."""

    number: int
    """Its mutation id, or a sequence."""

    redo: bool
    made: Made | None = None
    """Needed for splits."""

    def decide(self, context: Context) -> Decision:
        """Grant it if all that the mutation changed is as it must be.

        Raises:
            InvalidRequest: there is nothing to undo or redo.
            DependentMutations: later mutations stand in the way.
            Outdated: the blocks must be prepared again.
        """
        instance_id = fixed_instance(context).id
        txn, view = context.txn, context.view
        target = find(txn, instance_id, view, self.number, redo=self.redo)
        changed = Comparison(txn, instance_id, view, target)
        bodies = changed.bodies()
        svs, mapped = changed.entries()
        changed.check_voxels()
        if changed.wrong.anything:
            raise dependents.refuse(txn, instance_id, view, target, changed.wrong)
        made = self._blocks(txn, instance_id, view, target)
        splits = target.splits()
        origins: dict[str, tuple[int, ...]]
        if target.redo:
            origins = {str(part): (sv,) for sv, *parts in splits for part in parts}
        else:
            origins = {str(sv): (split, remain) for sv, split, remain in splits}
        event = (Redone if target.redo else Undone)(
            sequence=target.sequence,
            version=target.version,
            mutation=target.entry.mutation_id,
            action=target.action,
            bodies=_labels([body.label for body in bodies]),
            lost=b"".join(to_bytes(body.lost) for body in bodies),
            lost_sizes=_sizes([body.lost for body in bodies]),
            gained=b"".join(to_bytes(body.gained) for body in bodies),
            gained_sizes=_sizes([body.gained for body in bodies]),
            voxels=_labels([body.voxels for body in bodies]),
            ended=_labels([body.label for body in bodies if body.ends]),
            supervoxels=to_bytes(svs),
            mapped=to_bytes(mapped),
            origins=origins,
            facts=target.entry.facts if target.redo and splits else {},
            coords=made.coords if made else b"",
            blocks=made.blocks if made else (),
            counts=made.counts if made else b"",
            downres_levels=made.levels if made else 0,
        )
        mutation_id = context.mutation_id()
        name = "Redoes" if target.redo else "Undoes"
        what = target.entry.mutation_id or target.sequence
        answer = f'{{"MutationID": {mutation_id}, "{name}": {what}, "Action": "{target.action}"}}'
        return Decision((Outcome(event=event, mutation_id=mutation_id),), answer.encode())

    def _blocks(self, txn: ReadTxn, instance_id: int, view: View, target: Target) -> Made | None:
        """Return the blocks if they were made from those of this state."""
        if target.action not in SPLITS:
            return None
        made = self.made
        if made is None or made.sequence != target.sequence:
            raise Outdated
        if blocks.find_list(txn, instance_id, 0, made.coords_zyx, view) != made.stored:
            raise Outdated
        return made


def _labels(labels: list[int]) -> bytes:
    return to_bytes(np.array(labels, np.uint64))


def _sizes(parts: list[Labels]) -> bytes:
    return np.array([len(part) for part in parts], "<u4").tobytes()
