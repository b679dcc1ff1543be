"""How edits change a labelvol and the labelblks that listen to it."""

from collections.abc import Sequence

import numpy as np

from dvid_es.codecs import rle, storedblock
from dvid_es.datatypes.labelarray import maxlabel
from dvid_es.datatypes.labelarray.edits import Coords, Cover, Edit, Relabel
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelarray.fold import coords_of, is_of, put_edit, put_labels
from dvid_es.datatypes.labelblk.following import Changed, follow, listeners, moved
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.datatypes.labelvol.events import AreaDeleted, Resynced
from dvid_es.events import Bulk, Event, Record
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn

TYPENAME = "labelvol"


def fold_edit(txn: WriteTxn, record: Record) -> None:
    """Merge or split labels in a labelvol, then in the labelblks that listen to it."""
    if not is_of(txn, record, TYPENAME):
        return
    event = record.event
    assert isinstance(event, LabelsMerged | LabelSplit)
    header = record.header
    coords = coords_of(txn, event.coords)
    view = txn.view(header.version)
    before = blocks.find_list(txn, header.instance, 0, coords, view)
    put_edit(txn, record)
    for labelblk in listeners(txn.repo, header.instance, "labelblk"):
        _edit_voxels(txn, moved(record, labelblk), coords, before, frozenset({header.instance}))


def _edit_voxels(
    txn: WriteTxn,
    record: Record,
    coords_zyx: Coords,
    before: Sequence[Bulk | None],
    seen: frozenset[int],
) -> None:
    """Edit the voxels of a labelblk, and let others follow it.

    Where it has the very blocks that the labelvol had, it gets those that the labelvol has now.
    """
    event, header = record.event, record.header
    assert isinstance(event, LabelsMerged | LabelSplit)
    own = blocks.find_list(txn, header.instance, 0, coords_zyx, txn.view(header.version))
    edit: Edit | None = None
    places: list[int] = []
    stored: list[Bulk] = []
    for place, (block, theirs, made) in enumerate(zip(own, before, event.blocks, strict=True)):
        if block is None:
            continue
        if block != theirs:
            edit = edit or _edit_of(txn, record)
            edited = edit(storedblock.load(txn.bulk(block)), coords_zyx[place].tolist())
            made = storedblock.store(edited)
        places.append(place)
        stored.append(made)
    if places:
        coords_zyx = coords_zyx[places]
        blocks.put_blocks(txn, record, 0, coords_zyx, stored)
        follow(txn, record, Changed(coords_zyx, stored, None), seen)


def _edit_of(txn: WriteTxn, record: Record) -> Edit:
    """Return what an event does to a block."""
    event = record.event
    if isinstance(event, LabelsMerged):
        return Relabel(from_bytes(txn.bulk(event.labels)), event.target)
    assert isinstance(event, LabelSplit)
    if event.coarse:
        return Relabel(np.array([event.label], np.uint64), event.new_label)
    runs = rle.sort_runs(rle.parse_runs(txn.bulk(event.runs)), overlaps=True)
    shape = block_shape(txn.repo.instances[record.header.instance])
    return Cover(runs, shape, event.label, event.new_label)


def fold_own(txn: WriteTxn, record: Record) -> None:
    """Change runs of a label in a labelvol; no voxel of a labelblk changes by that."""
    event = record.event
    assert isinstance(event, AreaDeleted | Resynced)
    coords = coords_of(txn, event.coords)
    counts = counts_of(txn.bulk(event.counts), len(coords))
    put_labels(txn, record, coords, event.blocks, counts)
    if isinstance(event, Resynced) and event.label in counts.labels:
        header = record.header
        maxlabel.note(txn, header.instance, header.version, event.label, record.offset)


FOLDS: dict[type[Event], Fold] = {
    LabelsMerged: fold_edit,
    LabelSplit: fold_edit,
    AreaDeleted: fold_own,
    Resynced: fold_own,
}
