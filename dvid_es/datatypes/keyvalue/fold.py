"""How the rows of a keyvalue instance change."""

from collections.abc import Iterator
from typing import Any

from dvid_es.codecs import gojson
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
    rows = {}
    for key, bulk in zip(put.keys, put.values, strict=True):
        raw = key.encode()
        rows[value_key(header.instance, raw) + suffix] = encode_value(raw, bulk)
    if len(rows) == 1:
        txn.put(*next(iter(rows.items())))
    else:
        txn.put_many(sorted(rows.items()))
    facts = (
        {"Action": "postkv", "Key": key, "Bytes": bulk_length(bulk)}
        for key, bulk in zip(put.keys, put.values, strict=True)
    )
    mutations.put(txn, record, _texts(txn, record, put.addressed, facts))


def keys_deleted(txn: WriteTxn, record: Record) -> None:
    """Store tombstones, and a record of each for `mutations`."""
    deleted = record.event
    assert isinstance(deleted, KeysDeleted)
    header = record.header
    suffix = row_suffix(header.version, record.offset)
    for key in deleted.keys:
        txn.put(value_key(header.instance, key.encode()) + suffix, TOMBSTONE)
    facts = ({"Action": "delete", "Key": key} for key in deleted.keys)
    mutations.put(txn, record, _texts(txn, record, deleted.addressed, facts))


def _texts(
    txn: WriteTxn, record: Record, addressed: int, facts: Iterator[dict[str, Any]]
) -> Iterator[str]:
    """Iterate over records as DVID's clients know them, with user and client besides.

    Source: PutData and DeleteData in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
    """
    header = record.header
    version = txn.repo.graph.by_id[addressed or header.version]
    more = {"UUID": version.uuid, "Timestamp": _stamp(record.time_ns)}
    if header.user:
        more["User"] = header.user
    if header.app:
        more["App"] = header.app
    for fact in facts:
        yield gojson.dumps({**fact, **more}, sort_keys=True)


def _stamp(time_ns: int) -> str:
    """Return a time as Go prints it, always with a fraction: clients' patterns want one."""
    text = gojson.time_string(time_ns)
    return text if "." in text else text.replace(" +", ".0 +", 1)


FOLDS: dict[type[Event], Fold] = {ValuesPut: values_put, KeysDeleted: keys_deleted}
