"""JSON bodies as Go reads them into a struct: names in any case, null for nothing, the rest ignored.

Source: encoding/json of Go's library, as used in server/web.go (janelia-flyem/dvid).
"""

import json
from typing import Any

from dvid_es.errors import InvalidRequest
from dvid_es.http.wire import parse_json_object


class Body:
    """A JSON object of a request; a field of the wrong type is refused when it is asked for."""

    def __init__(self, body: bytes, *, empty: bool = True, first: bool = False) -> None:
        """Parse; with `empty`, no body at all is an object without fields.

        With `first`, nothing behind the object is looked at.

        Raises:
            InvalidRequest: not a JSON object.
        """
        values = parse_json_object(body, empty=empty, first=first)
        self._values = {name.lower(): value for name, value in values.items()}

    def text(self, name: str) -> str | None:
        """Return a field of text, or None if it is missing or null.

        Raises:
            InvalidRequest: it is not text.
        """
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise _wrong(name, value, "string")

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a field of a list of texts, or None if it is missing or null.

        Raises:
            InvalidRequest: it is not such a list.
        """
        value = self._values.get(name)
        return None if value is None else _texts(name, value)

    def number(self, name: str) -> int | None:
        """Return a field of a whole number, or None if it is missing or null.

        Raises:
            InvalidRequest: it is not a whole number of 64 bits.
        """
        value = self._values.get(name)
        if value is None or (type(value) is int and 0 <= value < 1 << 64):
            return value
        raise _wrong(name, value, "whole number of 64 bits")

    def number_or_text(self, name: str) -> int | str | None:
        """Return a field of either kind, or None if it is missing or null.

        Raises:
            InvalidRequest: it is neither text nor a whole number of 64 bits.
        """
        return value if isinstance(value := self._values.get(name), str) else self.number(name)


def _wrong(name: str, value: Any, wanted: str) -> InvalidRequest:
    shown = json.dumps(value)[:60]
    return InvalidRequest(
        f"Malformed JSON request in body: field '{name}' must be of type {wanted}, not {shown}"
    )


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _wrong(name, value, "array of strings")
    for item in value:
        if item is not None and not isinstance(item, str):
            raise _wrong(name, item, "array of strings")
    return tuple(item or "" for item in value)


def texts_map(body: bytes) -> dict[str, tuple[str, ...]]:
    """Return a JSON object of lists of texts; no body at all is an empty one, null an empty list.

    Nothing behind it is looked at.

    Raises:
        InvalidRequest: it is not one.
    """
    values = parse_json_object(body, empty=True, first=True)
    return {name: () if value is None else _texts(name, value) for name, value in values.items()}


def string_map(body: bytes) -> dict[str, str]:
    """Return a JSON object of texts; no body at all is an empty one, null values are "".

    Nothing behind it is looked at.

    Raises:
        InvalidRequest: it is not one.
    """
    values = parse_json_object(body, empty=True, first=True)
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise _wrong(name, value, "string")
    return {name: value or "" for name, value in values.items()}
