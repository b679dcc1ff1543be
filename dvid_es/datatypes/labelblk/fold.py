"""What follows from voxels of a labelblk; its own rows are written as those of a labelmap."""

from dvid_es.datatypes.labelarray.fold import coords_of, is_of
from dvid_es.datatypes.labelblk import following
from dvid_es.datatypes.labelmap.voxels.events import BlocksPut
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.events import Event, Record
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn

TYPENAME = "labelblk"


def fold_blocks_put(txn: WriteTxn, record: Record) -> None:
    """Let the instances that listen to a labelblk follow its voxels."""
    event = record.event
    assert isinstance(event, BlocksPut)
    if is_of(txn, record, TYPENAME):
        coords = coords_of(txn, event.coords)
        counts = counts_of(txn.bulk(event.counts), len(coords))
        following.follow(txn, record, following.Changed(coords, event.blocks, counts))


FOLDS: dict[type[Event], Fold] = {BlocksPut: fold_blocks_put}
