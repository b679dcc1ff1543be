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
from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Body
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes, to_bytes
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.datatypes.labelmap.indices.cache import last_change
from dvid_es.datatypes.labelmap.lineage.setdiff import difference
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL
from dvid_es.datatypes.labelmap.splits.splitting import Outdated
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.undo import dependents
from dvid_es.datatypes.labelmap.undo.events import Redone, Undone
from dvid_es.datatypes.labelmap.undo.target import SPLITS, Target, find
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]
Coords = NDArray[np.int32]


MAPPINGS_MAX = 1_000_000
"""Entries of the longest posted mapping that can be undone."""


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


class _Change(NamedTuple):
    """What happens to one body."""

    label: int
    lost: Labels
    gained: Labels
    voxels: int
    ends: bool


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
        changed = _Decided(txn, instance_id, view, target)
        bodies = changed.bodies()
        svs, mapped = changed.entries()
        changed.check_voxels()
        if changed.wrong_bodies or changed.wrong_svs:
            raise dependents.refuse(
                txn, instance_id, view, target, changed.wrong_bodies, changed.wrong_svs
            )
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


class _Decided:
    """Compares what a mutation changed with what is there, and says what comes back."""

    def __init__(self, txn: ReadTxn, instance_id: int, view: View, target: Target) -> None:
        self._txn = txn
        self._instance_id = instance_id
        self._view = view
        self._target = target
        self._source, self._back = target.states(txn)
        self.wrong_bodies: list[int] = []
        self.wrong_svs: list[int] = []

    def bodies(self) -> list[_Change]:
        """Return what happens to the bodies; those that are not as they must be are noted."""
        found = []
        for label in self._target.bodies():
            states = [self._read(label, view) for view in (self._source, self._back, self._view)]
            source, back, now = states
            lost, gained = difference(self._txn, self._instance_id, source, back)
            if not self._is_as_left(source, back, now, lost, gained):
                self.wrong_bodies.append(label)
                self.wrong_svs += lost.tolist()
                continue
            found.append(_Change(label, lost, gained, 0, back is None))
        return [] if self.wrong_bodies else self._with_voxels(found)

    def _read(self, label: int, view: View) -> Body | None:
        return bodysets.read(self._txn, self._instance_id, label, view)

    def _is_as_left(
        self, source: Body | None, back: Body | None, now: Body | None, lost: Labels, gained: Labels
    ) -> bool:
        if source is None or now is None:
            return source is now
        if now.overridden and self._target.action in SPLITS:
            raise InvalidRequest(
                f"{self._target.name} cannot be undone or redone: counts were posted for its body"
                " that are not those of the voxels"
            )
        held = bodysets.contains(self._txn, self._instance_id, now, lost)
        if not held.all() or (back is None and now.members != len(lost)):
            return False
        return not bodysets.contains(self._txn, self._instance_id, now, gained).any()

    def _with_voxels(self, found: list[_Change]) -> list[_Change]:
        """Add how many voxels each body has afterwards."""
        if self._target.action in SPLITS:
            return [self._after_split(change) for change in found]
        moved, out = 0, []
        for change in found[1:]:
            voxels = self._voxels_of_whole(change)
            moved += voxels if change.ends else -voxels
            out.append(change._replace(voxels=0 if change.ends else voxels))
        for change in found[:1]:
            now = self._read(change.label, self._view) or Body()
            out.insert(0, change._replace(voxels=now.voxels + moved))
        return out

    def _voxels_of_whole(self, change: _Change) -> int:
        """Return the voxels of a body that comes or goes as a whole."""
        if change.ends:
            body = self._read(change.label, self._view)
            return 0 if body is None else body.voxels
        back = self._read(change.label, self._back) or Body()
        if last_change(self._txn, self._instance_id) <= self._target.sequence:
            return back.voxels
        holder = self._target.bodies()[0]
        body = self._read(holder, self._view) or Body()
        voxels = indices.voxels_of(
            self._txn, self._instance_id, holder, body, change.gained, self._view
        )
        return int(voxels.sum(dtype=np.uint64))

    def _after_split(self, change: _Change) -> _Change:
        now = self._read(change.label, self._view) or Body()
        gained, lost = (
            int(self._totals(svs, view).sum(dtype=np.uint64))
            for svs, view in ((change.gained, self._back), (change.lost, self._source))
        )
        return change._replace(voxels=max(0, now.voxels + gained - lost))

    def _totals(self, svs: Labels, view: View) -> Labels:
        return svindex.voxels_of(self._txn, self._instance_id, svs, view)

    def entries(self) -> tuple[Labels, Labels]:
        """Return the entries of the mapping that come back; those that others changed are noted."""
        svs = self._mapped()
        if not len(svs):
            return svs, svs
        was, back, now = (self._look_up(svs, one) for one in (self._source, self._back, self._view))
        self.wrong_svs += svs[now != was].tolist()
        changes = was != back
        return svs[changes], back[changes]

    def _look_up(self, svs: Labels, view: View) -> Labels:
        bodies, found = mapping.lookup_rows(self._txn, self._instance_id, view, svs)
        return np.where(found, bodies, np.uint64(mapping.UNSET))

    def _mapped(self) -> Labels:
        """Return the supervoxels whose entries the mutation set."""
        sequence = self._target.sequence
        journal = instance_key(self._instance_id, JOURNAL) + sequence.to_bytes(8, "big")
        value = self._txn.get(journal)
        found = [NO_LABELS if value is None else from_bytes(value[4:])[::2]]
        view = self._txn.view(self._target.version)
        for version, written, ref in mapruns.visible(self._txn, self._instance_id, view):
            if written == sequence:
                run = mapruns.open_run(version, written, self._txn.bulk(ref))
                if run.entries > MAPPINGS_MAX:
                    raise InvalidRequest(
                        f"{self._target.name} set {run.entries} entries: more than {MAPPINGS_MAX} are"
                        " not undone at once; post the mapping of the version before"
                    )
                found.append(run.svs)
        return np.unique(np.concatenate(found))

    def check_voxels(self) -> None:
        """Note supervoxels of a split whose voxels others have changed."""
        splits = self._target.splits()
        if splits:
            svs = np.unique(np.array(splits, np.uint64))
            now, was = self._totals(svs, self._view), self._totals(svs, self._source)
            self.wrong_svs += svs[now != was].tolist()


def _labels(labels: list[int]) -> bytes:
    return to_bytes(np.array(labels, np.uint64))


def _sizes(parts: list[Labels]) -> bytes:
    return np.array([len(part) for part in parts], "<u4").tobytes()
