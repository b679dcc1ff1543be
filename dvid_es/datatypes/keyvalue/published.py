"""What DVID sends to Kafka about keys and values.

Source: PutData, DeleteData and their callers in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
"""

from collections.abc import Iterator, Mapping

from dvid_es.codecs import gojson
from dvid_es.datatypes.keyvalue.events import KeysDeleted, ValuesPut
from dvid_es.events import Event, Record
from dvid_es.ids import PackRef
from dvid_es.projections.mutations import stamp
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic


def puts(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of each value that was put."""
    event = record.event
    assert isinstance(event, ValuesPut)
    common = _common(record, event.addressed, txn)
    for key, value in zip(event.keys, event.values, strict=True):
        size = value.length if isinstance(value, PackRef) else len(value)
        fields = {"Action": "postkv", "Key": key, "Bytes": size, **common}
        yield gojson.dumps(fields, sort_keys=True)


def deletions(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of each key that was deleted."""
    event = record.event
    assert isinstance(event, KeysDeleted)
    common = _common(record, event.addressed, txn)
    for key in event.keys:
        yield gojson.dumps({"Action": "delete", "Key": key, **common}, sort_keys=True)


def _common(record: Record, addressed: int, txn: ReadTxn) -> dict[str, str]:
    uuid = txn.repo.graph.by_id[addressed or record.header.version].uuid
    return {"UUID": uuid, "Timestamp": stamp(record.time_ns)}


PUBLISHED: Mapping[type[Event], Classic] = {ValuesPut: puts, KeysDeleted: deletions}
