"""The rows of a neuronjson instance, byte by byte: see KEYS.md, kinds 152 and 153."""

import struct

from dvid_es.datatypes.neuronjson.values import META, Stored, without
from dvid_es.projections.catalog import instance_key

RECORDS = 152
"""Kind of the rows of annotations."""

SCHEMAS = 153
"""Kind of the rows of schemas."""

JOURNAL = 154
"""Kind of the rows that say which annotations an event has written."""

SCHEMA_NAMES = ("json_schema", "schema", "schema_batch")
LARGEST = (1 << 64) - 1

_LENGTH = struct.Struct(">I")


def record_key(instance: int, body: int) -> bytes:
    """Return the row key, without version and sequence, of an annotation."""
    return instance_key(instance, RECORDS) + body.to_bytes(8, "big")


def body_of(row_key: bytes) -> int:
    """Return the body of a row key of an annotation."""
    return int.from_bytes(row_key[5:13], "big")


def journal_row(instance: int, version: int, sequence: int, bodies: bytes) -> tuple[bytes, bytes]:
    """Return key and value of the row that says which annotations an event has written."""
    key = instance_key(instance, JOURNAL) + sequence.to_bytes(8, "big")
    return key, version.to_bytes(4, "big") + bodies


def schema_key(instance: int, name: str) -> bytes:
    """Return the row key, without version and sequence, of a schema."""
    return instance_key(instance, SCHEMAS) + bytes((SCHEMA_NAMES.index(name),))


def encode(full: bytes) -> bytes:
    """Return the bytes of the row of an annotation: its text without authors and times, and the whole."""
    text = without(full, META)
    return _LENGTH.pack(len(text)) + text + (b"" if text == full else full)


def decode(row: bytes) -> Stored:
    """Return what a row holds; `row` is not a tombstone."""
    end = 4 + int.from_bytes(row[:4], "big")
    text = row[4:end]
    return Stored(text, row[end:] or text)
