"""What DVID sends to Kafka about edits of labelarrays: the start of each with its facts, and its end.

The end names the mutation alone. Neither says who did it. The same edits of labelvols are not told.

Source: MergeLabels, SplitLabels and SplitCoarseLabels in datatype/labelarray/mutate.go
(janelia-flyem/dvid); datatype/labelvol sends nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelmap.bodies import mutationlog
from dvid_es.datatypes.labelmap.bodies.labelsets import from_bytes
from dvid_es.events import Event, Record
from dvid_es.projections import blobs
from dvid_es.projections.txn import ReadTxn
from dvid_es.publishing.messages import Classic

TYPENAME = "labelarray"


def merge(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of start and end of a merge."""
    event = record.event
    assert isinstance(event, LabelsMerged)
    labels = from_bytes(txn.bulk(event.labels)).tolist()
    yield from _both(record, txn, "merge", {"Target": event.target, "Labels": labels})


def split(record: Record, txn: ReadTxn) -> Iterator[str]:
    """Tell of start and end of a split; its runs are a blob."""
    event = record.event
    assert isinstance(event, LabelSplit)
    facts = {
        "Target": event.label,
        "NewLabel": event.new_label,
        "Split": blobs.reference(txn, event.runs),
    }
    yield from _both(record, txn, "splitcoarse" if event.coarse else "split", facts)


def _both(record: Record, txn: ReadTxn, action: str, facts: Mapping[str, Any]) -> Iterator[str]:
    header = record.header
    if txn.repo.instances[header.instance].typename != TYPENAME:
        return
    common = {
        "UUID": txn.repo.graph.by_id[header.version].uuid,
        "MutationID": header.mutation_id,
        "Timestamp": mutationlog.timestamp(record.time_ns),
    }
    yield gojson.dumps({"Action": action, **facts, **common}, sort_keys=True)
    yield gojson.dumps({"Action": f"{action}-complete", **common}, sort_keys=True)


PUBLISHED: Mapping[type[Event], Classic] = {LabelsMerged: merge, LabelSplit: split}
