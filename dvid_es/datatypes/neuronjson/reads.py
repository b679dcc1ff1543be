"""What may be read of a neuronjson instance, in one transaction."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dvid_es.datatypes.neuronjson.rows import (
    JOURNAL,
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
from dvid_es.versions import View, row_suffix

Item = tuple[int, bytes]
"""A body and the row of its annotation."""


def find(txn: ReadTxn, instance: int, body: int, view: View) -> Stored | None:
    """Return the annotation of a body, or None.

    Raises:
        VersionConflict: parents of a version merge hold unequal ones.
    """
    row = find_row(txn, instance, body, view)
    return None if row is None or not row.value else decode(row.value)


def find_row(txn: ReadTxn, instance: int, body: int, view: View) -> versioned.Row | None:
    """Return the row of an annotation, deletions included, or None if there never was one.

    Raises:
        VersionConflict: parents of a version merge hold unequal ones.
    """
    try:
        return versioned.read_row(txn, record_key(instance, body), view)
    except VersionConflict as conflict:
        raise VersionConflict(f"body {body}: {conflict} (with replace=true)") from None


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


def changed_bodies(txn: ReadTxn, instance: int, bound: int) -> dict[int, set[int]]:
    """Return which bodies were written at each version (ordinal), up to a sequence (inclusive)."""
    found: dict[int, set[int]] = {}
    prefix = instance_key(instance, JOURNAL)
    for key, value in txn.scan(prefix, prefix + b"\xff" * 9):
        if int.from_bytes(key[5:13], "big") > bound:
            break
        bodies = struct.unpack(f"<{(len(value) - 4) // 8}Q", value[4:])
        found.setdefault(int.from_bytes(value[:4], "big"), set()).update(bodies)
    return found


def row_of_version(txn: ReadTxn, instance: int, body: int, version: int, bound: int) -> bytes:
    """Return the last row of a body that was written at a version, up to a sequence; empty if deleted."""
    key = record_key(instance, body)
    found = txn.seek(key + row_suffix(version, bound))
    assert found is not None
    assert found[0].startswith(key), "the journal names a body without a row"
    return found[1]
