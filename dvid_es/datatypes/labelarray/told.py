"""What listeners of a labelarray or labelvol are told of its edits; see projections/labels.py."""

from collections.abc import Callable, Mapping

from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.events import Event, Record
from dvid_es.projections.labels import Told
from dvid_es.projections.txn import ReadTxn


def merged(record: Record, txn: ReadTxn) -> Told:
    """Tell of merged labels."""
    event = record.event
    assert isinstance(event, LabelsMerged)
    return Told("merge", event.coords)


def split(record: Record, txn: ReadTxn) -> Told:
    """Tell of a split label."""
    event = record.event
    assert isinstance(event, LabelSplit)
    return Told("split-coarse" if event.coarse else "split", event.coords)


TOLD: Mapping[type[Event], Callable[[Record, ReadTxn], Told | None]] = {
    LabelsMerged: merged,
    LabelSplit: split,
}
