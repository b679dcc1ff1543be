"""The HTTP face of keyvalue: parse, ask, answer.

Source: ServeHTTP in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
"""

from collections.abc import Awaitable, Iterator

from sanic.response import HTTPResponse

from dvid_es.datatypes.keyvalue.commands import (
    ANYTHING,
    DeleteKey,
    Expectation,
    PutValues,
    etag,
)
from dvid_es.datatypes.keyvalue.events import INLINE_VALUE_MAX
from dvid_es.datatypes.keyvalue.formats import (
    key_list_pieces,
    output_of,
    send_pairs,
)
from dvid_es.datatypes.keyvalue.reads import Pinned, find
from dvid_es.datatypes.keyvalue.rows import bulk_length
from dvid_es.datatypes.keyvalue.wanted import (
    Wanted,
    check_part,
    is_json,
    parse_pairs,
    parse_wanted_json,
    parse_wanted_protobuf,
    part_of_header,
    part_of_query,
)
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.http.datatype import Handler
from dvid_es.http.errors import TEXT
from dvid_es.http.mutations import get_mutations, get_mutations_range
from dvid_es.http.node import JSON, OCTETS, NodeRequest, empty
from dvid_es.http.streaming import send_made, take_snapshot

INLINE_FETCH_MAX = 256 * 1024
"""Longer values are read and stored in a thread: the event loop must not wait for the disk."""

Answer = HTTPResponse | Awaitable[HTTPResponse]


def _key(request: NodeRequest) -> str:
    words = request.words
    if not words or not words[0]:
        raise InvalidRequest("expect key string to follow 'key' endpoint")
    return words[0]


# -- one key ----------------------------------------------------------------------------------


def get_key(request: NodeRequest) -> Answer:
    """GET key/<key>: the bytes of a value, or a part of them; HEAD says whether there is one."""
    key = _key(request)
    found = find(request.txn, request.instance.id, key, request.view)
    if found is None:
        return _missing(key)
    bulk, sequence = found
    tag = etag(sequence)
    asked = request.raw.headers.get("if-none-match")
    if asked is not None and ("*" in (tags := _tags(asked)) or tag in tags):
        return HTTPResponse(None, 304, {"ETag": tag})
    if isinstance(bulk, bytes):
        return _value(request, key, bulk, tag)
    if bulk.length <= INLINE_FETCH_MAX:
        return _value(request, key, request.txn.bulk(bulk), tag)
    return _long_value(request, key, bulk, tag)


async def _long_value(request: NodeRequest, key: str, bulk: Bulk, tag: str) -> HTTPResponse:
    request.finish()  # what lies in packs never changes
    value = await request.in_thread(request.stream.packs.get, bulk)
    return _value(request, key, value, tag)


def _value(request: NodeRequest, key: str, value: bytes, tag: str) -> HTTPResponse:
    headers = {"Accept-Ranges": "bytes", "ETag": tag}
    ranged = request.raw.headers.get("range")
    args = request.args
    by_query = "byte_start" in args or "byte_end" in args
    if ranged is None and not by_query:
        return HTTPResponse(value, 200, headers, OCTETS)
    if ranged and by_query:
        raise InvalidRequest(
            "cannot combine Range header with byte_start/byte_end query parameters"
        )
    if by_query:
        part = part_of_query(args, key)
        assert part is not None
        start, end = check_part(key, part, len(value))
        return HTTPResponse(value[start : end + 1], 200, headers, OCTETS)
    part = part_of_header(ranged or "", len(value))
    if part is None:
        return HTTPResponse(value, 200, headers, OCTETS)
    start, end = part
    headers["Content-Range"] = f"bytes {start}-{end}/{len(value)}"
    return HTTPResponse(value[start : end + 1], 206, headers, OCTETS)


