"""The endpoints that every data instance has: info, help, tags, sync, blobstore."""

from collections.abc import Awaitable
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.codecs import gojson
from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.http.node import NodeRequest, empty, octets, raw_json
from dvid_es.repos.asking import json_answer, stores, takes_words, write_to_repo
from dvid_es.repos.blobs import StoreBlob, digest_of, parse_reference, read_blob
from dvid_es.repos.bodies import string_map
from dvid_es.repos.documents import instance_document, sorted_by_bytes
from dvid_es.repos.instances import SetSyncs, SetTags

DOCUMENTS_MAX = 256


def get_info(request: NodeRequest) -> HTTPResponse | Awaitable[HTTPResponse]:
    """GET info: settings and extents; other methods too, where the type has nothing to change."""
    bound = request.view.sequence  # of `?at=`; this opens the transaction, which knows the sequence
    state = (request.repo.root, request.repo.sequence, request.sequence, bound)
    key = (*state, request.instance.id, request.version_id)
    made = request.server.documents.get(key)
    return _make_info(request, key) if made is None else raw_json(made)


get_info.quick = True  # type: ignore[attr-defined]


async def _make_info(request: NodeRequest, key: tuple[Any, ...]) -> HTTPResponse:
    """Make the document, and keep it for as long as nothing is written to the repository."""
    document = await request.in_thread(
        instance_document,
        request.txn,
        request.repo,
        request.instance,
        request.view,
        request.server.datatypes,
        stores(request),
    )
    documents = request.server.documents
    if len(documents) >= DOCUMENTS_MAX:
        documents.clear()
    documents[key] = text = gojson.dumps(document)
    return raw_json(text)


def get_help(request: NodeRequest) -> HTTPResponse:
    """GET help: the text of the datatype."""
    datatype = request.server.datatypes[request.instance.typename]
    return HTTPResponse(datatype.help, 200, content_type="text/plain")


def get_tags(request: NodeRequest) -> HTTPResponse:
    """GET tags: the same at every version."""
    _need_tags(request)
    request.sequence = request.repo.sequence
    return json_answer({"Tags": sorted_by_bytes(request.instance.tags)})


async def post_tags(request: NodeRequest) -> HTTPResponse:
    """POST tags[?replace=true]: add tags, or replace all of them."""
    _need_tags(request)
    command = SetTags(tags=string_map(request.body), replace=request.flag("replace"))
    await request.write(command)
    return empty()


def _need_tags(request: NodeRequest) -> None:
    if not request.server.datatypes[request.instance.typename].tagged:
        raise _no_endpoint(request)


def _no_endpoint(request: NodeRequest) -> InvalidRequest:
    """Return the error of an endpoint that the type of the instance does not have."""
    instance = request.instance
    return InvalidRequest(
        f'Bad API call ({request.path}) for data "{instance.name}".'
        f"  See API help at http://{request.raw.host}/api/help/{instance.typename}"
    )


async def post_sync(request: NodeRequest) -> HTTPResponse:
    """POST sync[?replace=true] {"sync"}: listen to the instances "a,b" too, or only to these."""
    instance = request.instance
    datatype = request.server.datatypes[instance.typename]
    allowed = datatype.syncs
    if allowed is None:
        raise _no_endpoint(request)
    sync = string_map(request.body).get("sync")
    if sync is None:
        raise InvalidRequest("Could not find 'sync' value in POSTed JSON to sync request.")
    names = tuple(dict.fromkeys(name for name in sync.split(",") if name))
    replace, partner = request.flag("replace"), datatype.partner
    command = SetSyncs(names=names, allowed=allowed, partner=partner, replace=replace)
    await request.write(command)
    return empty()


async def post_blobstore(request: NodeRequest) -> HTTPResponse:
    """POST blobstore: store bytes, also at a committed version; the answer names them."""
    data = request.body
    digest = await request.in_thread(digest_of, data)
    value: Bulk = data
    if len(data) > INLINE_BYTES_MAX:
        value = await request.in_thread(request.stream.packs.put, data)
    return raw_json(await write_to_repo(request, StoreBlob(digest=digest, value=value)))


async def get_blobstore(request: NodeRequest) -> HTTPResponse:
    """GET blobstore/<reference>: bytes stored through any instance of the repository."""
    if len(request.words) != 1 or not request.words[0] or request.method != "GET":
        raise InvalidRequest("GET /blobstore requires reference")
    reference = request.words[0]
    data = await request.in_thread(read_blob, request.txn, parse_reference(reference))
    if data is None:
        raise NotFound(f'Reference "{reference}" not found')
    return octets(data)


@takes_words
async def get_server_blobstore(request: NodeRequest) -> HTTPResponse:
    """GET api/server/blobstore/<reference>: bytes stored in any repository."""
    if not request.words or not request.words[0]:
        raise InvalidRequest("GET /blobstore requires reference")
    reference = request.words[0]
    data = await request.in_thread(_find_blob, request.engine, parse_reference(reference))
    if data is None:
        raise NotFound(f'Reference "{reference}" not found')
    return octets(data)


def _find_blob(engine: Engine, digest: bytes) -> bytes | None:
    for stream, _ in engine.repos():
        with engine.store.read(stream.root, stream.packs) as txn:
            data = read_blob(txn, digest)
        if data is not None:
            return data
    return None
