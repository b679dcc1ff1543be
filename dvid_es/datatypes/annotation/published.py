"""What DVID sends to Kafka about annotations.

Source: StoreElements, StoreBlocks, DeleteElement and MoveElement in datatype/annotation/annotation.go
(janelia-flyem/dvid). There they are sent before the write; here they follow it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.annotation.events import (
    BlocksReplaced,
    ElementDeleted,
    ElementMoved,
    ElementsPut,
)
from dvid_es.events import Event, Record
from dvid_es.projections import blobs
from dvid_es.projections.mutations import stamp
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic


def common(record: Record, txn: ReadTxn) -> dict[str, Any]:
    """Return the fields of every message."""
    header = record.header
    fields = {
        "UUID": txn.repo.graph.by_id[header.version].uuid,
        "Timestamp": stamp(record.time_ns),
    }
    return {**fields, "User": header.user} if header.user else fields


def posted(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of posted elements or blocks: where the body of the request is kept."""
    event = record.event
    assert isinstance(event, ElementsPut | BlocksReplaced)
    if event.told:
        action = "element-post" if isinstance(event, ElementsPut) else "blocks-post"
        reference = blobs.reference(txn, event.posted)
        fields = {"Action": action, "DataRef": reference, **common(record, txn)}
        yield gojson.dumps(fields, sort_keys=True)


def deleted(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a deleted element."""
    event = record.event
    assert isinstance(event, ElementDeleted)
    if event.told:
        fields = {"Action": "element-delete", "Point": event.point[::-1], **common(record, txn)}
        yield gojson.dumps(fields, sort_keys=True)


def moved(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a moved element."""
    event = record.event
    assert isinstance(event, ElementMoved)
    if event.told:
        places = {"From": event.source[::-1], "To": event.target[::-1]}
        fields = {"Action": "element-move", **places, **common(record, txn)}
        yield gojson.dumps(fields, sort_keys=True)


PUBLISHED: Mapping[type[Event], Classic] = {
    ElementsPut: posted,
    BlocksReplaced: posted,
    ElementDeleted: deleted,
    ElementMoved: moved,
}
