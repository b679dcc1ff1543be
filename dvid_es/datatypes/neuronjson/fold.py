"""How the rows of a neuronjson instance change."""

import struct
from collections.abc import Sequence

from dvid_es.datatypes.neuronjson.events import (
    RecordsDeleted,
    RecordsPut,
    SchemaDeleted,
    SchemaPut,
)
from dvid_es.datatypes.neuronjson.rows import encode, journal_row, record_key, schema_key
from dvid_es.events import Event, Record
from dvid_es.projections import bulkrow
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.projections.versioned import TOMBSTONE
from dvid_es.versions import row_suffix


def records_put(txn: WriteTxn, record: Record) -> None:
    """Store annotations."""
    put = record.event
    assert isinstance(put, RecordsPut)
    header = record.header
    bodies = txn.bulk(put.bodies)
    rows = sorted(
        (record_key(header.instance, body), encode(text))
        for body, text in zip(unpacked(bodies), put.records, strict=True)
    )
    txn.put_many(rows, row_suffix(header.version, record.offset))
    txn.put(*journal_row(header.instance, header.version, record.offset, bodies))


def records_deleted(txn: WriteTxn, record: Record) -> None:
    """Store tombstones."""
    deleted = record.event
    assert isinstance(deleted, RecordsDeleted)
    header = record.header
    suffix = row_suffix(header.version, record.offset)
    bodies = txn.bulk(deleted.bodies)
    for body in unpacked(bodies):
        txn.put(record_key(header.instance, body) + suffix, TOMBSTONE)
    txn.put(*journal_row(header.instance, header.version, record.offset, bodies))


def schema_put(txn: WriteTxn, record: Record) -> None:
    """Store a schema, or where it lies."""
    put = record.event
    assert isinstance(put, SchemaPut)
    suffix = row_suffix(record.header.version, record.offset)
    txn.put(schema_key(record.header.instance, put.name) + suffix, bulkrow.encode(put.value))


def schema_deleted(txn: WriteTxn, record: Record) -> None:
    """Store a tombstone."""
    deleted = record.event
    assert isinstance(deleted, SchemaDeleted)
    suffix = row_suffix(record.header.version, record.offset)
    txn.put(schema_key(record.header.instance, deleted.name) + suffix, TOMBSTONE)


def unpacked(bodies: bytes) -> Sequence[int]:
    """Return bodies of an event."""
    return struct.unpack(f"<{len(bodies) // 8}Q", bodies)


FOLDS: dict[type[Event], Fold] = {
    RecordsPut: records_put,
    RecordsDeleted: records_deleted,
    SchemaPut: schema_put,
    SchemaDeleted: schema_deleted,
}
