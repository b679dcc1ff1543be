"""How others look into instances that keep voxels as labelmap does; see projections/labels.py."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies.reads import BodyReads
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.mapping.lookup import lookup_rows
from dvid_es.datatypes.labelmap.mapping.overlay import JOURNAL
from dvid_es.datatypes.labelmap.mapping.runs import visible
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.reads import PointRead
from dvid_es.errors import VersionConflict
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections import journal
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.labels import Coords, Labels, LabelSource, Points
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View


def find_blocks(
    txn: ReadTxn, instance: Instance, view: View, coords_zyx: Coords
) -> list[Bulk | None]:
    """Return stored blocks, None for those that are not there or in conflict."""
    try:
        return blocks.find_list(txn, instance.id, 0, coords_zyx, view)
    except VersionConflict:
        found: list[Bulk | None] = []
        for at in range(len(coords_zyx)):
            try:
                found += blocks.find_list(txn, instance.id, 0, coords_zyx[at : at + 1], view)
            except VersionConflict:
                found.append(None)
        return found


class _Packs(NamedTuple):
    """The packs behind a transaction, as readers of voxels want them."""

    txn: ReadTxn

    def get_many(self, refs: Sequence[PackRef]) -> list[bytes]:
        return self.txn.bulk_many(refs)


def supervoxels_at(txn: ReadTxn, instance: Instance, view: View, points_zyx: Points) -> Labels:
    """Return what voxels hold, 0 where there is nothing."""
    if not len(points_zyx):
        return np.zeros(0, np.uint64)
    read = PointRead(points_zyx, block_shape(instance))
    found = find_blocks(txn, instance, view, read.coords_zyx)
    read.look_up(_Packs(txn), found, 0, len(found))  # type: ignore[arg-type]
    return read.labels(None)


def bodies(txn: ReadTxn, instance: Instance, view: View, svs: Labels) -> Labels:
    """Return the bodies of supervoxels."""
    return lookup_rows(txn, instance.id, view, svs)[0]


def members(txn: ReadTxn, instance: Instance, view: View, label: int) -> Labels:
    """Return the supervoxels of a body, and its own label unless another body has that."""
    found = BodyReads(txn, instance.id, view).chosen(label, False)
    own = np.array([label], np.uint64)
    if int(bodies(txn, instance, view, own)[0]) != label:
        own = own[:0]
    return own if found is None else np.union1d(found[2], own)


def held(
    txn: ReadTxn, instance: Instance, view: View, owners: Labels, svs: Labels
) -> NDArray[np.bool_]:
    """Say of each supervoxel whether a body has it; without an index each is of its own body."""
    if not instance.settings["IndexedLabels"]:
        return owners == svs
    return BodyReads(txn, instance.id, view).held(owners, svs)[0]


def same_bodies(txn: ReadTxn, instance: Instance, view: View, svs: Labels) -> Labels:
    """Return labels that are bodies themselves."""
    return svs


def always_held(
    txn: ReadTxn, instance: Instance, view: View, owners: Labels, svs: Labels
) -> NDArray[np.bool_]:
    """Say that labels have themselves."""
    return owners == svs


def same_members(txn: ReadTxn, instance: Instance, view: View, label: int) -> Labels:
    """Return a label that is its own and only supervoxel."""
    return np.array([label], np.uint64)


def remapped(txn: ReadTxn, instance: Instance, old: View, new: View) -> Labels | None:
    """Return supervoxels that were mapped between two views; None if a run of mappings was posted."""
    if visible(txn, instance.id, old) != visible(txn, instance.id, new):
        return None
    found = journal.between(txn, instance_key(instance.id, JOURNAL), old, new)
    parts = [np.frombuffer(data, "<u8")[::2] for data in found]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def never_remapped(txn: ReadTxn, instance: Instance, old: View, new: View) -> Labels:
    """Return nothing: labels are bodies themselves."""
    return np.zeros(0, np.uint64)


MAPPED = LabelSource(block_shape, find_blocks, supervoxels_at, members, bodies, held, remapped)
"""Of types whose bodies are made of supervoxels."""

UNMAPPED = LabelSource(
    block_shape,
    find_blocks,
    supervoxels_at,
    same_members,
    same_bodies,
    always_held,
    never_remapped,
)
"""Of types whose labels are bodies themselves."""