def head_key(request: NodeRequest) -> HTTPResponse:
    """HEAD key/<key>: 200 if there is a value, 404 if not; parts are not looked at."""
    found = find(request.txn, request.instance.id, _key(request), request.view)
    if found is None:
        return HTTPResponse(None, 404)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag(found.sequence),
        "Content-Length": str(bulk_length(found.bulk)),
    }
    return HTTPResponse(None, 200, headers, OCTETS)


get_key.quick = head_key.quick = True  # type: ignore[attr-defined]


def _missing(key: str) -> HTTPResponse:
    text = f'Key "{key}" not found\n'
    return HTTPResponse(text, 404, {"X-Content-Type-Options": "nosniff"}, TEXT)


async def post_key(request: NodeRequest) -> HTTPResponse:
    """POST key/<key>: store the body under a key."""
    key = _key(request)
    put = PutValues(
        keys=(key,),
        values=(await _stored(request, request.body),),
        addressed=_addressed(request),
        expected=_expected(request),
    )
    await request.write(put)
    return empty()


post_key.quick_write = True  # type: ignore[attr-defined]


async def delete_key(request: NodeRequest) -> HTTPResponse:
    """DELETE key/<key>: from this version on there is no value under a key."""
    key = _key(request)
    command = DeleteKey(key=key, addressed=_addressed(request), expected=_expected(request))
    await request.write(command)
    return empty()


async def _stored(request: NodeRequest, value: bytes) -> Bulk:
    """Return a value as events hold it: a long one is put into the packs."""
    if len(value) <= INLINE_VALUE_MAX:
        return value
    put = request.stream.packs.put
    if len(value) <= INLINE_FETCH_MAX:
        return put(value)
    return await request.in_thread(put, value)


def _addressed(request: NodeRequest) -> int:
    return 0 if request.instance.versioned else request.version.id


def _expected(request: NodeRequest) -> Expectation:
    headers = request.raw.headers
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return ANYTHING
    return Expectation(
        None if match is None else _tags(match),
        None if none_match is None else _tags(none_match),
    )


def _tags(header: str) -> frozenset[str]:
    return frozenset(tag.strip().removeprefix("W/") for tag in header.split(","))


