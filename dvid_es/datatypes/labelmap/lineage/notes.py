"""Notes of events that `/mutations` does not list or not wholly: voxel writes, mappings, indices, splits.

A note tells which event it was and which bodies and blocks it changed, so that lineages and diffs find
both without reading the log or the blocks.
"""

from collections.abc import Iterator

import msgspec

from dvid_es.events import Bulk, Record
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn

NOTES = 96
"""Kind of the rows: version u32, sequence u64."""


class Note(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a row holds."""

    action: str
    mutation_id: int
    """0 for events that have none."""

    time_ns: int
    user: str
    app: str
    bodies: bytes = b""
    """u64[n], little endian: bodies whose voxels the event changed."""

    coords: Bulk = b""
    """i32[n, 3], ZYX: blocks of scale 0 that it wrote with indexing."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Note).decode


def put(
    txn: WriteTxn, record: Record, action: str, bodies: bytes = b"", coords: Bulk = b""
) -> None:
    """Keep the note of an event."""
    header = record.header
    note = Note(action, header.mutation_id, record.time_ns, header.user, header.app, bodies, coords)
    txn.put(_key(header.instance, header.version, record.offset), _encode(note))


def read(txn: ReadTxn, instance_id: int, version: int, sequence: int) -> Note | None:
    """Return the note of one event, or None if it has none."""
    value = txn.get(_key(instance_id, version, sequence))
    return None if value is None else _decode(value)


def between(
    txn: ReadTxn, instance_id: int, version: int, after: int, last: int
) -> Iterator[tuple[int, Note]]:
    """Iterate over sequence and note of the events of a version behind `after`, up to `last`."""
    start = _key(instance_id, version, after + 1)
    for key, value in txn.scan(start, _key(instance_id, version, last) + b"\0"):
        yield int.from_bytes(key[-8:], "big"), _decode(value)


def _key(instance_id: int, version: int, sequence: int) -> bytes:
    place = version.to_bytes(4, "big") + sequence.to_bytes(8, "big")
    return instance_key(instance_id, NOTES) + place
