"""What may be read of a neuronjson instance, in one transaction."""

from collections.abc import Iterator
from typing import NamedTuple

from dvid_es.datatypes.neuronjson.rows import (
    LARGEST,
    RECORDS,
    body_of,
    decode,
    record_key,
    schema_key,
)
from dvid_es.datatypes.neuronjson.values import Stored
from dvid_es.errors import VersionConflict
from dvid_es.events import Bulk
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Item = tuple[int, bytes]
"""A body and the row of its annotation."""


def find(txn: ReadTxn, instance: int, body: int, view: View) -> Stored | None:
    """Return the annotation of a body, or None.

    Raises:
        VersionConflict: parents of a version merge hold unequal ones.
    """
    try:
        row = versioned.read(txn, record_key(instance, body), view)
    except VersionConflict as conflict:
        raise VersionConflict(f"body {body}: {conflict} (with replace=true)") from None
    return None if row is None else decode(row)


class Schema(NamedTuple):
    """A schema, not yet fetched."""

    value: Bulk | None
    """None if it was deleted."""

    sequence: int
    """The event that stored or deleted it."""


NO_SCHEMA = Schema(None, -1)


def find_schema(txn: ReadTxn, instance: int, name: str, view: View) -> Schema:
    """Return a schema.

    Raises:
        VersionConflict: parents of a version merge hold unequal ones.
    """
    try:
        row = versioned.read_row(txn, schema_key(instance, name), view)
    except VersionConflict as conflict:
        raise VersionConflict(f"{name}: {conflict}") from None
    if row is None:
        return NO_SCHEMA
    return Schema(bulkrow.decode(row.value) if row.value else None, row.sequence)


def scan(
    txn: ReadTxn, instance: int, view: View, first: int = 0, last: int = LARGEST
) -> Iterator[Item]:
    """Iterate over the annotations of the bodies [first, last], ascending.

    Bodies in conflict at a version merge are left out.
    """
    start = record_key(instance, first)
    stop = (
        instance_key(instance, RECORDS + 1) if last == LARGEST else record_key(instance, last + 1)
    )
    if start < stop:
        for key, row in versioned.scan(txn, start, stop, view):
            yield body_of(key), row
