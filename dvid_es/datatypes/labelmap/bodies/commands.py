"""What clients ask of bodies, and how it is decided: merge, cleave, renumber, mappings, indices.

Everything is validated before a label or a mutation id is given.

Source: MergeLabels, CleaveLabel and RenumberLabels in datatype/labelmap/mutate.go, cleaveIndex in
labelidx.go (janelia-flyem/dvid).
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.datatypes.labelmap.bodies import bodyrow, bodysets, counters, few
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Body
from dvid_es.datatypes.labelmap.bodies.events import (
    Cleaved,
    IndicesPut,
    MappingsPosted,
    Merged,
    Renumbered,
)
from dvid_es.datatypes.labelmap.bodies.labelsets import distinct, from_bytes, member, to_bytes
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.ids import PackRef

Labels = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge bodies into a target."""

    target: int
    bodies: tuple[int, ...]
    """Repeats allowed."""

    def decide(self, context: Context) -> Decision:
        """Move the supervoxels of all bodies to the target."""
        instance_id = fixed_instance(context).id
        if not self.bodies:
            raise InvalidRequest("merge requested without any labels to merge")
        if 0 in self.bodies:
            raise InvalidRequest("can't merge label 0, the background")
        if self.target in self.bodies:
            raise InvalidRequest(f"can't merge label {self.target} into itself")
        merged = None
        if self.target and len(self.bodies) < few.FEW:
            merged = few.merged(context, instance_id, self.target, sorted(set(self.bodies)))
        if merged is None:
            merged = self._merged(context, instance_id)
        mutation_id = context.mutation_id()
        answer = b'{"MutationID": %d}' % mutation_id
        return Decision((Outcome(event=merged, mutation_id=mutation_id),), answer)

    def _merged(self, context: Context, instance_id: int) -> Merged:
        txn, view = context.txn, context.view
        target = bodysets.read(txn, instance_id, self.target, view) if self.target else None
        if target is None:
            raise InvalidRequest(f"can't merge into a non-existent label {self.target}")
        bodies = distinct(np.array(self.bodies, np.uint64))
        gained = _contents(context, instance_id, bodies)
        _check_disjoint(context, instance_id, target, self.target, from_bytes(gained.supervoxels))
        return Merged(
            target=self.target,
            bodies=to_bytes(bodies),
            sizes=gained.sizes,
            supervoxels=gained.supervoxels,
            voxels=gained.voxels,
            overridden=gained.overridden,
        )


class _Contents(NamedTuple):
    """What bodies consist of, as `Merged` says it."""

    sizes: bytes
    supervoxels: bytes
    voxels: int
    overridden: tuple[int, ...] = ()


def _contents(context: Context, instance_id: int, bodies: Labels) -> _Contents:
    """Return what bodies, uint64[n] ascending, consist of.

    Raises:
        InvalidRequest: one of them does not exist.
    """
    values = bodysets.read_values(context.txn, instance_id, bodies, context.view)
    if None in values:
        missing = bodies[values.index(None)]
        raise InvalidRequest(f"can't merge non-existent label {missing}")
    there = cast("list[bytes]", values)
    if len(there) > 1 and (singles := bodyrow.peek_singles(there)) is not None:
        ones = np.ones(len(there), "<u4").tobytes()
        return _Contents(ones, to_bytes(singles[0]), singles[1])
    pieces, sizes, voxels, overridden = [], [], 0, []
    for label, value in zip(bodies.tolist(), there, strict=True):
        size, count, svs, has_overrides = bodyrow.peek(value)
        if size == 0:
            raise InvalidRequest(f"can't merge label {label} with no voxels")
        if svs is None:
            body = bodyrow.decode(value)
            svs = bodysets.supervoxels(context.txn, instance_id, body).tobytes()
        if has_overrides:
            overridden.append(label)
        pieces.append(svs)
        sizes.append(count)
        voxels += size
    packed = struct.pack(f"<{len(sizes)}I", *sizes)
    return _Contents(packed, b"".join(pieces), voxels, tuple(overridden))


def _check_disjoint(
    context: Context, instance_id: int, target: Body, label: int, moved: Labels
) -> None:
    """Refuse a supervoxel that two of the bodies hold, as posted indices may say."""
    ordered = np.sort(moved)
    if (ordered[1:] == ordered[:-1]).any():
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        raise InvalidRequest(f"supervoxel {ordered[twice[0]]} is in two of the merged labels")
    if not target.bases and not member(target.added, ordered).any():
        return
    inside = bodysets.contains(context.txn, instance_id, target, moved)
    if inside.any():
        raise InvalidRequest(f"supervoxel {moved[inside][0]} is in label {label} already")


