"""How the row of a region of interest changes."""

from dvid_es.datatypes.roi.events import SpansCleared, SpansReplaced
from dvid_es.events import Event, Record
from dvid_es.projections import regions
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import WriteTxn


def spans_replaced(txn: WriteTxn, record: Record) -> None:
    """Store the region."""
    event = record.event
    assert isinstance(event, SpansReplaced)
    header, layers = record.header, (event.min_z, event.max_z)
    regions.put(txn, header.instance, header.version, record.offset, event.spans, layers)


def spans_cleared(txn: WriteTxn, record: Record) -> None:
    """Store a tombstone."""
    header = record.header
    regions.put(txn, header.instance, header.version, record.offset, None)


FOLDS: dict[type[Event], Fold] = {SpansReplaced: spans_replaced, SpansCleared: spans_cleared}