def refuse_key_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method on `key` and `keyvalues`."""
    if request.path.rstrip("/").endswith(f"/{request.instance.name}/key"):
        _key(request)
    raise InvalidRequest(f'key endpoint does not support "{request.method.lower()}" HTTP verb')


# -- lists and ranges -------------------------------------------------------------------------


def _pin(request: NodeRequest) -> Pinned:
    """Fix the state that this request reads, and end its own transaction."""
    snapshot = take_snapshot(request)
    return Pinned(snapshot.open, request.stream.packs, request.instance.id, snapshot.view)


def _ends(request: NodeRequest, word: str) -> tuple[bytes, bytes]:
    words = request.words
    if len(words) < 2 or not words[0] or not words[1]:
        raise InvalidRequest(f"expect beginning and end keys to follow '{word}' endpoint")
    return words[0].encode(), words[1].encode()


async def get_keys(request: NodeRequest) -> HTTPResponse | None:
    """GET keys: all keys, in the order of their bytes; keys/<a>/<b> is an old name of keyrange."""
    if len(request.words) > 1:
        return await get_key_range(request)
    return await _send_keys(request, b"", None)


async def get_key_range(request: NodeRequest) -> HTTPResponse | None:
    """GET keyrange/<a>/<b>: the keys from a to b, both included."""
    return await _send_keys(request, *_ends(request, "keyrange"))


async def _send_keys(request: NodeRequest, first: bytes, last: bytes | None) -> HTTPResponse | None:
    pages = _pin(request).pages(first, last)
    keys = (key.decode() for page in pages for key, _ in page)
    return await send_made(request, key_list_pieces(keys), JSON)


async def get_range_values(request: NodeRequest) -> HTTPResponse | None:
    """GET keyrangevalues/<a>/<b>: keys and values from a to b, both included."""
    first, last = _ends(request, "keyrangevalues")
    kind = output_of(request)
    pinned = _pin(request)
    if kind == "json" and request.flag("check"):
        await request.in_thread(_check_all, pinned, first, last)
    return await send_pairs(request, kind, _range_pairs(pinned, first, last))


def _range_pairs(pinned: Pinned, first: bytes, last: bytes) -> Iterator[tuple[str, bytes]]:
    for page in pinned.pages(first, last):
        for key, value in pinned.fetched(page):
            yield key.decode(), value


def _check_all(pinned: Pinned, first: bytes, last: bytes) -> None:
    for key, value in _range_pairs(pinned, first, last):
        _check_json(key, value)


def _check_json(key: str, value: bytes) -> None:
    if value and not is_json(value):
        raise InvalidRequest(f'bad JSON for key "{key}"')


# -- batches ----------------------------------------------------------------------------------


async def get_key_values(request: NodeRequest) -> HTTPResponse | None:
    """GET keyvalues: the values of the keys in the body, in the order asked for."""
    kind = output_of(request)
    parse = parse_wanted_protobuf if kind == "protobuf" else parse_wanted_json
    wanted = parse(request.body)
    pinned = _pin(request)
    found = await request.in_thread(pinned.find_all, [item.key for item in wanted])
    items = list(zip(wanted, found, strict=True))
    for (key, part), bulk in items:
        if part is not None and bulk is not None:
            check_part(key, part, bulk_length(bulk))
    if kind == "json" and (request.flag("check") or any(item.part for item in wanted)):
        await request.in_thread(_check_parts, pinned, items, everything=request.flag("check"))
    return await send_pairs(request, kind, _parts(pinned, items))


Asked = list[tuple[Wanted, Bulk | None]]


def _parts(pinned: Pinned, items: Asked) -> Iterator[tuple[str, bytes]]:
    for (key, part), value in pinned.fetched(items):
        yield key, value[part[0] : part[1] + 1] if part else value


def _check_parts(pinned: Pinned, items: Asked, everything: bool) -> None:
    """Refuse values that would spoil a JSON object: parts of values always are checked."""
    checked = [item for item in items if everything or item[0].part]
    for (wanted, _), (key, value) in zip(checked, _parts(pinned, checked), strict=True):
        if wanted.part and value and not is_json(value):
            raise InvalidRequest(f'bad JSON for key "{key}" after byte range')
        _check_json(key, value)


async def post_key_values(request: NodeRequest) -> HTTPResponse:
    """POST keyvalues: store the pairs of a protobuf message, all or none."""
    keys, values = await request.in_thread(parse_pairs, request.body)
    bulks = list[Bulk](values)
    long = [place for place, value in enumerate(values) if len(value) > INLINE_VALUE_MAX]
    if long:
        put_many = request.stream.packs.put_many
        refs = await request.in_thread(put_many, [values[place] for place in long])
        for place, ref in zip(long, refs, strict=True):
            bulks[place] = ref
    await request.write(PutValues(keys=keys, values=tuple(bulks), addressed=_addressed(request)))
    return empty()


def refuse_mutations_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method on `mutations` and `mutations-range`."""
    raise InvalidRequest(f"only GET is allowed on the mutations endpoints, not {request.method}")


ENDPOINTS: dict[str, Handler] = {
    "GET key": get_key,
    "HEAD key": head_key,
    "POST key": post_key,
    "DELETE key": delete_key,
    "* key": refuse_key_verb,
    "* keys": get_keys,
    "* keyrange": get_key_range,
    "* keyrangevalues": get_range_values,
    "GET keyvalues": get_key_values,
    "POST keyvalues": post_key_values,
    "HEAD keyvalues": refuse_key_verb,
    "* keyvalues": refuse_key_verb,
    "GET mutations": get_mutations,
    "HEAD mutations": refuse_mutations_verb,
    "* mutations": refuse_mutations_verb,
    "GET mutations-range": get_mutations_range,
    "HEAD mutations-range": refuse_mutations_verb,
    "* mutations-range": refuse_mutations_verb,
}
