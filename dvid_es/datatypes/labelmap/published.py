"""What DVID sends to Kafka about labels: the start of each mutation and its end, and label counters.

Source: LogJSONMutation's and PublishKafkaMsg's callers in datatype/labelmap (janelia-flyem/dvid). There
the start is sent before anything is done; here both follow a mutation that is durable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelmap.bodies import mutationlog
from dvid_es.datatypes.labelmap.bodies.events import (
    Cleaved,
    LabelsReserved,
    MaxLabelRaised,
    Merged,
    NextLabelSet,
    Renumbered,
)
from dvid_es.datatypes.labelmap.splits.events import BodySplit, SupervoxelSplit
from dvid_es.datatypes.labelmap.undo.events import Redone, Undone
from dvid_es.events import Event, Record
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic, long_reference


def mutation(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of start and end of a mutation; of an undo or redo, in the nearest words of DVID."""
    header = record.header
    entry = mutationlog.at(txn, header.instance, header.version, record.offset)
    if entry is None:
        return
    uuid = txn.repo.graph.by_id[header.version].uuid
    for begun, done in mutationlog.told(entry):
        reference = ""
        if mutationlog.is_long(begun.facts):
            reference = long_reference(mutationlog.to_json(begun, uuid))
        for one in mutationlog.shortened(begun, done, reference):
            yield mutationlog.to_json(one, uuid)


def reserved(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of labels that were given to a client."""
    event = record.event
    assert isinstance(event, LabelsReserved)
    yield _counter(
        record, txn, "post-nextlabel", {"Start Label": event.start, "End Label": event.end}
    )


def max_label(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of a higher maximum."""
    assert isinstance(record.event, MaxLabelRaised)
    yield _counter(record, txn, "post-maxlabel", {"MaxLabel": record.event.label})


def next_label(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell from where new labels are given."""
    event = record.event
    assert isinstance(event, NextLabelSet)
    ceiling = {"Ceiling": event.ceiling} if event.ceiling else {}
    yield _counter(record, txn, "setnextlabel", {"Next Label": event.label, **ceiling})


def _counter(record: Record, txn: ReadTxn, action: str, more: dict[str, Any]) -> str:
    fields = {
        "Action": action,
        "UUID": txn.repo.graph.by_id[record.header.version].uuid,
        "Timestamp": mutationlog.timestamp(record.time_ns),
        **more,
    }
    return gojson.dumps(fields, sort_keys=True)


PUBLISHED: Mapping[type[Event], Classic] = {
    **dict.fromkeys(
        (Merged, Cleaved, Renumbered, SupervoxelSplit, BodySplit, Undone, Redone), mutation
    ),
    LabelsReserved: reserved,
    MaxLabelRaised: max_label,
    NextLabelSet: next_label,
}
