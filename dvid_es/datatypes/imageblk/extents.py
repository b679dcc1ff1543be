"""Extents: the box of voxels that a version has or claims, which grows with writes of volumes."""

from dvid_es.events import Record
from dvid_es.projections import extents
from dvid_es.projections.catalog import Instance
from dvid_es.projections.extents import Extents
from dvid_es.projections.extents import union as union
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import View

EXTENTS = 133
"""Kind of the row: first x, y, z, last x, y, z as i32, little endian."""


def read(txn: ReadTxn, instance: Instance, view: View) -> Extents | None:
    """Return the extents that a view sees."""
    return extents.read(txn, EXTENTS, instance, view)


def shown(txn: ReadTxn, instance: Instance, view: View) -> Extents | None:
    """Return the extents that a view sees, or those of all branches where it sees none."""
    return extents.shown(txn, EXTENTS, instance, view)


def put(txn: WriteTxn, record: Record, box: Extents) -> None:
    """Set the extents at the version of an event."""
    extents.put(txn, EXTENTS, record, box)


def grow(txn: WriteTxn, record: Record, box: Extents) -> None:
    """Let the extents at the version of an event hold one more box."""
    extents.grow(txn, EXTENTS, record, box)
