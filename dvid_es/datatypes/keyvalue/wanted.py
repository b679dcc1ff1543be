"""Which keys a request asks for: bodies of batches, parts of values, Range headers."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from dvid_es.codecs import messages_pb2
from dvid_es.datatypes.keyvalue.rows import KEY_BYTES_MAX
from dvid_es.errors import InvalidRequest, RangeNotSatisfiable
from dvid_es.http.wire import parse_json

_NUMBER = re.compile(r"[0-9]{1,20}\Z")


class Wanted(NamedTuple):
    """A key of a batch, and the part of its value that is wanted."""

    key: str
    part: tuple[int, int] | None = None
    """First and last byte, both part of it; None is the whole value."""


def byte_number(text: str, name: str) -> int:
    """Return a position in a value.

    Raises:
        InvalidRequest: not an unsigned number of 64 bits.
    """
    if not _NUMBER.match(text) or (value := int(text)) >> 64:
        raise InvalidRequest(f'{name} must be an unsigned integer, got "{text}"')
    return value


def both_needed(key: str) -> InvalidRequest:
    """Return the error of a part with only one end."""
    return InvalidRequest(f'range read for key "{key}" requires both byte_start and byte_end')


def check_part(key: str, part: tuple[int, int], length: int) -> tuple[int, int]:
    """Return a part that lies in a value of `length` bytes.

    Raises:
        InvalidRequest: it does not.
    """
    start, end = part
    if start > end:
        raise InvalidRequest(f'byte_start {start} must be <= byte_end {end} for key "{key}"')
    for name, value in (("byte_start", start), ("byte_end", end)):
        if value >= length:
            raise InvalidRequest(
                f'{name} {value} is outside value for key "{key}" with {length} bytes'
            )
    return part


def part_of_query(args: Mapping[str, str], key: str) -> tuple[int, int] | None:
    """Return `byte_start` and `byte_end`, or None if neither is there.

    Raises:
        InvalidRequest: only one of them, or not numbers.
    """
    if "byte_start" not in args and "byte_end" not in args:
        return None
    if "byte_start" not in args or "byte_end" not in args:
        raise both_needed(key)
    return (
        byte_number(args["byte_start"], "byte_start"),
        byte_number(args["byte_end"], "byte_end"),
    )


def part_of_header(header: str, length: int) -> tuple[int, int] | None:
    """Return first and last byte that a Range header asks for; None for what is to be ignored.

    Only a single range of `bytes` counts, as in DVID, whose unit is case-sensitive.

    Raises:
        RangeNotSatisfiable: it lies outside of the value.

    Source: GET key in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
    """
    if not header.startswith("bytes=") or "," in header:
        return None
    left, dash, right = header[6:].partition("-")
    left, right = left.strip(), right.strip()
    if not dash or not (left or right):
        return None
    if any(part and (not _NUMBER.match(part) or int(part) >> 64) for part in (left, right)):
        return None
    if not left:
        count = min(int(right), length)
        if not count:
            raise RangeNotSatisfiable(f'Range "{header}" is not satisfiable', length)
        return length - count, length - 1
    start = int(left)
    if start >= length:
        raise RangeNotSatisfiable(
            f"Range start {start} is outside value with {length} bytes", length
        )
    if not right:
        return start, length - 1
    end = min(int(right), length - 1)
    return (start, end) if start <= end else None


def parse_wanted_json(body: bytes) -> list[Wanted]:
    """Return the keys of a JSON array: texts, or objects with `key`, `byte_start`, `byte_end`.

    Raises:
        InvalidRequest: anything else.
    """
    value = parse_json(body)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest("a JSON array of keys is needed")
    if all(item is None or isinstance(item, str) for item in value):
        return [Wanted(item or "") for item in value]
    return [_wanted_object({} if item is None else item) for item in value]


def _wanted_object(item: Any) -> Wanted:
    if not isinstance(item, dict):
        raise InvalidRequest(
            f"keys are all texts or all objects, and {json.dumps(item)[:60]} is neither"
        )
    fields = {name.lower(): value for name, value in item.items()}
    key = fields.get("key", "")
    if not isinstance(key, str):
        raise InvalidRequest(f"a key must be text, got {json.dumps(key)[:60]}")
    start, end = fields.get("byte_start"), fields.get("byte_end")
    for name, value in (("byte_start", start), ("byte_end", end)):
        if value is not None and (type(value) is not int or not 0 <= value < 1 << 64):
            raise InvalidRequest(
                f"{name} must be an unsigned integer, got {json.dumps(value)[:60]}"
            )
    if (start is None) != (end is None):
        raise both_needed(key)
    part = None if start is None or end is None else (start, end)
    return Wanted(key, part)


def parse_wanted_protobuf(body: bytes) -> list[Wanted]:
    """Return the keys of a `Keys` message: whole values first, then parts.

    Raises:
        InvalidRequest: it is not such a message.
    """
    message = _parse(messages_pb2.Keys, body)
    found = [Wanted(key) for key in message.keys]
    found += [Wanted(part.key, (part.byte_start, part.byte_end)) for part in message.key_ranges]
    return found


def parse_pairs(body: bytes) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Return keys and values of a `KeyValues` message.

    Raises:
        InvalidRequest: it is not such a message, or a key is too long.
    """
    message = _parse(messages_pb2.KeyValues, body)
    keys = tuple(pair.key for pair in message.kvs)
    for key in keys:
        if len(key) > KEY_BYTES_MAX:
            raise InvalidRequest(
                f"a key of {len(key)} characters is over the limit of {KEY_BYTES_MAX} bytes"
            )
    return keys, tuple(pair.value for pair in message.kvs)


def _parse(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidRequest(f"the body is not a protobuf message {kind.DESCRIPTOR.name}") from None


def is_json(value: bytes) -> bool:
    """Say whether bytes are one JSON value, without limits on the size of its numbers."""
    try:
        json.loads(value.decode(), parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(name)
