"""The HTTP face of neuronjson: annotations that come from elsewhere, or go there.

Source: datatype/neuronjson/rpc.go and version_files.go (janelia-flyem/dvid), where these are commands that
read and write files of the server, in the background.
"""

from collections.abc import Iterator

import msgspec
from sanic.response import HTTPResponse

from dvid_es.codecs import gojson
from dvid_es.datatypes.keyvalue.reads import Pinned as KeyValues
from dvid_es.datatypes.neuronjson.commands import ImportRecords, PutSchema
from dvid_es.datatypes.neuronjson.endpoints import INLINE_SCHEMA_MAX, put_all
from dvid_es.datatypes.neuronjson.pages import PAGE_ROWS
from dvid_es.datatypes.neuronjson.reads import changed_bodies, row_of_version
from dvid_es.datatypes.neuronjson.rows import SCHEMA_NAMES, decode
from dvid_es.datatypes.neuronjson.values import Record, canonical
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.http.datatype import Handler
from dvid_es.http.node import JSON, NodeRequest, empty, raw_json
from dvid_es.http.streaming import Snapshot, send_made, take_snapshot
from dvid_es.http.wire import parse_json_object

SKIPPED_MAX = 1000
"""Not more keys than this are told."""

_OBJECTS = msgspec.json.Decoder(list[msgspec.Raw])


async def post_ingest(request: NodeRequest) -> HTTPResponse:
    """POST ingest-neuronjson?u=: change the annotations of a JSON array, all or none."""
    try:
        objects = [bytes(raw) for raw in await request.in_thread(_OBJECTS.decode, request.body)]
    except (msgspec.MsgspecError, RecursionError) as problem:
        raise InvalidRequest(f"a JSON array of objects is needed: {problem}") from None
    await put_all(request, [None] * len(objects), objects, batch=True)
    return empty()


# -- from a keyvalue instance -----------------------------------------------------------------


async def post_import(request: NodeRequest) -> HTTPResponse:
    """POST import-kv/<name>: take over the annotations of a keyvalue instance as they are."""
    name = request.words[0] if request.words else ""
    source = request.repo.names.get(name)
    if source is None or source.typename != "keyvalue":
        raise InvalidRequest(f'"{name}" is no keyvalue instance: import-kv/<name> needs one')
    if request.raw.headers.get("idempotency-key") or request.args.get("dryrun") == "true":
        raise InvalidRequest("import-kv writes in parts: without Idempotency-Key and dryrun")
    version = request.version.id if source.versioned else 1
    view = request.txn.view(version)
    snapshot = take_snapshot(request)
    view = view.at(snapshot.view.sequence)
    keyed = KeyValues(snapshot.open, request.stream.packs, source.id, view)
    addressed = 0 if request.instance.versioned else request.version.id
    imported, schemas, skipped = 0, list[str](), list[str]()
    pages = keyed.pages(b"", None)
    while page := await request.in_thread(next, pages, None):
        values = await request.in_thread(lambda page=page: list(keyed.fetched(page)))
        records, others, wrong = await request.in_thread(_sorted_out, values)
        await request.write(ImportRecords(records=tuple(records), addressed=addressed))
        for schema, value in others:
            bulk: Bulk = value
            if len(value) > INLINE_SCHEMA_MAX:
                bulk = await request.in_thread(request.stream.packs.put, value)
            await request.write(PutSchema(name=schema, value=bulk, addressed=addressed))
        imported += len(records)
        schemas += [schema for schema, _ in others]
        skipped += wrong
    told = {"imported": imported, "schemas": schemas, "skipped": skipped[:SKIPPED_MAX]}
    return raw_json(gojson.dumps(told))


def _sorted_out(
    values: list[tuple[bytes, bytes]],
) -> tuple[list[tuple[int, Record]], list[tuple[str, bytes]], list[str]]:
    """Return the annotations, the schemas, and the keys of all others of some keys and values."""
    records: dict[int, Record] = {}
    schemas, skipped = [], []
    for raw_key, value in values:
        key = raw_key.decode()
        if key in SCHEMA_NAMES:
            schemas.append((key, value))
        elif (record := _record_of(key, value)) is None:
            skipped.append(key)
        else:
            records[int(key)] = record
    return sorted(records.items()), schemas, skipped


def _record_of(key: str, value: bytes) -> Record | None:
    """Return the annotation under a key; None if it is none."""
    # Keys such as 007 would come to the body of another key.
    if not (key.isascii() and key.isdigit()) or key != str(int(key)) or not 0 < int(key) < 1 << 64:
        return None
    try:
        texts = canonical({**parse_json_object(value), "bodyid": int(key)})
    except InvalidRequest:
        return None
    return {name: text for name, text in texts.items() if text is not None}


# -- by version -------------------------------------------------------------------------------


async def get_version_changes(request: NodeRequest) -> HTTPResponse | None:
    """GET version-changes: the annotations that each version has changed."""
    uuids = {version.id: version.uuid for version in request.repo.graph.by_id.values()}
    snapshot = take_snapshot(request)
    return await send_made(request, _changes(snapshot, request.instance.id, uuids), JSON)


def _changes(snapshot: Snapshot, instance: int, uuids: dict[int, str]) -> Iterator[bytes]:
    bound = snapshot.view.sequence
    with snapshot.open() as txn:
        versions = changed_bodies(txn, instance, bound)
    before = b"{"
    for version, bodies in sorted(versions.items()):
        yield before + gojson.string(uuids[version]).encode() + b":["
        before, ordered = b"", sorted(bodies)
        for start in range(0, len(ordered), PAGE_ROWS):
            with snapshot.open() as txn:
                rows = [
                    (body, row_of_version(txn, instance, body, version, bound))
                    for body in ordered[start : start + PAGE_ROWS]
                ]
            for body, row in rows:
                yield before + (
                    decode(row).full if row else b'{"bodyid":%d,"tombstone":true}' % body
                )
                before = b","
        before = b"],"
    yield b"{}" if before == b"{" else b"]}"


BULK: dict[str, Handler] = {
    "POST ingest-neuronjson": post_ingest,
    "POST import-kv": post_import,
    "GET version-changes": get_version_changes,
}
