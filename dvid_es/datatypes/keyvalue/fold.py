"""How the rows of a keyvalue instance change."""

from dvid_es.datatypes.keyvalue.events import KeysDeleted, ValuesPut
from dvid_es.datatypes.keyvalue.rows import bulk_length, encode_value, value_key
from dvid_es.events import Event, Record
from dvid_es.projections import mutations
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn
from dvid_es.projections.versioned import TOMBSTONE
from dvid_es.versions import row_suffix


def values_put(txn: WriteTxn, record: Record) -> None:
    """Store the values, and a record of each for `mutations`."""
    put = record.event
    assert isinstance(put, ValuesPut)
    header = record.header
    suffix = row_suffix(header.version, record.offset)
    if len(put.keys) == 1:
        raw = put.keys[0].encode()
        txn.put(value_key(header.instance, raw) + suffix, encode_value(raw, put.values[0]))
    else:
        rows = {}
        for key, bulk in zip(put.keys, put.values, strict=True):
            raw = key.encode()
            rows[value_key(header.instance, raw) + suffix] = encode_value(raw, bulk)
        txn.put_many(sorted(rows.items()))
    facts = [
        {"Action": "postkv", "Key": key, "Bytes": bulk_length(bulk)}
        for key, bulk in zip(put.keys, put.values, strict=True)
    ]
    mutations.put(txn, record, facts, put.addressed or header.version)


def keys_deleted(txn: WriteTxn, record: Record) -> None:
    """Store tombstones, and a record of each for `mutations`."""
    deleted = record.event
    assert isinstance(deleted, KeysDeleted)
    header = record.header
    suffix = row_suffix(header.version, record.offset)
    for key in deleted.keys:
        txn.put(value_key(header.instance, key.encode()) + suffix, TOMBSTONE)
    facts = [{"Action": "delete", "Key": key} for key in deleted.keys]
    mutations.put(txn, record, facts, deleted.addressed or header.version)


FOLDS: dict[type[Event], Fold] = {ValuesPut: values_put, KeysDeleted: keys_deleted}
