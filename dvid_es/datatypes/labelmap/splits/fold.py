"""How splits change rows: blocks, supervoxel index, lower scales, sets, mapping, counters, records."""

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.bodies import bodysets, counters, following, mutationlog
from dvid_es.datatypes.labelmap.bodies.bodyrow import Body
from dvid_es.datatypes.labelmap.bodies.fold import last_of
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes, member
from dvid_es.datatypes.labelmap.indices import overrides
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.lineage import notes
from dvid_es.datatypes.labelmap.mapping import lookup as mapping
from dvid_es.datatypes.labelmap.splits.events import BodySplit, SupervoxelSplit
from dvid_es.datatypes.labelmap.svindex import rows as svindex
from dvid_es.datatypes.labelmap.voxels import blocks, downres
from dvid_es.datatypes.labelmap.voxels.prepare import counts_of
from dvid_es.events import Event, Record
from dvid_es.projections import blobs
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn

Labels = NDArray[np.uint64]


def fold_supervoxel_split(txn: WriteTxn, record: Record) -> None:
    """Let two supervoxels take the place of one in its body."""
    event = record.event
    assert isinstance(event, SupervoxelSplit)
    header = record.header
    sv, parts = np.array([event.supervoxel], np.uint64), [event.split, event.remain]
    made = np.sort(np.array(parts, np.uint64))
    lost, gained = _fold_blocks(txn, record, event, sv, made)
    body = bodysets.read(txn, header.instance, event.body, txn.view(header.version))
    assert body is not None
    voxels = body.voxels + _settled(txn, record, event.body, body, sv, lost)
    left = bodysets.with_removed(txn, record, event.body, body, sv)
    left = bodysets.with_added(txn, record, event.body, left, made[gained > 0])
    voxels += int(gained.sum()) - int(lost.sum())
    bodysets.put(txn, record, event.body, left._replace(voxels=voxels, last=last_of(record)))
    labels = np.array([event.body, event.body, 0], np.uint64)
    mapping.put_entries(txn, record, np.array([*parts, event.supervoxel], np.uint64), labels)
    if event.given:
        counters.take(txn, header.instance, header.version, event.given, record.offset)
    highest = max(event.chosen, event.body)
    counters.raise_max(txn, header.instance, header.version, highest, record.offset)
    facts: mutationlog.Facts = {
        "Supervoxel": event.supervoxel,
        "Body": event.body,
        "SplitSupervoxel": event.split,
        "RemainSupervoxel": event.remain,
        "Split": blobs.put(txn, event.runs),
        "SplitSize": event.split_voxels,
        "RemainSize": event.remain_voxels,
    }
    mutationlog.put(txn, record, "split-supervoxel-complete", facts)


def fold_body_split(txn: WriteTxn, record: Record) -> None:
    """Make a new body of parts of supervoxels of another one."""
    event = record.event
    assert isinstance(event, BodySplit)
    header = record.header
    svs = from_bytes(txn.bulk(event.supervoxels))
    splits, remains = (from_bytes(txn.bulk(part)) for part in (event.splits, event.remains))
    # New labels ascend within the parts of a split, and all of them within both.
    labels = np.sort(np.concatenate([splits, remains]))
    lost, gained = _fold_blocks(txn, record, event, np.sort(svs), labels)
    is_split = member(labels, np.sort(splits))
    body = bodysets.read(txn, header.instance, event.body, txn.view(header.version))
    assert body is not None
    voxels = body.voxels + _settled(txn, record, event.body, body, np.sort(svs), lost)
    staying, leaving = labels[~is_split & (gained > 0)], labels[is_split & (gained > 0)]
    last = last_of(record)
    left = bodysets.with_removed(txn, record, event.body, body, np.sort(svs))
    left = bodysets.with_added(txn, record, event.body, left, staying)
    voxels += int(gained[~is_split].sum()) - int(lost.sum())
    left = left._replace(voxels=voxels, last=last)
    bodysets.put(txn, record, event.body, left if left.members else None)
    made = bodysets.with_added(txn, record, event.new_body, Body(), leaving)
    made = made._replace(voxels=int(gained[is_split].sum()), last=last)
    bodysets.put(txn, record, event.new_body, made)
    bodies = np.repeat(np.array([event.new_body, event.body, 0], np.uint64), len(svs))
    mapping.put_entries(txn, record, np.concatenate([splits, remains, svs]), bodies)
    counters.take(txn, header.instance, header.version, event.given, record.offset)
    counters.raise_max(txn, header.instance, header.version, event.body, record.offset)
    pairs = zip(*(part.tolist() for part in (svs, splits, remains)), strict=True)
    facts: mutationlog.Facts = {
        "Target": event.body,
        "NewLabel": event.new_body,
        "Split": blobs.put(txn, event.runs),
        "SVSplits": {str(sv): {"Split": split, "Remain": remain} for sv, split, remain in pairs},
    }
    mutationlog.put(txn, record, "split-complete", facts)


def _fold_blocks(
    txn: WriteTxn, record: Record, event: SupervoxelSplit | BodySplit, svs: Labels, made: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write the blocks and what follows from them, but for the supervoxels of the split.

    Returns:
        int64[len(svs)], int64[len(made)]: the voxels that old ones have lost and new ones gained.
    """
    instance = txn.repo.instances[record.header.instance]
    coords = np.frombuffer(txn.bulk(event.coords), "<i4").astype(np.int32).reshape(-1, 3)
    blocks.put_blocks(txn, record, 0, coords, event.blocks)
    counts = counts_of(txn.bulk(event.counts), len(coords))
    change = svindex.change_blocks(txn, record, coords, counts)
    own = member(change.svs, svs) | member(change.svs, made)
    # Others change only where indices were posted that the voxels did not agree with.
    others = following.fold_voxel_change(txn, record, change.svs[~own], change.delta[~own])
    notes.put(txn, record, "split", others, event.coords)
    if event.downres_levels:
        shape = block_shape(instance)
        downres.fold_levels(txn, record, 0, coords, event.blocks, event.downres_levels, shape)
    deltas = dict(zip(change.svs.tolist(), change.delta.tolist(), strict=True))
    lost = np.array([-deltas.get(sv, 0) for sv in svs.tolist()], np.int64)
    return lost, np.array([deltas.get(sv, 0) for sv in made.tolist()], np.int64)


def _settled(
    txn: WriteTxn, record: Record, label: int, body: Body, svs: Labels, lost: NDArray[np.int64]
) -> int:
    """End what was posted of the counts of old supervoxels; return what the body gains by that."""
    if not body.overridden:
        return 0
    return overrides.end(txn, record, label, svs, lost.astype(np.uint64))


FOLDS: dict[type[Event], Fold] = {
    SupervoxelSplit: fold_supervoxel_split,
    BodySplit: fold_body_split,
}
