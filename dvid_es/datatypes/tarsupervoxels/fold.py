"""How the rows of a tarsupervoxels instance change."""

import struct
from collections.abc import Sequence

import msgspec

from dvid_es.datatypes.tarsupervoxels.events import BlobsDeleted, BlobsPut, Configured
from dvid_es.datatypes.tarsupervoxels.rows import ROOT, blob_keys
from dvid_es.events import Event, Record
from dvid_es.projections import bulkrow
from dvid_es.projections.catalog import put_instance
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.projections.versioned import TOMBSTONE
from dvid_es.versions import row_suffix


def blobs_put(txn: WriteTxn, record: Record) -> None:
    """Store the blobs, or where they lie."""
    put = record.event
    assert isinstance(put, BlobsPut)
    keys = blob_keys(record.header.instance, put.extension, unpacked(txn.bulk(put.supervoxels)))
    rows = dict(zip(keys, map(bulkrow.encode, put.blobs), strict=True))
    txn.put_many(sorted(rows.items()), row_suffix(ROOT, record.offset))


def blobs_deleted(txn: WriteTxn, record: Record) -> None:
    """Store tombstones."""
    deleted = record.event
    assert isinstance(deleted, BlobsDeleted)
    supervoxels = unpacked(txn.bulk(deleted.supervoxels))
    for key in blob_keys(record.header.instance, deleted.extension, supervoxels):
        txn.put(key + row_suffix(ROOT, record.offset), TOMBSTONE)


def configured(txn: WriteTxn, record: Record) -> None:
    """Change the document of the instance."""
    event = record.event
    assert isinstance(event, Configured)
    instance = txn.repo.instances[record.header.instance]
    extension = instance.settings["Extension"] if event.extension is None else event.extension
    changed = msgspec.structs.replace(
        instance,
        settings={**instance.settings, "Extension": extension},
        compression=instance.compression if event.compression is None else event.compression,
        checksum=instance.checksum if event.checksum is None else event.checksum,
    )
    put_instance(txn, changed)


def unpacked(supervoxels: bytes) -> Sequence[int]:
    """Return supervoxels of an event."""
    return struct.unpack(f"<{len(supervoxels) // 8}Q", supervoxels)


FOLDS: dict[type[Event], Fold] = {
    BlobsPut: blobs_put,
    BlobsDeleted: blobs_deleted,
    Configured: configured,
}
