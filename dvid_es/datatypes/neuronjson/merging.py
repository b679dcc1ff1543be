"""What the parents of a version merge disagree about, and settling it."""

from collections.abc import Iterator
from itertools import islice

from dvid_es.datatypes.neuronjson.commands import packed
from dvid_es.datatypes.neuronjson.events import RecordsPut, SchemaPut
from dvid_es.datatypes.neuronjson.rows import (
    RECORDS,
    SCHEMA_NAMES,
    SCHEMAS,
    body_of,
    decode,
)
from dvid_es.events import Event
from dvid_es.http.datatype import Winner
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

BODIES_PER_EVENT = 500


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the bodies and schemas that a version cannot read."""
    for conflict in _conflicts(txn, instance, view, RECORDS):
        yield str(body_of(conflict.key))
    for conflict in _conflicts(txn, instance, view, SCHEMAS):
        yield SCHEMA_NAMES[conflict.key[5]]


def resolve(txn: ReadTxn, instance: Instance, view: View, winner: Winner) -> Iterator[Event]:
    """Iterate over the events that give each of them the value that `winner` chooses."""
    waiting = _conflicts(txn, instance, view, RECORDS)
    while batch := list(islice(waiting, BODIES_PER_EVENT)):
        yield RecordsPut(
            bodies=packed(body_of(conflict.key) for conflict in batch),
            records=tuple(decode(winner(conflict.rows).value).full for conflict in batch),
        )
    for conflict in _conflicts(txn, instance, view, SCHEMAS):
        value = bulkrow.decode(winner(conflict.rows).value)
        yield SchemaPut(name=SCHEMA_NAMES[conflict.key[5]], value=value)


def _conflicts(
    txn: ReadTxn, instance: Instance, view: View, kind: int
) -> Iterator[versioned.Conflict]:
    start, stop = instance_key(instance.id, kind), instance_key(instance.id, kind + 1)
    return versioned.conflicts(txn, start, stop, view)
