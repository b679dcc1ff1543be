"""The HTTP face of neuronjson: answers about many bodies.

Source: ServeHTTP in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from sanic.response import HTTPResponse

from dvid_es.codecs import gojson
from dvid_es.codecs.compression import gzip_pieces
from dvid_es.datatypes.keyvalue.formats import output_of, send_pairs
from dvid_es.datatypes.keyvalue.wanted import is_json, parse_wanted_protobuf
from dvid_es.datatypes.neuronjson.columns import Columns, columns_of, names_of
from dvid_es.datatypes.neuronjson.endpoints import BY_KEY, shown_of
from dvid_es.datatypes.neuronjson.pages import PAGE_ROWS, Pinned
from dvid_es.datatypes.neuronjson.query import Query, parse
from dvid_es.datatypes.neuronjson.reads import find, find_schema
from dvid_es.datatypes.neuronjson.rows import LARGEST
from dvid_es.datatypes.neuronjson.values import TIME, Shown, is_bare
from dvid_es.errors import InvalidRequest
from dvid_es.http.datatype import Handler
from dvid_es.http.node import JSON, NodeRequest, raw_json
from dvid_es.http.streaming import send_made, take_snapshot
from dvid_es.http.wire import parse_json, parse_unsigned

DOCUMENTS_MAX = 256

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])

Pair = tuple[str, bytes]


def _pin(request: NodeRequest) -> Pinned:
    """Fix the state that this request reads, and end its own transaction."""
    return Pinned(take_snapshot(request), request.instance.id)


def _array(texts: Iterable[bytes]) -> Iterator[bytes]:
    before = b"["
    for text in texts:
        yield before + text
        before = b","
    yield b"[]" if before == b"[" else b"]"


# -- lists ------------------------------------------------------------------------------------


async def get_all(request: NodeRequest) -> HTTPResponse | None:
    """GET all[?show=][&fields=]: all annotations of which more than the body is shown, ascending."""
    pieces = _array(_all_texts(_pin(request), shown_of(request)))
    if "gzip" in (request.raw.headers.get("accept-encoding") or ""):
        return await send_made(request, gzip_pieces(pieces), JSON, {"Content-Encoding": "gzip"})
    return await send_made(request, pieces, JSON)


def _all_texts(pinned: Pinned, shown: Shown) -> Iterator[bytes]:
    if shown.only_ids:
        for page in pinned.pages():
            for body, _ in page:
                yield b'{"bodyid":%d}' % body
        return
    for body, stored in pinned.items():
        text = shown.text(stored)
        if not is_bare(body, text):
            yield text


async def get_keys(request: NodeRequest) -> HTTPResponse | None:
    """GET keys: all bodies, as texts, ascending; keys/<a>/<b> is an old name of keyrange."""
    if len(request.words) > 1:
        return await get_key_range(request)
    return await _send_keys(request, 0, LARGEST)


async def get_key_range(request: NodeRequest) -> HTTPResponse | None:
    """GET keyrange/<a>/<b>: the bodies from a to b, both included."""
    return await _send_keys(request, *_ends(request, "keyrange"))


async def _send_keys(request: NodeRequest, first: int, last: int) -> HTTPResponse | None:
    pages = _pin(request).pages(first, last)
    return await send_made(
        request, _array(b'"%d"' % key for page in pages for key, _ in page), JSON
    )


def _ends(request: NodeRequest, word: str) -> tuple[int, int]:
    words = request.words
    if len(words) < 2 or not words[0] or not words[1]:
        raise InvalidRequest(f"expect beginning and end keys to follow '{word}' endpoint")
    return parse_bound(words[0]), parse_bound(words[1])


def parse_bound(text: str) -> int:
    """Return the bound of a range: what begins before the digits is 0, behind them the largest.

    Raises:
        InvalidRequest: it begins with a digit and is no number.

    Source: parseKeyStr in datatype/neuronjson/neuronjson.go (janelia-flyem/dvid).
    """
    if text[0] > "9":
        return LARGEST
    return 0 if text[0] < "0" else parse_unsigned(text, "key")


# -- fields -----------------------------------------------------------------------------------


async def get_fields(request: NodeRequest) -> HTTPResponse:
    """GET fields[?counts=true]: names of all fields, or in how many annotations each is."""
    pinned = _pin(request)
    columns = columns_of(request.stream.packs, request.instance.id)
    found = await request.in_thread(columns.field_counts, pinned.snapshot)
    if found is None:
        rows = (row for page in pinned.pages() for _, row in page)
        found = await request.in_thread(names_of, rows)
    value = dict(found) if request.flag("counts") else sorted(found)
    return raw_json(gojson.dumps(value, sort_keys=True))


async def get_field_times(request: NodeRequest) -> HTTPResponse:
    """GET fieldtimes: when each field was changed last, at any version."""

    def made(pinned: Pinned) -> str:
        latest: dict[str, str] = {}
        for _, stored in pinned.items():
            for name, raw in _RAW.decode(stored.full).items():
                if name.endswith(TIME) and (text := bytes(raw)).startswith(b'"'):
                    field, time = name[: -len(TIME)], msgspec.json.decode(text, type=str)
                    latest[field] = max(time, latest.get(field, ""))
        return gojson.dumps(latest, sort_keys=True)

    return await _kept(request, "fieldtimes", made)


async def _kept(request: NodeRequest, what: str, make: Callable[[Pinned], str]) -> HTTPResponse:
    """Answer with a document that reads all annotations; kept while nothing is written."""
    bound = request.view.sequence  # of `?at=`; this opens the transaction, which knows the sequence
    state = (request.repo.root, request.repo.sequence, request.sequence, bound)
    key = (*state, request.instance.id, request.version_id, what)
    documents = request.server.documents
    text = documents.get(key)
    if text is None:
        text = await request.in_thread(make, _pin(request))
        if len(documents) >= DOCUMENTS_MAX:
            documents.clear()
        documents[key] = text
    return raw_json(text)


# -- many values ------------------------------------------------------------------------------


async def get_range_values(request: NodeRequest) -> HTTPResponse | None:
    """GET keyrangevalues/<a>/<b>: annotations from body a to b, both included."""
    kind, (first, last) = output_of(request), _ends(request, "keyrangevalues")
    shown, items = shown_of(request), _pin(request).items(first, last)
    pairs = ((str(body), shown.text(stored)) for body, stored in items)
    return await send_pairs(request, kind, pairs)


async def get_key_values(request: NodeRequest) -> HTTPResponse | None:
    """GET keyvalues: the annotations of the bodies in the body of the request, in this order."""
    kind = output_of(request)
    keys = await request.in_thread(_wanted_keys, request.body, kind)
    shown, pinned = shown_of(request), _pin(request)
    found = _values(pinned, keys, shown, check=kind == "json" and request.flag("check"))
    if kind == "json":  # what is not there is left out
        return await send_pairs(
            request, kind, ((key, value) for key, value in found if value is not None)
        )
    return await send_pairs(request, kind, ((key, value or b"") for key, value in found))


def _wanted_keys(body: bytes, kind: str) -> list[str]:
    if kind == "protobuf":
        keys = [wanted.key for wanted in parse_wanted_protobuf(body) if wanted.part is None]
    else:
        keys = _json_keys(body, numbers=kind == "json")
    for key in keys:
        if key not in BY_KEY:
            parse_unsigned(key, "key")
    return keys


def _json_keys(body: bytes, numbers: bool) -> list[str]:
    value = parse_json(body)
    if value is None:
        return []
    if isinstance(value, list):
        if all(isinstance(one, str) for one in value):
            return value
        if numbers and all(type(one) is int for one in value):
            return [str(one) for one in value]
    kinds = "all of them numbers or all of them texts" if numbers else "all of them texts"
    raise InvalidRequest(f"a JSON array of bodies is needed, {kinds}")


def _values(
    pinned: Pinned, keys: Sequence[str], shown: Shown, check: bool
) -> Iterator[tuple[str, bytes | None]]:
    """Iterate over keys and what is stored under them, or None."""
    view, instance = pinned.snapshot.view, pinned.instance
    for start in range(0, len(keys), PAGE_ROWS):
        page: list[tuple[str, bytes | None]] = []
        with pinned.snapshot.open() as txn:
            for key in keys[start : start + PAGE_ROWS]:
                if key not in BY_KEY:
                    stored = find(txn, instance, int(key), view)
                    page.append((key, None if stored is None else shown.text(stored)))
                    continue
                schema = find_schema(txn, instance, key, view)
                value = None if schema.value is None else txn.bulk(schema.value)
                if check and value and not is_json(value):
                    raise InvalidRequest(f'bad JSON for key "{key}"')
                page.append((key, value))
        yield from page


# -- queries ----------------------------------------------------------------------------------


async def get_query(request: NodeRequest) -> HTTPResponse | None:
    """GET or POST query[?onlyid=true][&show=][&fields=]: annotations that match, ascending."""
    query = await request.in_thread(parse, request.body)
    pinned, shown = _pin(request), shown_of(request)
    if query.bodies is not None:
        texts = _asked(pinned, query.bodies, shown)
    else:
        columns = columns_of(request.stream.packs, request.instance.id)
        texts = _matching(pinned, columns, query, shown, request.flag("onlyid"))
    return await send_made(request, _array(texts), JSON)


def _asked(pinned: Pinned, bodies: Sequence[int], shown: Shown) -> Iterator[bytes]:
    for page in pinned.find_pages(bodies):
        for stored in page:
            if stored is not None:
                yield shown.text(stored)


def _matching(
    pinned: Pinned, columns: Columns, query: Query, shown: Shown, only_ids: bool
) -> Iterator[bytes]:
    bodies = columns.matching(pinned.snapshot, query)
    if bodies is not None:
        found = bodies.tolist()
        yield from map(b"%d".__mod__, found) if only_ids else _asked(pinned, found, shown)
        return
    for page in pinned.pages():
        for body, stored in query.matching(page):
            yield b"%d" % body if only_ids else shown.text(stored)


def refuse_query_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    raise InvalidRequest("only GET or POST methods allowed for /query endpoint")


LISTS: dict[str, Handler] = {
    "GET all": get_all,
    "* all": get_all,
    "* keys": get_keys,
    "* keyrange": get_key_range,
    "* keyrangevalues": get_range_values,
    "GET keyvalues": get_key_values,
    "* fields": get_fields,
    "* fieldtimes": get_field_times,
    "GET query": get_query,
    "POST query": get_query,
    "HEAD query": refuse_query_verb,
    "* query": refuse_query_verb,
}
