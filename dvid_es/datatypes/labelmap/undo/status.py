"""Which mutations are undone: a temporal row for each that ever was, by the sequence of its event."""

from typing import NamedTuple

from dvid_es.events import Record
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

STATUS = 97
"""Kind of the rows."""

_UNDONE = 1
_REDONE = 2


class Status(NamedTuple):
    """Whether a mutation is undone, and by which one, or which one did it again."""

    undone: bool
    mutation_id: int
    sequence: int


def put(txn: WriteTxn, record: Record, sequence: int, *, undone: bool) -> None:
    """Note that an event undid, or redid, the event at `sequence`."""
    header = record.header
    value = bytes((_UNDONE if undone else _REDONE,)) + header.mutation_id.to_bytes(8, "big")
    versioned.put(txn, _key(header.instance, sequence), header.version, record.offset, value)


def read(txn: ReadTxn, instance_id: int, sequence: int, view: View) -> Status | None:
    """Return what has become of the event at `sequence`; None if nobody ever undid it."""
    rows = versioned.visible_rows(txn, _key(instance_id, sequence), view)
    row = max(rows, key=lambda found: found.sequence, default=None)
    if row is None:
        return None
    return Status(row.value[0] == _UNDONE, int.from_bytes(row.value[1:], "big"), row.sequence)


def is_undone(txn: ReadTxn, instance_id: int, sequence: int, view: View) -> bool:
    """Say whether the event at `sequence` does not count in a view any more."""
    found = read(txn, instance_id, sequence, view)
    return found is not None and found.undone


def any_undone(txn: ReadTxn, instance_id: int) -> bool:
    """Say whether anything was ever undone."""
    prefix = instance_key(instance_id, STATUS)
    pair = txn.seek(prefix)
    return pair is not None and pair[0].startswith(prefix)


def _key(instance_id: int, sequence: int) -> bytes:
    return instance_key(instance_id, STATUS) + sequence.to_bytes(8, "big")
