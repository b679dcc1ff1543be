"""What is posted for one body: parsed, validated by the JSON schema, made canonical. Pure.

Source: PutData in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dvid_es.codecs import gojson, patterns
from dvid_es.datatypes.neuronjson.values import canonical
from dvid_es.errors import InvalidRequest
from dvid_es.http.wire import parse_json, parse_json_object, parse_unsigned

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}\Z")
_ERRORS_SHOWN = 3


class Posted(NamedTuple):
    """New values for a body."""

    body: int
    raw: bytes
    """As they came."""

    fields: Mapping[str, bytes | None]
    """Canonical texts; None takes a field away."""


def prepare(key: str | None, raw: bytes, schema: bytes | None) -> Posted:
    """Return what is posted under a key.

    Args:
        key: the body, as text; None if only the object says it.
        raw: a JSON object.
        schema: the JSON schema that rules; None if there is none.

    Raises:
        InvalidRequest: it may not be stored.
    """
    values = parse_json_object(raw)
    if schema is not None:
        values = validated(values, schema)
    body = values.get("bodyid")
    if "bodyid" not in values:
        raise InvalidRequest("neuronjson data must have 'bodyid' field")
    if type(body) is not int or not 0 <= body < 1 << 64:
        raise InvalidRequest("neuronjson 'bodyid' field must be uint64")
    if key is not None and body != parse_unsigned(key, "body"):
        raise InvalidRequest(f"neuronjson 'bodyid' field {body} must match key {key}")
    if body == 0:
        raise InvalidRequest("body id 0 is reserved and so cannot be stored")
    for name in ("bodyid_user", "bodyid_time"):
        if name in values:
            raise InvalidRequest(f"'{name}' field not allowed")
    return Posted(body, raw, canonical(values))


def validated(values: dict[str, Any], schema: bytes) -> dict[str, Any]:
    """Return an object that a schema allows; texts where it wants integers become these.

    Raises:
        InvalidRequest: the schema does not allow it.
    """
    validator = compiled(schema)
    if validator is None:
        return values
    problems = _problems(validator, values)
    if problems and (converted := _converted(values, problems)) != values:
        values = converted
        problems = _problems(validator, values)
    if problems:
        problems.sort(key=lambda problem: [str(part) for part in problem.absolute_path])
        shown = "; ".join(_told(problem) for problem in problems[:_ERRORS_SHOWN])
        raise InvalidRequest(f"jsonschema: {shown}")
    return values


def _problems(validator: Any, values: dict[str, Any]) -> list[Any]:
    """Return what a schema has against an object: nothing if it cannot be applied at all."""
    from referencing.exceptions import Unresolvable

    try:
        return list(validator.iter_errors(values))
    except RecursionError:
        raise InvalidRequest("values are nested too deeply for the JSON schema") from None
    except (ArithmeticError, Unresolvable, re.error):
        return []


def _told(problem: Any) -> str:
    place = "".join(f"/{part}" for part in problem.absolute_path)
    return f"'{place}' does not validate: {problem.message[:200]}"


def _converted(values: dict[str, Any], problems: list[Any]) -> dict[str, Any]:
    """Return an object whose texts are integers where integers are wanted, of fields at the top."""
    found = dict(values)
    for problem in problems:
        path = list(problem.absolute_path)
        wanted = problem.validator_value
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if problem.validator != "type" or "integer" not in wanted or len(path) != 1:
            continue
        text = found[path[0]]
        if isinstance(text, str) and _INTEGER.match(text) and -(1 << 63) <= int(text) < 1 << 63:
            found[path[0]] = int(text)
    return found


@lru_cache(64)
def compiled(schema: bytes) -> Any:
    """Return the validator of a schema; None for bytes that are no JSON schema: they rule nothing."""
    # These take a tenth of a second to import, and most servers have no schema.
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError
    from jsonschema_specifications import REGISTRY

    try:
        document = parse_json(schema)
        if not isinstance(document, dict | bool):
            return None
        kind = validators.validator_for(document, default=validators.Draft202012Validator)
        kind.check_schema(document)
        keywords: dict[str, Any] = {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
        }
        if b"patternProperties" in schema:
            keywords["unevaluatedProperties"] = _not_said
        kind = validators.extend(kind, keywords)
        # Besides the specifications nothing is known, and nothing is fetched.
        return kind(document, registry=REGISTRY)
    except (InvalidRequest, SchemaError, RecursionError):
        return None


# These keywords of JSON Schema search texts for expressions: here with RE2, whose time is linear.


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Any:
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str):
        search = patterns.search(pattern)
        if search is not None and not search(value):
            yield ValidationError(
                f"{gojson.string(value)[:100]} does not match pattern '{pattern}'"
            )


def _pattern_properties(validator: Any, wanted: Any, value: Any, _schema: Any) -> Any:
    if isinstance(value, dict):
        for pattern, schema in wanted.items():
            for name in _names_with(pattern, value):
                yield from validator.descend(value[name], schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Any) -> Any:
    if isinstance(value, dict):
        known = set(schema.get("properties", ()))
        for pattern in schema.get("patternProperties", ()):
            known |= _names_with(pattern, value)
        for name in value.keys() - known:
            yield from validator.descend(value[name], allowed, path=name)


def _names_with(pattern: str, value: Mapping[str, Any]) -> set[str]:
    search = patterns.search(pattern)
    return set() if search is None else {name for name in value if search(name)}


def _not_said(*_: Any) -> Any:
    """Have nothing against anything: which properties patterns have evaluated is not known here."""
    return iter(())