@dataclass(frozen=True, slots=True)
class Cleave:
    """Make a new body of supervoxels of another one."""

    body: int
    supervoxels: tuple[int, ...]
    """As posted."""

    def decide(self, context: Context) -> Decision:
        """Give the new body a label."""
        instance_id = fixed_instance(context).id
        if not self.supervoxels:
            raise InvalidRequest("no supervoxels to cleave: the list is empty")
        cleaved = None
        if len(self.supervoxels) < few.FEW:
            cleaved = few.cleaved(context, instance_id, self.body, self.supervoxels)
        if cleaved is None:
            cleaved = self._cleaved(context, instance_id)
        mutation_id = context.mutation_id()
        answer = b'{"CleavedLabel": %d, "MutationID": %d}' % (cleaved.new_body, mutation_id)
        return Decision((Outcome(event=cleaved, mutation_id=mutation_id),), answer)

    def _cleaved(self, context: Context, instance_id: int) -> Cleaved:
        txn, view = context.txn, context.view
        body = bodysets.read(txn, instance_id, self.body, view)
        if body is None:
            raise InvalidRequest(f"cannot cleave non-existent label {self.body}")
        posted = np.array(self.supervoxels, np.uint64)
        asked = distinct(posted)
        inside = bodysets.contains(txn, instance_id, body, asked)
        moved, ghosts = asked, NO_LABELS
        if not inside.all():
            moved, ghosts = asked[inside], asked[~inside]
            self._check_ghosts(context, instance_id, ghosts)
        if len(moved) == body.members:
            raise InvalidRequest(f"cannot cleave all supervoxels from the label {self.body}")
        sizes = indices.voxels_of(txn, instance_id, self.body, body, moved, view)
        voxels = int(sizes.sum(dtype=np.uint64))
        new_body, _ = counters.allocate(txn, instance_id)
        return Cleaved(
            body=self.body,
            new_body=new_body,
            supervoxels=to_bytes(posted),
            ghosts=to_bytes(ghosts),
            cleaved_voxels=voxels,
            remain_voxels=body.voxels - voxels,
        )

    def _check_ghosts(self, context: Context, instance_id: int, ghosts: Labels) -> None:
        """Refuse supervoxels that are not in the body, unless the mapping says that they are."""
        labels, found = mapping.lookup_rows(context.txn, instance_id, context.view, ghosts)
        foreign = ghosts[~(found & (labels == np.uint64(self.body)))]
        if len(foreign):
            raise InvalidRequest(
                f"cannot cleave supervoxel {foreign[0]}, which does not exist in label {self.body}"
                f" ({fixed_instance(context).name})"
            )


@dataclass(frozen=True, slots=True)
class Renumber:
    """Give bodies other labels, one after the other, all or none."""

    pairs: tuple[tuple[int, int], ...]
    """New label, old label."""

    def decide(self, context: Context) -> Decision:
        """Follow each label through the pairs before it."""
        instance_id = fixed_instance(context).id
        txn, view = context.txn, context.view
        origins: dict[int, int | None] = {}
        mapped: set[int] = set()
        outcomes = []
        for new, old in self.pairs:
            if new == 0 or old == 0:
                raise InvalidRequest("can't renumber to or from label 0, the background")
            source = self._origin(context, instance_id, origins, old)
            if source is None:
                raise InvalidRequest(f"can't renumber non-existent body with label {old}")
            if new == old or self._origin(context, instance_id, origins, new) is not None:
                raise InvalidRequest(f"can't renumber into an existing label {new}")
            body = bodysets.read(txn, instance_id, source, view)
            assert body is not None
            svs = bodysets.supervoxels(txn, instance_id, body)
            mapped.update(svs.tolist())
            retires = new not in mapped and self._is_free(context, instance_id, new)
            mapped.add(new)
            origins[new], origins[old] = source, None
            event = Renumbered(old=old, new=new, supervoxels=to_bytes(svs), retires_new=retires)
            outcomes.append(Outcome(event=event, mutation_id=context.mutation_id()))
        return Decision(tuple(outcomes))

    @staticmethod
    def _origin(
        context: Context, instance_id: int, origins: dict[int, int | None], label: int
    ) -> int | None:
        """Return under which label the rows hold a body now, None if it does not exist."""
        if label not in origins:
            body = bodysets.read(context.txn, instance_id, label, context.view)
            origins[label] = None if body is None else label
        return origins[label]

    @staticmethod
    def _is_free(context: Context, instance_id: int, label: int) -> bool:
        """Say whether a label is neither in the mapping nor in voxels, so that it maps to nothing."""
        one = np.array([label], np.uint64)
        _, found = mapping.lookup_rows(context.txn, instance_id, context.view, one)
        voxels = svindex.voxels_of(context.txn, instance_id, one, context.view)
        return not found[0] and not voxels[0]


@dataclass(frozen=True, slots=True)
class PostMappings:
    """Set entries of the mapping."""

    supervoxels: Labels
    """Ascending and distinct; empty if there are runs."""

    bodies: Labels
    runs: tuple[PackRef, ...] = ()

    def decide(self, context: Context) -> Decision:
        """Set them."""
        fixed_instance(context)
        if not len(self.supervoxels) and not self.runs:
            return Decision(())
        event = MappingsPosted(
            supervoxels=to_bytes(self.supervoxels), bodies=to_bytes(self.bodies), runs=self.runs
        )
        return Decision((Outcome(event=event),))


@dataclass(frozen=True, slots=True)
class PutIndices:
    """Set label indices."""

    message: Bulk
    """A LabelIndices message, validated."""

    def decide(self, context: Context) -> Decision:
        """Set them."""
        fixed_instance(context)
        return Decision((Outcome(event=IndicesPut(indices=self.message)),))
