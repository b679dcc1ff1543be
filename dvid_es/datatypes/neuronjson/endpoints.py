"""The HTTP face of neuronjson: one body, schemas, and everything that writes.

Source: ServeHTTP in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid).
"""

from collections.abc import Sequence

from sanic.response import HTTPResponse

from dvid_es.datatypes.keyvalue.wanted import parse_pairs
from dvid_es.datatypes.neuronjson.commands import (
    DeleteRecord,
    DeleteSchema,
    How,
    PutRecords,
    PutSchema,
    work_out,
)
from dvid_es.datatypes.neuronjson.posted import Posted, prepare
from dvid_es.datatypes.neuronjson.reads import find, find_schema
from dvid_es.datatypes.neuronjson.rows import SCHEMA_NAMES
from dvid_es.datatypes.neuronjson.values import Shown
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.http.datatype import Handler
from dvid_es.http.errors import TEXT
from dvid_es.http.node import JSON, NodeRequest, empty, raw_json
from dvid_es.http.wire import parse_unsigned

BY_KEY = ("schema", "schema_batch")
"""Schemas that are also read and written as `key/<name>`, as in a keyvalue instance."""

INLINE_SCHEMA_MAX = 1800
"""Longer schemas go to the packs."""

AT_ONCE_MAX = 16 * 1024
"""Longer bodies are parsed in a thread."""


def shown_of(request: NodeRequest) -> Shown:
    """Return which fields a request wants to see."""
    return Shown(request.args.get("show", ""), request.args.get("fields", ""))


def _key(request: NodeRequest) -> str:
    words = request.words
    if not words or not words[0]:
        raise InvalidRequest("expect key string to follow 'key' endpoint")
    return words[0]


def _addressed(request: NodeRequest) -> int:
    return 0 if request.instance.versioned else request.version.id


# -- one body ---------------------------------------------------------------------------------


def get_key(request: NodeRequest) -> HTTPResponse:
    """GET key/<body>[?show=][&fields=]: an annotation."""
    key = _key(request)
    if key in BY_KEY:
        value = _schema_value(request, key)
        return _missing(key) if value is None else raw_json(value)
    body = parse_unsigned(key, "body")
    stored = find(request.txn, request.instance.id, body, request.view)
    return _missing(key) if stored is None else raw_json(shown_of(request).text(stored))


def _missing(key: str) -> HTTPResponse:
    text = f'Key "{key}" not found\n'
    return HTTPResponse(text, 404, {"X-Content-Type-Options": "nosniff"}, TEXT)


def head_key(request: NodeRequest) -> HTTPResponse:
    """HEAD key/<body>: 200 if there is an annotation, 404 if not."""
    body = parse_unsigned(_key(request), "body")
    stored = find(request.txn, request.instance.id, body, request.view)
    return HTTPResponse(None, 404 if stored is None else 200, content_type=JSON)


get_key.quick = head_key.quick = True  # type: ignore[attr-defined]


async def post_key(request: NodeRequest) -> HTTPResponse:
    """POST key/<body>?u=[&conditional=][&replace=true]: change fields of an annotation."""
    key = _key(request)
    if key in BY_KEY:
        return await _put_schema(request, key, by_key=True)
    await put_all(request, (key,), (request.body,))
    return empty()


async def delete_key(request: NodeRequest) -> HTTPResponse:
    """DELETE key/<body>: no annotation from this version on."""
    key = _key(request)
    if key in BY_KEY:
        await request.write(DeleteSchema(name=key))
        return empty()
    body = parse_unsigned(key, "body")
    await request.write(DeleteRecord(body=body, addressed=_addressed(request)))
    return empty()


def refuse_key_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    raise InvalidRequest(f'key endpoint does not support "{request.method.lower()}" HTTP verb')


# -- writing ----------------------------------------------------------------------------------


