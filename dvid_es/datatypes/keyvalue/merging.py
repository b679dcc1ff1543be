"""What the parents of a version merge disagree about, and settling it."""

from collections.abc import Iterator
from itertools import islice

from dvid_es.datatypes.keyvalue.events import ValuesPut
from dvid_es.datatypes.keyvalue.rows import VALUES, decode_value, key_of
from dvid_es.http.datatype import Winner
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

KEYS_PER_EVENT = 500
"""With the longest keys half of what the log takes as one record."""


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the keys that a version cannot read."""
    for conflict in _conflicts(txn, instance, view):
        yield _key(conflict)


def resolve(txn: ReadTxn, instance: Instance, view: View, winner: Winner) -> Iterator[ValuesPut]:
    """Iterate over the events that give each key in conflict the value that `winner` chooses."""
    waiting = _conflicts(txn, instance, view)
    while batch := list(islice(waiting, KEYS_PER_EVENT)):
        yield ValuesPut(
            keys=tuple(_key(conflict) for conflict in batch),
            values=tuple(decode_value(winner(conflict.rows).value).bulk for conflict in batch),
        )


def _conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[versioned.Conflict]:
    start, stop = instance_key(instance.id, VALUES), instance_key(instance.id, VALUES + 1)
    return versioned.conflicts(txn, start, stop, view)


def _key(conflict: versioned.Conflict) -> str:
    return key_of(conflict.key, decode_value(conflict.rows[0].value)).decode()
