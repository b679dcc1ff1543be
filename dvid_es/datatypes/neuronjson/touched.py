"""Which bodies the events of a neuronjson instance touch, and its annotations as a table."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dvid_es.analytics.touched import Describe, Fetch, Labels, Table, Touched, column, many_each
from dvid_es.datatypes.neuronjson.events import RecordsDeleted, RecordsPut
from dvid_es.datatypes.neuronjson.reads import scan
from dvid_es.datatypes.neuronjson.rows import decode
from dvid_es.events import Event
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

PAGE_BYTES = 4 << 20


def puts(events: Sequence[RecordsPut], fetch: Fetch) -> Touched:
    """Return the bodies that were annotated, and the fields that changed."""
    bodies = [fetch(event.bodies) for event in events]
    first = [int.from_bytes(some[:8], "little") if len(some) == 8 else 0 for some in bodies]
    facts = {
        place: {"fields": sorted({name for names in event.changed for name in names})}
        for place, event in enumerate(events)
        if event.changed
    }
    return Touched(column(first), None, (many_each("annotated", bodies),), facts)


def deletions(events: Sequence[RecordsDeleted], fetch: Fetch) -> Touched:
    """Return the bodies whose annotations were deleted."""
    bodies = [fetch(event.bodies) for event in events]
    first = [int.from_bytes(some[:8], "little") if len(some) == 8 else 0 for some in bodies]
    return Touched(column(first), None, (many_each("deleted", bodies),))


TOUCHED: Mapping[type[Event], Describe] = {RecordsPut: puts, RecordsDeleted: deletions}


def _annotations(
    txn: ReadTxn, instance: Instance, view: View
) -> Iterator[tuple[Labels, Sequence[str]]]:
    """Iterate over bodies and their whole annotations, about 4 MiB at once."""
    bodies: list[int] = []
    texts: list[str] = []
    size = 0
    for body, row in scan(txn, instance.id, view):
        text = decode(row).full
        bodies.append(body)
        texts.append(text.decode())
        size += len(text)
        if size >= PAGE_BYTES:
            yield np.array(bodies, np.uint64), texts
            bodies, texts, size = [], [], 0
    yield np.array(bodies, np.uint64), texts


TABLES = {"annotations": Table({"body": "u64", "annotation": "text"}, _annotations)}
