"""How events of voxels change rows: blocks, supervoxel index, extents, lower scales, settings."""

import msgspec
import numpy as np

from dvid_es.datatypes.labelmap.bodies import counters, following
from dvid_es.datatypes.labelmap.instance_settings import block_shape, has_bodies
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks, downres, extents
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut, ExtentsSet, SettingsChanged
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.events import Event, Record
from dvid_es.projections.catalog import put_instance
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def fold_blocks_put(txn: WriteTxn, record: Record) -> None:
    """Write blocks and what follows from them."""
    event = record.event
    assert isinstance(event, BlocksPut)
    header = record.header
    instance = txn.repo.instances[header.instance]
    coords = np.frombuffer(txn.bulk(event.coords), "<i4").astype(np.int32).reshape(-1, 3)
    blocks.put_blocks(txn, record, event.scale, coords, event.blocks)
    if event.indexed:
        counts = counts_of(txn.bulk(event.counts), len(coords))
        change = svindex.change_blocks(txn, record, coords, counts)
        if has_bodies(instance):
            bodies = following.fold_voxel_change(txn, record, change.svs, change.delta)
            notes.put(txn, record, "voxels", bodies, event.coords)
    if event.max_label:
        counters.raise_max(txn, instance.id, header.version, event.max_label, record.offset)
    if event.extents:
        extents.grow(txn, record, event.extents)
    if event.downres_levels:
        shape = block_shape(instance)
        levels = event.downres_levels
        downres.fold_levels(txn, record, event.scale, coords, event.blocks, levels, shape)


def fold_extents_set(txn: WriteTxn, record: Record) -> None:
    """Set the extents of a version."""
    event = record.event
    assert isinstance(event, ExtentsSet)
    extents.put(txn, record, event.extents)


def fold_settings_changed(txn: WriteTxn, record: Record) -> None:
    """Change the instance's document."""
    event = record.event
    assert isinstance(event, SettingsChanged)
    instance = txn.repo.instances[record.header.instance]
    settings = {**instance.settings, **event.settings}
    put_instance(txn, msgspec.structs.replace(instance, settings=settings))


FOLDS: dict[type[Event], Fold] = {
    BlocksPut: fold_blocks_put,
    ExtentsSet: fold_extents_set,
    SettingsChanged: fold_settings_changed,
}
