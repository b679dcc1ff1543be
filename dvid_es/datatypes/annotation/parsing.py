"""Bodies of requests: elements, parsed as strictly as DVID does.

Source: UnmarshalJSON and the handlers in datatype/annotation (janelia-flyem/dvid).
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from dvid_es.datatypes.annotation.elements import KINDS, ORIGIN, RELATIONS, Element, Rel
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Triple
from dvid_es.http.wire import parse_json

T = TypeVar("T")

_decode_list = msgspec.json.Decoder(list[Element] | None).decode
_decode_blocks = msgspec.json.Decoder(dict[str, list[Element] | None]).decode


def parse_elements(body: bytes) -> list[Element]:
    """Return the elements of a JSON array.

    Raises:
        InvalidRequest: not such an array.
    """
    return _parsed(body, _decode_list, _list) or []


def parse_blocks(body: bytes) -> dict[str, list[Element] | None]:
    """Return lists of elements, or null, by the names of their blocks.

    Raises:
        InvalidRequest: not such an object.
    """

    def slowly(value: Any) -> dict[str, list[Element] | None]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidRequest("an object of lists of elements by their blocks is needed")
        return {name: _list(items) for name, items in value.items()}

    return _parsed(body, _decode_blocks, slowly)


def parse_label_list(text: str, label: int) -> list[Element]:
    """Return the elements of a list for a label; their relationships are left out.

    Raises:
        InvalidRequest: not a JSON array of elements.
    """
    try:
        found = parse_elements(text.encode("utf-8", "replace"))
    except InvalidRequest as problem:
        raise InvalidRequest(f"the list of label {label} cannot be used: {problem}") from None
    for element in found:
        element.Rels = None
    return found


def _parsed(body: bytes, decode: Callable[[bytes], T], slowly: Callable[[Any], T]) -> T:
    """Decode what clients normally send with msgspec, and anything else step by step.

    Names in another case, unknown ones, nulls and short coordinates are all legal.
    """
    try:
        return decode(body)
    except UnicodeDecodeError:
        return slowly(parse_json(body.decode("utf-8", "replace").encode()))  # as Go does
    except msgspec.MsgspecError:
        return slowly(parse_json(body))


def _list(value: Any) -> list[Element] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidRequest("an array of elements is needed")
    return [_element(item) for item in value]


def _fields(item: Any, what: str) -> dict[str, Any]:
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise InvalidRequest(f"{_shown(item)} is no {what}: an object is needed")
    return {name.lower(): value for name, value in item.items()}


def _element(item: Any) -> Element:
    fields = _fields(item, "element")
    kind = fields.get("kind", "Unknown")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidRequest(f"Unknown element type in JSON: {_shown(kind)}")
    tags, prop, rels = (fields.get(name) for name in ("tags", "prop", "rels"))
    if tags is not None:
        tags = [_text(tag, "tag") for tag in _array(tags, "Tags")]
    if prop is not None:
        if not isinstance(prop, dict):
            raise InvalidRequest(f"Prop must be an object of texts, got {_shown(prop)}")
        prop = {name: _text(value, "value of Prop") for name, value in prop.items()}
    if rels is not None:
        rels = [_relationship(rel) for rel in _array(rels, "Rels")]
    return Element(_point(fields.get("pos"), "Pos"), kind, tags, prop, rels)  # type: ignore[arg-type]


def _relationship(item: Any) -> Rel:
    fields = _fields(item, "relationship")
    name = fields.get("rel", "UnknownRelationship")
    if not isinstance(name, str) or name not in RELATIONS:
        raise InvalidRequest(f"Unknown relationship type in JSON: {_shown(name)}")
    return Rel(name, _point(fields.get("to"), "To"))  # type: ignore[arg-type]


def _point(value: Any, name: str) -> Triple:
    """Return three numbers: missing ones are 0, more are left out."""
    if value is None:
        return ORIGIN
    numbers = [0 if number is None else number for number in _array(value, name)[:3]]
    for number in numbers:
        if type(number) is not int or not -(1 << 31) <= number < 1 << 31:
            raise InvalidRequest(f"{name} must have whole numbers of 32 bits, got {_shown(value)}")
    x, y, z = (*numbers, 0, 0, 0)[:3]
    return x, y, z


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} must be an array, got {_shown(value)}")
    return value


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"a {what} must be a text, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]
