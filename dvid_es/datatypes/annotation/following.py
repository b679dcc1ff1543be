"""How lists of labels follow voxels: within the fold of the event that writes them.

Lists are of supervoxels, so merges, cleaves and all that only maps supervoxels to other bodies move nothing.

Source: ingestBlock and mutateBlock in datatype/annotation/sync.go (janelia-flyem/dvid), which follow by
the labels of bodies, some time after the answer.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.changes import Changes
from dvid_es.datatypes.annotation.rows import Coords, Stored
from dvid_es.datatypes.annotation.source import UNVERSIONED, followed
from dvid_es.events import Record
from dvid_es.geometry import Triple
from dvid_es.projections.catalog import Instance
from dvid_es.projections.labels import SOURCES
from dvid_es.projections.temporal import big_endian
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.projections.versioned import TOMBSTONE, scan
from dvid_es.versions import View


class Relabeled(NamedTuple):
    """An element whose voxel was written."""

    point: Triple
    """ZYX."""

    before: int
    """Supervoxel; 0 for none."""

    after: int
    stored: Stored


def listeners(txn: ReadTxn, labels: int) -> Iterator[Instance]:
    """Iterate over the annotations that follow the labels of an instance."""
    for instance in txn.repo.instances.values():
        if instance.typename == "annotation" and labels in instance.syncs and not instance.deleted:
            source = followed(txn.repo, instance)
            if source is not None and source.id == labels:
                yield instance


def version_of(instance: Instance, version: int) -> int:
    """Return the version of an annotation that an event at `version` of its labels belongs to."""
    return version if instance.versioned else UNVERSIONED


def relabeled(
    txn: ReadTxn, record: Record, instance: Instance, coords_zyx: Coords, view: View
) -> list[Relabeled]:
    """Return the elements in written blocks, and what their voxels held before and after the event.

    Args:
        txn: a state that holds the event.
        record: its header names the labels that were written to.
        instance: an annotation that follows them.
        coords_zyx: int32[n, 3]: the blocks.
        view: what the annotation sees.
    """
    labels = txn.repo.instances[record.header.instance]
    source = SOURCES[labels.typename]
    shape = source.block_shape(labels)
    prefix = rows.instance_key(instance.id, rows.ELEMENTS)
    starts = [prefix + name + b"\1" for name in _names(coords_zyx)]
    found: list[tuple[Triple, Stored]] = []
    for start, pair, block_zyx in zip(
        starts, txn.seek_many(starts, b""), coords_zyx.tolist(), strict=True
    ):
        if pair is None:
            continue
        for key, value in scan(txn, start, start[:-1] + b"\2", view):
            point = rows.point_of(key, len(start))
            # Posted blocks may hold what lies elsewhere: its voxel is not among these.
            if [c // side for c, side in zip(point, shape, strict=True)] == block_zyx:
                found.append((point, rows.decode_element(value)))
    if not found:
        return []
    points = np.array([point for point, _ in found], np.int64)
    seen = txn.view(record.header.version)
    after = source.supervoxels_at(txn, labels, seen.at(record.offset), points).tolist()
    before = source.supervoxels_at(txn, labels, seen.at(record.offset - 1), points).tolist()
    return [
        Relabeled(point, old, new, stored)
        for (point, stored), old, new in zip(found, before, after, strict=True)
    ]


def _names(coords_zyx: Coords) -> Iterator[bytes]:
    data = big_endian(coords_zyx).tobytes()
    for at in range(0, len(data), 12):
        yield data[at : at + 12]


def follow_voxels(txn: WriteTxn, record: Record, coords_zyx: Coords) -> None:
    """List the elements in written blocks under what their voxels hold now."""
    for instance in listeners(txn, record.header.instance):
        version = version_of(instance, record.header.version)
        changes = Changes(txn, record, instance.id, version)
        found = relabeled(txn, record, instance, coords_zyx, changes.view)
        for one in found:
            point = rows.point_bytes(one.point)
            changes.label(one.before, point, TOMBSTONE)
            changes.label(one.after, point, one.stored.plain)
        changes.leave_out_known()
        changes.write()
