"""How instances follow each other by their syncs: labelvols and coarser labelblks follow a labelblk.

All of it happens in the fold of one event, so nobody ever sees one without the others. An instance
follows if it listens when the event happens, and only if both have the same block size.

Source: datatype/labelblk/sync.go and datatype/labelvol/sync.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from dvid_es.codecs import labelblock, storedblock
from dvid_es.datatypes.labelarray import maxlabel
from dvid_es.datatypes.labelarray.edits import Coords
from dvid_es.datatypes.labelarray.fold import put_labels
from dvid_es.datatypes.labelblk import coarser
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.svindex.rows import Counts
from dvid_es.events import Bulk, Record
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.projections.txn import WriteTxn

UNVERSIONED = 1
"""The version that all data of an unversioned instance belong to."""


class Changed(NamedTuple):
    """Blocks of a labelblk that have just been written."""

    coords_zyx: Coords
    """int32[n, 3], distinct, in ZYX order."""

    stored: Sequence[Bulk]
    counts: Counts | None
    """Voxels of the labels in them; None if they must be counted."""


def refused(instance: Instance, partner: Instance) -> str:
    """Say why an instance cannot listen to another one of these types; "" if it can."""
    own, other = instance.settings["BlockSize"], partner.settings["BlockSize"]
    if own == other:
        return ""
    return (
        f'data "{instance.name}" with blocks of {own} cannot be synced with "{partner.name}", which'
        f" has blocks of {other}"
    )


def listeners(repo: Repo, instance_id: int, typename: str) -> Iterator[Instance]:
    """Iterate over the instances of a type that listen to an instance and have its block size."""
    source = repo.instances[instance_id]
    for found in repo.instances.values():
        if (
            found.typename == typename
            and instance_id in found.syncs
            and not found.deleted
            and block_shape(found) == block_shape(source)
        ):
            yield found


def moved(record: Record, instance: Instance) -> Record:
    """Return a record as if its event had happened to another instance."""
    header = record.header
    version = header.version if instance.versioned else UNVERSIONED
    header = msgspec.structs.replace(header, instance=instance.id, version=version)
    return Record(record.offset, record.time_ns, header, record.event)


def follow(
    txn: WriteTxn, record: Record, changed: Changed, seen: frozenset[int] = frozenset()
) -> None:
    """Let all instances follow that listen to the labelblk of a record.

    Args:
        txn: holds the changed blocks already.
        record: of the event, `moved` to this labelblk.
        changed: its blocks.
        seen: instances that have changed already: circles of syncs end there.
    """
    source = record.header.instance
    seen = seen | {source}
    for labelvol in listeners(txn.repo, source, "labelvol"):
        if labelvol.id not in seen:
            if changed.counts is None:
                changed = changed._replace(counts=counted(txn, changed.stored))
            _index(txn, moved(record, labelvol), changed)
    for labelblk in listeners(txn.repo, source, "labelblk"):
        if labelblk.id not in seen:
            lower = moved(record, labelblk)
            shape = block_shape(labelblk)
            parents = coarser.put_parents(txn, lower, changed.coords_zyx, changed.stored, shape)
            follow(txn, lower, Changed(*parents, None), seen)


def _index(txn: WriteTxn, record: Record, changed: Changed) -> None:
    """Give a labelvol the blocks of the labelblk that it listens to."""
    counts = changed.counts
    assert counts is not None
    put_labels(txn, record, changed.coords_zyx, changed.stored, counts)
    if len(counts.labels):
        header = record.header
        highest = int(counts.labels.max())
        maxlabel.note(txn, header.instance, header.version, highest, record.offset)


def counted(txn: WriteTxn, stored: Sequence[Bulk]) -> Counts:
    """Return the voxels of the labels in stored blocks."""
    labels, voxels, sizes = [], [], [0]
    for block in stored:
        found, counts = labelblock.counts(storedblock.load(txn.bulk(block)))
        labels.append(found)
        voxels.append(counts.astype(np.uint32))
        sizes.append(len(found))
    starts = np.cumsum(np.array(sizes, np.int64))
    return Counts(starts, np.concatenate(labels), np.concatenate(voxels))
