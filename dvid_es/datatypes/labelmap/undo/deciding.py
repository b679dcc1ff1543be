"""What a mutation changed, compared with what is there now: what comes back by undoing or redoing it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodysets
from dvid_es.datatypes.labelmap.bodies.bodyrow import NO_LABELS, Body
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.datatypes.labelmap.indices.cache import last_change
from dvid_es.datatypes.labelmap.lineage.setdiff import difference
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.mapping import runs as mapruns
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.undo import dependents
from dvid_es.datatypes.labelmap.undo.target import SPLITS, Target
from dvid_es.errors import InvalidRequest
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]

MAPPINGS_MAX = 1_000_000
"""Entries of the longest posted mapping that can be undone."""


class BodyChange(NamedTuple):
    """What happens to one body."""

    label: int
    lost: Labels
    gained: Labels
    voxels: int
    ends: bool


class Comparison:
    """Compares what a mutation changed with what is there, and says what comes back."""

    def __init__(self, txn: ReadTxn, instance_id: int, view: View, target: Target) -> None:
        """Compare for a reversal of `target` in the version of `view`."""
        self._txn = txn
        self._instance_id = instance_id
        self._view = view
        self._target = target
        self._source, self._back = target.states(txn)
        self.wrong = dependents.Wrong([], [], [])
        """What is not as it must be, as far as it was looked at."""

    def bodies(self) -> list[BodyChange]:
        """Return what happens to the bodies; those that are not as they must be are noted."""
        found = []
        for label in self._target.bodies():
            states = [self._read(label, view) for view in (self._source, self._back, self._view)]
            source, back, now = states
            lost, gained = difference(self._txn, self._instance_id, source, back)
            if source is None or now is None:
                if source is not now:
                    partly = now is None and back is not None
                    (self.wrong.ended if partly else self.wrong.bodies).append(label)
            else:
                self._check(label, now, lost, gained, whole=back is None)
            found.append(BodyChange(label, lost, gained, 0, back is None))
        return [] if self.wrong.anything else self._with_voxels(found)

    def _read(self, label: int, view: View) -> Body | None:
        return bodysets.read(self._txn, self._instance_id, label, view)

    def _check(self, label: int, now: Body, lost: Labels, gained: Labels, *, whole: bool) -> None:
        """Note what a body has not any more of what it is to lose, or has of what it is to gain."""
        if now.overridden and self._target.action in SPLITS:
            raise InvalidRequest(
                f"{self._target.name} cannot be undone or redone: counts were posted for body {label}"
                " that are not those of the voxels"
            )
        held = bodysets.contains(self._txn, self._instance_id, now, lost)
        twice = bodysets.contains(self._txn, self._instance_id, now, gained)
        self.wrong.svs.extend([*lost[~held].tolist(), *gained[twice].tolist()])
        if whole and now.members != len(lost):
            self.wrong.bodies.append(label)

    def _with_voxels(self, found: list[BodyChange]) -> list[BodyChange]:
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

    def _voxels_of_whole(self, change: BodyChange) -> int:
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

    def _after_split(self, change: BodyChange) -> BodyChange:
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
        self.wrong.svs.extend(svs[now != was].tolist())
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
            self.wrong.svs.extend(svs[now != was].tolist())
