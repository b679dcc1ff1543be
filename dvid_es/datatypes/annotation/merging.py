"""What the parents of a version merge disagree about, and settling it."""

from collections.abc import Iterator
from itertools import islice

from dvid_es.datatypes.annotation import rows
from dvid_es.datatypes.annotation.events import RowsSettled
from dvid_es.http.datatype import Winner
from dvid_es.projections import versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

ROWS_PER_EVENT = 500

KINDS = (rows.ELEMENTS, rows.LABELED, rows.TAGGED)


def conflicts(txn: ReadTxn, instance: Instance, view: View) -> Iterator[str]:
    """Iterate over the blocks and elements that a version cannot read."""
    for conflict in _conflicts(txn, instance, view, rows.ELEMENTS):
        at = 5 if rows.is_block(conflict.key) else rows.BLOCK_BYTES + 1
        z, y, x = rows.point_of(conflict.key, at)
        yield f"{'block' if at == 5 else 'element'} {x}_{y}_{z}"


def resolve(txn: ReadTxn, instance: Instance, view: View, winner: Winner) -> Iterator[RowsSettled]:
    """Iterate over the events that give each row in conflict what `winner` chooses."""
    waiting = (found for kind in KINDS for found in _conflicts(txn, instance, view, kind))
    while batch := list(islice(waiting, ROWS_PER_EVENT)):
        chosen = tuple((found.key[4:], winner(found.rows).value) for found in batch)
        yield RowsSettled(rows=chosen)


def _conflicts(
    txn: ReadTxn, instance: Instance, view: View, kind: int
) -> Iterator[versioned.Conflict]:
    start, stop = instance_key(instance.id, kind), instance_key(instance.id, kind + 1)
    return versioned.conflicts(txn, start, stop, view)