async def post_key_values(request: NodeRequest) -> HTTPResponse:
    """POST keyvalues?u=[&conditional=][&replace=true]: change many annotations, all or none."""
    keys, values = await request.in_thread(parse_pairs, request.body)
    for key in keys:
        if key in BY_KEY:
            raise InvalidRequest(f'"{key}" is no body: post it to {key}')
    await put_all(request, keys, values, batch=True)
    return empty()


async def put_all(
    request: NodeRequest,
    keys: Sequence[str | None],
    values: Sequence[bytes],
    batch: bool = False,
) -> None:
    """Change annotations by JSON objects, all or none.

    Args:
        request: says who posts, and how.
        keys: bodies as texts; None where only the object says it.
        values: the objects.
        batch: whether to tell Kafka of a batch.
    """
    user, args = request.args.get("u"), request.args
    if not user:
        raise InvalidRequest("cannot alter neuronjson data without a valid user")
    conditional = args.get("conditional") or args.get("conditionals") or ""
    names = frozenset(conditional.split(",") if conditional else ())
    how = How(user=user, conditional=names, replace=request.flag("replace"))
    schema = find_schema(request.txn, request.instance.id, "json_schema", request.view)
    rules = None if schema.value is None else request.txn.bulk(schema.value)
    worked = None
    if rules is None and len(values) == 1 and len(values[0]) <= AT_ONCE_MAX:
        posted = _prepared(keys, values, rules)
    else:
        posted = await request.in_thread(_prepared, keys, values, rules)
        worked = await request.in_thread(
            work_out, request.txn, request.instance.id, request.view, posted, how
        )
    command = PutRecords(
        posted=posted,
        schema=schema.sequence,
        how=how,
        worked=worked,
        batch=batch,
        addressed=_addressed(request),
    )
    await request.write(command)


def _prepared(
    keys: Sequence[str | None], values: Sequence[bytes], schema: bytes | None
) -> tuple[Posted, ...]:
    return tuple(prepare(key, value, schema) for key, value in zip(keys, values, strict=True))


# -- schemas ----------------------------------------------------------------------------------


def _schema_value(request: NodeRequest, name: str) -> bytes | None:
    found = find_schema(request.txn, request.instance.id, name, request.view)
    return None if found.value is None else request.txn.bulk(found.value)


async def _put_schema(request: NodeRequest, name: str, by_key: bool) -> HTTPResponse:
    value: Bulk = request.body
    if len(request.body) > INLINE_SCHEMA_MAX:
        value = await request.in_thread(request.stream.packs.put, request.body)
    command = PutSchema(name=name, value=value, by_key=by_key, addressed=_addressed(request))
    await request.write(command)
    return empty()


def _schema_endpoints(name: str) -> dict[str, Handler]:
    """Return the endpoints of one schema."""

    async def get_schema(request: NodeRequest) -> HTTPResponse:
        value = await request.in_thread(_schema_value, request, name)
        return HTTPResponse(b"", 404, content_type=TEXT) if value is None else raw_json(value)

    def head_schema(request: NodeRequest) -> HTTPResponse:
        found = find_schema(request.txn, request.instance.id, name, request.view)
        return HTTPResponse(None, 404 if found.value is None else 200, content_type=JSON)

    async def post_schema(request: NodeRequest) -> HTTPResponse:
        return await _put_schema(request, name, by_key=False)

    async def delete_schema(request: NodeRequest) -> HTTPResponse:
        await request.write(DeleteSchema(name=name))
        return empty()

    return {
        f"GET {name}": get_schema,
        f"HEAD {name}": head_schema,
        f"POST {name}": post_schema,
        f"DELETE {name}": delete_schema,
        f"* {name}": refuse_key_verb,
    }


ENDPOINTS: dict[str, Handler] = {
    "GET key": get_key,
    "HEAD key": head_key,
    "POST key": post_key,
    "DELETE key": delete_key,
    "* key": refuse_key_verb,
    "POST keyvalues": post_key_values,
    "HEAD keyvalues": refuse_key_verb,
    "* keyvalues": refuse_key_verb,
}
for _name in SCHEMA_NAMES:
    ENDPOINTS |= _schema_endpoints(_name)
