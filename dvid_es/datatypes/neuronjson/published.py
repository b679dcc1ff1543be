"""What DVID sends to Kafka about annotations: nothing of deletions and schemas.

Source: ServeHTTP and handleIngest in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid), which tells of
a POST before it is granted, and also if it is not.
"""

from collections.abc import Iterator, Mapping

from dvid_es.codecs import gojson
from dvid_es.datatypes.neuronjson.events import RecordsPut, SchemaPut
from dvid_es.datatypes.neuronjson.fold import unpacked
from dvid_es.events import Event, Record
from dvid_es.ids import PackRef
from dvid_es.projections.mutations import stamp
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic


def puts(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of each body for which something was posted."""
    event = record.event
    assert isinstance(event, RecordsPut)
    action = "ingestneuronjson" if event.batch else "postneuronjson"
    # Nothing was posted for those that settle a version merge.
    for body, size in zip(unpacked(txn.bulk(event.bodies)), event.posted, strict=False):
        yield _message(record, txn, action, str(body), size, event.addressed)


def schemas(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a schema that was posted like a body."""
    event = record.event
    assert isinstance(event, SchemaPut)
    if event.by_key:
        size = event.value.length if isinstance(event.value, PackRef) else len(event.value)
        yield _message(record, txn, "postneuronjson", event.name, size, event.addressed)


def _message(record: Record, txn: ReadTxn, action: str, key: str, size: int, addressed: int) -> str:
    fields = {
        "Action": action,
        "Key": key,
        "Bytes": size,
        "UUID": txn.repo.graph.by_id[addressed or record.header.version].uuid,
        "Timestamp": stamp(record.time_ns),
    }
    return gojson.dumps(fields, sort_keys=True)


PUBLISHED: Mapping[type[Event], Classic] = {RecordsPut: puts, SchemaPut: schemas}
