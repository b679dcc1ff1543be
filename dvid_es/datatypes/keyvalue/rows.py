"""The rows of a keyvalue instance, byte by byte: see KEYS.md, kind 32.

Keys sort by their UTF-8 bytes, and none is a prefix of another: NUL is escaped and a terminator
follows. What does not fit into LMDB's 511 bytes keeps a prefix of the key and a hash; then the
value holds the whole key, and scans put such neighbours in order.
"""

import hashlib
import struct
from typing import NamedTuple

from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections.catalog import instance_key

VALUES = 32
"""Kind of the rows of values."""

KEY_BYTES_MAX = 65_000
"""Longest key, in bytes of UTF-8; DVID's default store has the same limit."""

HEAD_BYTES = 5
"""Instance and kind, at the front of every row."""

SHORT_MAX = 488
"""An escaped key of so many bytes is a row key by itself: 511 - 4 - 5 - 2 - 12."""

CUT = 454
"""Bytes of a longer escaped key that its row keeps (one less where that would split an escape)."""

GROUP = CUT - 1
"""Rows that agree in so many bytes after their head may not be in the order of their keys."""

_TERMINATOR = b"\0\0"
_LONG_MARK = b"\0\1"
_PACKED = 1
_LONG = 2
_REF = struct.Struct(">IQQI16s")
_LENGTH = struct.Struct(">I")


class Stored(NamedTuple):
    """A row of a value, decoded."""

    bulk: Bulk
    key: bytes | None
    """The whole key, where the row key has only part of it."""


def check_key(key: str) -> bytes:
    """Return the UTF-8 bytes of a key.

    Raises:
        InvalidRequest: it is empty, too long, or holds half of a surrogate pair.
    """
    if not key:
        raise InvalidRequest("a key must have at least one character")
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("a key must be text that UTF-8 can hold") from None
    if len(raw) > KEY_BYTES_MAX:
        raise InvalidRequest(f"a key of {len(raw)} bytes is over the limit of {KEY_BYTES_MAX}")
    return raw


def escape(raw: bytes) -> bytes:
    """Return a key with each NUL followed by 0xFF, so that the terminator sorts before any byte."""
    return raw.replace(b"\0", b"\0\xff") if b"\0" in raw else raw


def value_key(instance: int, raw: bytes) -> bytes:
    """Return the row key, without version and sequence, of a key (UTF-8)."""
    escaped = escape(raw)
    head = instance_key(instance, VALUES)
    if len(escaped) <= SHORT_MAX:
        return head + escaped + _TERMINATOR
    digest = hashlib.blake2b(raw, digest_size=32).digest()
    return head + escaped[: _cut(escaped)] + _LONG_MARK + digest


def _cut(escaped: bytes) -> int:
    return GROUP if escaped[GROUP] == 0 else CUT


def key_of(row_key: bytes, stored: Stored) -> bytes:
    """Return the key (UTF-8) of a row of a value."""
    if stored.key is not None:
        return stored.key
    escaped = row_key[HEAD_BYTES:-2]
    return escaped.replace(b"\0\xff", b"\0") if b"\0" in escaped else escaped


def start_of(instance: int, first: bytes) -> bytes:
    """Return where a scan starts that must meet `first` and everything after it."""
    return instance_key(instance, VALUES) + escape(first)[:GROUP]


def stop_of(instance: int, last: bytes) -> bytes:
    """Return where a scan may stop (exclusive) that must meet `last`."""
    escaped = escape(last)
    if len(escaped) < GROUP:
        return instance_key(instance, VALUES) + escaped + b"\0\1"
    return instance_key(instance, VALUES) + escaped[:GROUP] + b"\xff\xff\xff\xff"


def encode_value(raw: bytes, bulk: Bulk) -> bytes:
    """Return the bytes of a row: flags, the key if it is long, then the value or where it lies."""
    flags = 0
    key = b""
    if len(raw) > SHORT_MAX // 2 and len(escape(raw)) > SHORT_MAX:
        flags |= _LONG
        key = _LENGTH.pack(len(raw)) + raw
    if isinstance(bulk, PackRef):
        return bytes((flags | _PACKED,)) + key + _REF.pack(*bulk)
    return bytes((flags,)) + key + bulk


def decode_value(row: bytes) -> Stored:
    """Return what a row says; `row` is not a tombstone."""
    flags = row[0]
    at = 1
    key = None
    if flags & _LONG:
        (length,) = _LENGTH.unpack_from(row, 1)
        at = 5 + length
        key = row[5:at]
    if flags & _PACKED:
        return Stored(PackRef(*_REF.unpack_from(row, at)), key)
    return Stored(row[at:], key)


def bulk_length(bulk: Bulk) -> int:
    """Return the bytes of a value without reading it."""
    return bulk.length if isinstance(bulk, PackRef) else len(bulk)
