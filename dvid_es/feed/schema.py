"""JSON Schema of what the feed sends, and an AsyncAPI document: both made from the classes of the events."""

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from dvid_es import __version__
from dvid_es.events import BY_NUMBER, Event, EventType
from dvid_es.ids import PackRef

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_U64 = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_BYTES = {"type": "string", "contentEncoding": "base64"}
_REFERENCE = {
    "type": "object",
    "description": "Where a long value lies in the packs of the repository.",
    "properties": {
        "pack": {"type": "integer", "minimum": 0},
        "offset": {"type": "integer", "minimum": 0},
        "bytes": {"type": "integer", "minimum": 0},
        "digest": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "required": ["pack", "offset", "bytes", "digest"],
    "additionalProperties": False,
}
_ATTRIBUTES: dict[str, Any] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "description": "Root UUID of the repository, a slash, the sequence."},
    "source": {"type": "string", "pattern": "^/api/repo/"},
    "type": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "datacontenttype": {"const": "application/json"},
    "sequence": {**_U64, "description": "Place in the log, from 0, without gaps."},
    "schema": {"type": "integer", "minimum": 1, "description": "Number of the shape of `data`."},
    "version": {"type": "string", "description": "UUID of the version that was written to."},
    "instance": {"type": "string", "description": "Name of the data instance, as it is now."},
    "datauuid": {"type": "string", "description": "UUID of the data instance; it never changes."},
    "mutationid": {"type": "integer", "minimum": 1_000_000_000},
    "user": {"type": "string"},
    "app": {"type": "string"},
    "dataref": {
        "type": "string",
        "description": "Instead of `data`, on Kafka, where a message may be no longer: where to get it.",
    },
    "labels": {
        "type": "object",
        "description": "Bodies and supervoxels that the event touches, by what happened to them.",
        "additionalProperties": {"type": "array", "items": _U64},
    },
}
_ALWAYS = [
    "specversion", "id", "source", "type", "time", "datacontenttype", "sequence", "schema", "user",
    "app",
]  # fmt: skip


@lru_cache(maxsize=1)
def event_schemas() -> dict[str, Any]:
    """Return the JSON Schema of a message of the feed: one of those in $defs, by the name of the event."""
    known = sorted(BY_NUMBER.values(), key=lambda one: one.number)
    return {
        "$schema": _DRAFT,
        "$id": "/api/events/schema",
        "title": "Events of dvid_es",
        "oneOf": [{"$ref": f"#/$defs/{one.name}"} for one in known],
        "$defs": {one.name: _message(one) for one in known},
    }


@lru_cache(maxsize=1)
def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of the feed."""
    known = sorted(BY_NUMBER.values(), key=lambda one: one.number)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "The feed of dvid_es",
            "version": __version__,
            "description": "Events of a repository in the order of its log, each at least once.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": "/api/repo/{uuid}/events",
                "title": "Server-sent events, lines of JSON, or a WebSocket",
                "parameters": {"uuid": {"description": "Any version of the repository."}},
                "messages": {
                    one.name: {"$ref": f"#/components/messages/{one.name}"} for one in known
                },
            },
            "kafka": {
                "address": "{prefix}dvid_es-{root}-events",
                "title": "A topic of Kafka, if the server is configured for one",
                "parameters": {
                    "prefix": {"description": "As the settings say."},
                    "root": {"description": "UUID of the root version of the repository."},
                },
                "messages": {
                    one.name: {"$ref": f"#/components/messages/{one.name}"} for one in known
                },
            },
        },
        "operations": {
            "follow": {"action": "send", "channel": {"$ref": "#/channels/events"}},
            "publish": {"action": "send", "channel": {"$ref": "#/channels/kafka"}},
        },
        "components": {
            "messages": {
                one.name: {"name": one.name, "summary": _about(one.kind), "payload": _message(one)}
                for one in known
            }
        },
    }


def _message(known: EventType) -> dict[str, Any]:
    fields = inspect.type_info(known.kind)
    assert isinstance(fields, inspect.StructType)
    data = {
        "type": "object",
        "properties": {field.name: _of(field.type) for field in fields.fields},
        "required": [field.name for field in fields.fields],
        "additionalProperties": False,
    }
    attributes = {**_ATTRIBUTES, "type": {"const": known.name}, "schema": {"const": known.schema}}
    return {
        "title": known.name,
        "description": _about(known.kind),
        "type": "object",
        "properties": {**attributes, "data": data},
        "required": _ALWAYS,
        "oneOf": [{"required": ["data"]}, {"required": ["dataref"]}],
        "additionalProperties": False,
    }


def _about(kind: type[Event]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _of(kind: inspect.Type) -> dict[str, Any]:
    """Return the schema of a field as `messages.plain` shows it."""
    if isinstance(kind, inspect.UnionType):
        return {"anyOf": [_of(one) for one in kind.types]}
    if isinstance(kind, inspect.NamedTupleType) and kind.cls is PackRef:
        return _REFERENCE
    if isinstance(kind, inspect.BytesType):
        return _BYTES
    if isinstance(kind, inspect.StructType):
        return {
            "type": "object",
            "properties": {field.name: _of(field.type) for field in kind.fields},
            "required": [field.name for field in kind.fields],
        }
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return {"type": "array", "items": _of(kind.item_type)}
    if isinstance(kind, inspect.TupleType):
        return {"type": "array", "prefixItems": [_of(one) for one in kind.item_types]}
    if isinstance(kind, inspect.DictType):
        return {"type": "object", "additionalProperties": _of(kind.value_type)}
    if isinstance(kind, inspect.AnyType):
        return {}
    simple: dict[str, Any] = msgspec.json.schema(
        {inspect.IntType: int, inspect.StrType: str, inspect.BoolType: bool,
         inspect.FloatType: float, inspect.NoneType: None}[type(kind)]
    )  # fmt: skip
    return simple
