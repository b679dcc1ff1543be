"""Strict parsing of paths, query strings and JSON bodies, as Go reads them.

Python's own `int()` takes "1_0", " 5" and other digits than 0-9; DVID's paths are joined with "_".
"""

import contextlib
import json
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from dvid_es.errors import InvalidRequest

_UNSIGNED = re.compile(r"[0-9]{1,40}\Z")
_SIGNED = re.compile(r"[+-]?[0-9]{1,40}\Z")
_SHORT_POINT = re.compile(r"([+-]?[0-9]{1,9})_([+-]?[0-9]{1,9})_([+-]?[0-9]{1,9})\Z")
"""Nearly every coordinate: none of its numbers can leave 32 bits."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LABELS_ALONE = b"0123456789[], \t\r\n"
"""Nothing else is in the JSON of labels: no sign, fraction or exponent."""

_decode_labels = msgspec.json.Decoder(list[int]).decode
_SPACE = b" \t\r\n"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_unsigned(text: str, what: str, bits: int = 64) -> int:
    """Return an unsigned decimal number.

    Raises:
        InvalidRequest: other characters than digits, or too large for `bits` bits.
    """
    if not _UNSIGNED.match(text) or (value := int(text)) >> bits:
        raise InvalidRequest(f'{what} "{text}" is not an unsigned {bits}-bit decimal number')
    return value


def parse_signed(text: str, what: str, bits: int = 32) -> int:
    """Return a signed decimal number, a sign allowed in front.

    Raises:
        InvalidRequest: not such a number, or outside of `bits` bits.
    """
    if not _SIGNED.match(text) or not -(1 << bits - 1) <= (value := int(text)) < 1 << bits - 1:
        raise InvalidRequest(f'{what} "{text}" is not a signed {bits}-bit decimal number')
    return value


def parse_point(text: str, what: str, size: int = 3, separator: str = "_") -> tuple[int, ...]:
    """Return the numbers of a coordinate such as "10_-20_30", in the order given.

    Raises:
        InvalidRequest: not `size` numbers of 32 bits.
    """
    if size == 3 and separator == "_" and (short := _SHORT_POINT.match(text)):
        return tuple(map(int, short.groups()))
    parts = text.split(separator)
    if len(parts) != size:
        raise InvalidRequest(f'{what} "{text}" must have {size} numbers joined by "{separator}"')
    return tuple(parse_signed(part, what) for part in parts)


def parse_query(query: str) -> dict[str, str]:
    """Return the first value of each option of a query string."""
    found: dict[str, str] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                name, value = _plain(name), _plain(value)
            found.setdefault(name, value)
    return found


def _plain(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def decode_path(path: str) -> str:
    """Return a percent-decoded path.

    Raises:
        InvalidRequest: an escape is broken, or the bytes are not UTF-8.
    """
    if "%" not in path:
        return path
    if _BAD_ESCAPE.search(path):
        raise InvalidRequest("invalid URL escape in path")
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the path is not UTF-8") from None


def parse_json(body: bytes, *, first: bool = False) -> Any:
    """Return the value of a JSON body, as strict as Go's parser.

    Args:
        body: of a request.
        first: take the first value and do not look behind it, as DVID does where it reads a stream.

    Raises:
        InvalidRequest: it is not one JSON value and nothing else.
    """
    if not body.strip(_SPACE):
        raise InvalidRequest("Malformed JSON request in body: unexpected end of JSON input")
    try:
        text = body.lstrip(_SPACE).decode(errors="replace") if first else body.decode()
        value = _DECODER.raw_decode(text)[0] if first else _DECODER.decode(text)
        return _without_surrogates(value) if _SURROGATE.search(body) else value
    except (ValueError, RecursionError) as problem:
        raise InvalidRequest(f"Malformed JSON request in body: {problem}") from None


def _without_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs, as Go does: no UTF-8 can hold them."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid value {name}")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse_json_object(body: bytes, *, empty: bool = False, first: bool = False) -> dict[str, Any]:
    """Return a JSON object; with `empty`, an empty body is an empty object, and so is `null`.

    With `first`, nothing behind it is looked at.

    Raises:
        InvalidRequest: not a JSON object.
    """
    if empty and not body.strip():
        return {}
    value = parse_json(body, first=first)
    if empty and value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("Malformed JSON request in body: a JSON object is needed")
    return value


def parse_labels(body: bytes) -> list[int]:
    """Return a JSON array of unsigned 64-bit labels; `null` is an empty one, and within it 0, as in Go.

    Raises:
        InvalidRequest: not such an array.
    """
    if not body.translate(None, _LABELS_ALONE):
        with contextlib.suppress(msgspec.MsgspecError):
            labels = _decode_labels(body)
            if max(labels, default=0) < 1 << 64:
                return labels
    value = parse_json(body)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest("Malformed JSON request in body: an array of labels is needed")
    labels = [0 if label is None else label for label in value]
    for label in labels:
        if type(label) is not int or not 0 <= label < 1 << 64:
            raise InvalidRequest(
                f"Malformed JSON request in body: {json.dumps(label)[:60]} is not an unsigned"
                " 64-bit label"
            )
    return labels
