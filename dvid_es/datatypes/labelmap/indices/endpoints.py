"""Requests for label indices: one, many, compressed; posted ones.

Source: handleIndex and handleIndices in datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import struct
from typing import Any

from dvid_es.codecs import gojson, labelindex
from dvid_es.codecs.compression import encode_stored_value
from dvid_es.codecs.labelindex import LabelIndex
from dvid_es.datatypes.labelmap.bodies.commands import PutIndices
from dvid_es.datatypes.labelmap.bodies.requests import parse_label, reads_of
from dvid_es.datatypes.labelmap.indices import assembly as indices
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.events import INLINE_BYTES_MAX
from dvid_es.http.node import HTTPResponse, NodeRequest, empty, octets, raw_json
from dvid_es.http.wire import parse_labels

INDICES_MAX = 50_000
"""Most labels of one request."""

ANSWER_BYTES_MAX = 3 << 30

_HEAD = struct.Struct("<QQ")


async def get_index(request: NodeRequest) -> Any:
    """Answer the index of a body, or only what it says of the body."""
    label = parse_label(request)
    if request.flag("metadata-only"):
        body = reads_of(request).body(label)
        if body is None:
            raise NotFound("")
        fields = {
            "num_voxels": body.voxels,
            "last_mutid": body.last.mutation_id,
            "last_mod_time": body.last.time,
            "last_mod_user": body.last.user,
            "last_mod_app": body.last.app,
        }
        return raw_json(gojson.dumps(fields))
    if request.args.get("mutid"):
        raise NotFound("")  # as a DVID without a cache of old indices: ask with ?at= instead
    txn, instance_id, view = request.txn, request.instance.id, request.view
    message = await request.in_thread(indices.encoded, txn, instance_id, label, view)
    if message is None:
        raise NotFound("")
    return octets(message)


async def post_index(request: NodeRequest) -> Any:
    """Set the index of a body."""
    label = parse_label(request)
    index = await request.in_thread(labelindex.decode, request.body)
    if index.label != label:
        raise InvalidRequest(f"the index is of label {index.label}, the path of label {label}")
    return await _put(request, [index])


async def get_index_version(request: NodeRequest) -> Any:
    """Answer in which version a body's index was stored or deleted last."""
    label = parse_label(request)
    version = reads_of(request).stored_at(label)
    if version is None:
        raise InvalidRequest(f"label {label} has no index in any version")
    uuid = request.txn.repo.graph.by_id[version].uuid
    return HTTPResponse(uuid, 200, content_type="text/plain")


def _parse_list(request: NodeRequest) -> list[int]:
    labels = parse_labels(request.body)
    if len(labels) > INDICES_MAX:
        raise InvalidRequest(
            f"only 50,000 label indices can be returned at a time, {len(labels)} given"
        )
    return labels


def _encoded(request: NodeRequest, labels: list[int]) -> list[bytes | None]:
    found: list[bytes | None] = []
    size = 0
    for label in labels:
        found.append(indices.encoded(request.txn, request.instance.id, label, request.view))
        size += len(found[-1] or b"")
        if size > ANSWER_BYTES_MAX:
            raise InvalidRequest("these indices have more than 3 GiB: ask for fewer at a time")
    return found


async def get_indices(request: NodeRequest) -> Any:
    """Answer many indices; a body that does not exist has an index without blocks."""
    labels = _parse_list(request)

    def work() -> bytes:
        found = _encoded(request, labels)
        return labelindex.encode_all(
            labelindex.encode(LabelIndex(label)) if index is None else index
            for label, index in zip(labels, found, strict=True)
        )

    return octets(await request.in_thread(work))


async def get_indices_compressed(request: NodeRequest) -> Any:
    """Answer many indices, each compressed by itself."""
    labels = _parse_list(request)

    def work() -> bytes:
        pieces: list[bytes] = []
        for label, index in zip(labels, _encoded(request, labels), strict=True):
            data = b"" if index is None else encode_stored_value(index)
            pieces += (_HEAD.pack(len(data), label), data)
        return b"".join(pieces)

    return octets(await request.in_thread(work))


async def post_indices(request: NodeRequest) -> Any:
    """Set many indices, all or none."""
    found = await request.in_thread(labelindex.decode_all, request.body)
    for place, index in enumerate(found):
        if index.label == 0:
            raise InvalidRequest(f"index {place} had label 0, which is a reserved label")
    if not found:
        return empty()
    return await _put(request, found)


async def _put(request: NodeRequest, found: list[LabelIndex]) -> Any:
    packs = request.stream.packs

    def prepare() -> PutIndices:
        for index in found:
            indices.rows_in(index)  # raises for blocks that are out of range
        message = labelindex.encode_all(map(labelindex.encode, found))
        return PutIndices(message if len(message) <= INLINE_BYTES_MAX else packs.put(message))

    await request.write(await request.in_thread(prepare))
    return empty()


ENDPOINTS = {
    "GET index": get_index,
    "POST index": post_index,
    "GET index-version": get_index_version,
    "GET indices": get_indices,
    "POST indices": post_indices,
    "GET indices-compressed": get_indices_compressed,
}
