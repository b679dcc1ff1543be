"""How events of voxels change rows: blocks, extents, the instance's resolution."""

import msgspec
import numpy as np

from dvid_es.datatypes.imageblk import blocks, extents
from dvid_es.datatypes.imageblk.events import BlocksPut, ExtentsSet, ResolutionSet
from dvid_es.events import Event, Record
from dvid_es.projections.catalog import put_instance
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def fold_blocks_put(txn: WriteTxn, record: Record) -> None:
    """Write blocks, and let the extents grow."""
    event = record.event
    assert isinstance(event, BlocksPut)
    coords = np.frombuffer(txn.bulk(event.coords), "<i4").astype(np.int32).reshape(-1, 3)
    if event.blocks:
        blocks.put(txn, record, coords, event.blocks)
    if event.extents:
        extents.grow(txn, record, event.extents)


def fold_extents_set(txn: WriteTxn, record: Record) -> None:
    """Set the extents of a version."""
    event = record.event
    assert isinstance(event, ExtentsSet)
    extents.put(txn, record, event.extents)


def fold_resolution_set(txn: WriteTxn, record: Record) -> None:
    """Change the instance's document."""
    event = record.event
    assert isinstance(event, ResolutionSet)
    instance = txn.repo.instances[record.header.instance]
    # Events hold floats; settings hold whole numbers without a point, as info shows them.
    sizes = [int(size) if float(size).is_integer() else size for size in event.sizes]
    settings = {**instance.settings, "VoxelSize": sizes}
    put_instance(txn, msgspec.structs.replace(instance, settings=settings))


FOLDS: dict[type[Event], Fold] = {
    BlocksPut: fold_blocks_put,
    ExtentsSet: fold_extents_set,
    ResolutionSet: fold_resolution_set,
}
