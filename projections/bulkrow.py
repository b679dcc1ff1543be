"""Bulk values in rows: 0 and the bytes themselves, or 1 and where a pack has them."""

import struct

from dvid_es.events import Bulk
from dvid_es.ids import PackRef

_REF = struct.Struct(">IQQI16s")
_INLINE, _PACKED = b"\0", b"\1"


def encode(bulk: Bulk) -> bytes:
    """Return the bytes of a row: never empty, so never a tombstone."""
    return _PACKED + _REF.pack(*bulk) if isinstance(bulk, PackRef) else _INLINE + bulk


def decode(row: bytes) -> Bulk:
    """Return what a row holds; `row` is not a tombstone."""
    return PackRef(*_REF.unpack_from(row, 1)) if row[0] else row[1:]


def length(bulk: Bulk) -> int:
    """Return the bytes of a value without reading it."""
    return bulk.length if isinstance(bulk, PackRef) else len(bulk)
