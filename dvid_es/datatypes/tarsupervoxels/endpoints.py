"""The HTTP face of tarsupervoxels: parse, ask, answer.

Source: ServeHTTP in datatype/tarsupervoxels/tarsupervoxels.go (janelia-flyem/dvid).
"""

import hashlib
import json
import re
from collections.abc import Awaitable, Iterator, Sequence

from sanic.response import HTTPResponse

from dvid_es.codecs import tar
from dvid_es.datatypes.tarsupervoxels.commands import Configure, DeleteBlob, PutBlobs
from dvid_es.datatypes.tarsupervoxels.events import INLINE_BLOB_MAX
from dvid_es.datatypes.tarsupervoxels.reads import PAGE_ROWS, Blob, fetched, find, find_all
from dvid_es.datatypes.tarsupervoxels.rows import ROOT
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.http.configuration import Configuration, parse_checksum, parse_compression
from dvid_es.http.datatype import Handler
from dvid_es.http.errors import TEXT
from dvid_es.http.node import TAR, NodeRequest, empty, octets, raw_json
from dvid_es.http.streaming import Snapshot, send_made, take_snapshot
from dvid_es.http.wire import parse_json_object, parse_labels, parse_unsigned

FETCH_INLINE_MAX = 256 * 1024
"""Longer blobs are read and stored in a thread: the event loop must not wait for the disk."""

_FILE_NAME = re.compile(r"([0-9]{1,40})\.(\S+)\Z")


def _number(request: NodeRequest, word: str, what: str) -> int:
    if not request.words or not request.words[0]:
        raise InvalidRequest(f"expect uint64 to follow '{word}' endpoint")
    number = parse_unsigned(request.words[0], what.lower())
    if number == 0:
        raise InvalidRequest(f"{what} 0 is protected background value and cannot be used")
    return number


# -- one blob ---------------------------------------------------------------------------------


def get_supervoxel(request: NodeRequest) -> HTTPResponse | Awaitable[HTTPResponse]:
    """GET supervoxel/<id>: the bytes of a blob."""
    supervoxel = _number(request, "supervoxel", "Supervoxel")
    bulk = find(request.txn, request.instance, supervoxel)
    if bulk is None:
        text = f"Supervoxel {supervoxel} not found\n"
        return HTTPResponse(text, 404, {"X-Content-Type-Options": "nosniff"}, TEXT)
    if isinstance(bulk, bytes):
        return octets(bulk)
    if bulk.length <= FETCH_INLINE_MAX:
        return octets(request.txn.bulk(bulk))
    return _long_blob(request, bulk)


get_supervoxel.quick = True  # type: ignore[attr-defined]


async def _long_blob(request: NodeRequest, bulk: Bulk) -> HTTPResponse:
    request.finish()  # what lies in packs never changes
    return octets(await request.in_thread(request.stream.packs.get, bulk))


async def post_supervoxel(request: NodeRequest) -> HTTPResponse:
    """POST supervoxel/<id>: store the body as the blob, for all versions."""
    supervoxel = _number(request, "supervoxel", "Supervoxel")
    await _put(request, [supervoxel], [memoryview(request.body)])
    return empty()


async def delete_supervoxel(request: NodeRequest) -> HTTPResponse:
    """DELETE supervoxel/<id>: no blob any more, in all versions."""
    await request.write(DeleteBlob(supervoxel=_number(request, "supervoxel", "Supervoxel")))
    return empty()


def refuse_supervoxel_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    _number(request, "supervoxel", "Supervoxel")
    raise InvalidRequest(
        f'supervoxel endpoint does not support "{request.method.lower()}" HTTP verb'
    )


# -- many blobs -------------------------------------------------------------------------------


async def post_load(request: NodeRequest) -> HTTPResponse:
    """POST load: store the files of a tar, all or none."""
    extension = request.instance.settings["Extension"]
    supervoxels, blobs = await request.in_thread(_unpacked, request.body, extension)
    await _put(request, supervoxels, blobs)
    return empty()


post_load.takes_buffer = True  # type: ignore[attr-defined]


def _unpacked(archive: bytes, extension: str) -> tuple[list[int], list[memoryview]]:
    """Return the supervoxels and blobs of a tar file, of which no file is wrong."""
    supervoxels, blobs = [], []
    for place, (name, data) in enumerate(tar.read(archive), 1):
        match = _FILE_NAME.match(name)
        if match is None:
            raise InvalidRequest(f"file {place} name is invalid, expect supervoxel+ext: {name}")
        if match[2] != extension:
            raise InvalidRequest(
                f'file {place} name has bad extension (expect "{extension}"): {name}'
            )
        supervoxel = parse_unsigned(match[1], "supervoxel")
        if supervoxel == 0:
            raise InvalidRequest("supervoxel 0 is reserved and cannot have data saved under 0 id")
        supervoxels.append(supervoxel)
        blobs.append(data)
    return supervoxels, blobs


async def _put(
    request: NodeRequest, supervoxels: Sequence[int], blobs: Sequence[memoryview]
) -> None:
    """Store blobs: long ones go into the packs first."""
    long = [place for place, blob in enumerate(blobs) if len(blob) > INLINE_BLOB_MAX]
    stored: list[Bulk] = [b"" if len(blob) > INLINE_BLOB_MAX else bytes(blob) for blob in blobs]
    if long:
        put_many = request.stream.packs.put_many
        refs = await request.in_thread(put_many, [blobs[place] for place in long])
        for place, ref in zip(long, refs, strict=True):
            stored[place] = ref
    extension = request.instance.settings["Extension"]
    await request.write(
        PutBlobs(extension=extension, supervoxels=tuple(supervoxels), blobs=tuple(stored))
    )


def refuse_load_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    raise InvalidRequest("only POST action is supported for the 'load' endpoint")


async def get_exists(request: NodeRequest) -> HTTPResponse:
    """GET exists[?hash=]: of each supervoxel in the body, whether it has a blob."""
    wanted = request.args.get("hash")
    given = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
    if wanted and wanted != given:
        raise InvalidRequest(f"content hash incorrect.  expected {wanted}, got {given}")
    supervoxels = parse_labels(request.body)
    found = await request.in_thread(find_all, request.txn, request.instance, supervoxels)
    return raw_json(json.dumps([blob is not None for blob in found], separators=(",", ":")))


def refuse_exists_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    raise InvalidRequest("exists query must be a GET request")


# -- bodies -----------------------------------------------------------------------------------


def _supervoxels(request: NodeRequest, label: int, cannot: str) -> Sequence[int]:
    """Return the supervoxels of a body at the version of the request.

    Raises:
        InvalidRequest: no labelmap is synced, or it has no such body; the text begins with `cannot`.
    """
    for number in request.instance.syncs:
        partner = request.repo.instances[number]
        supervoxels = request.server.datatypes[partner.typename].supervoxels
        if supervoxels is None or partner.deleted:
            continue
        view = request.txn.view(request.version.id if partner.versioned else ROOT)
        found = supervoxels(request.txn, partner, view, label)
        if not found:
            raise InvalidRequest(f"{cannot}: label {label} has no supervoxels")
        return found
    name = request.instance.name
    raise InvalidRequest(f'{cannot}: data "{name}" is not synced with any labelmap instance')


def _blobs_of(request: NodeRequest, label: int, cannot: str) -> list[Blob]:
    supervoxels = _supervoxels(request, label, cannot)
    return list(zip(supervoxels, find_all(request.txn, request.instance, supervoxels), strict=True))


async def get_tarfile(request: NodeRequest) -> HTTPResponse | None:
    """GET tarfile/<label>: a file for each supervoxel of a body, an empty `.missing` without blob."""
    label = _number(request, "tarfile", "Label")
    cannot = f"can't send tarfile for label {label}"
    supervoxels = await request.in_thread(_supervoxels, request, label, cannot)
    snapshot = take_snapshot(request)
    return await send_made(request, tar.write(_files(request, snapshot, supervoxels)), TAR)


def _files(
    request: NodeRequest, snapshot: Snapshot, supervoxels: Sequence[int]
) -> Iterator[tuple[str, bytes]]:
    extension = request.instance.settings["Extension"]
    for start in range(0, len(supervoxels), PAGE_ROWS):
        page = supervoxels[start : start + PAGE_ROWS]
        with snapshot.open() as txn:
            found = find_all(txn, request.instance, page)
        blobs = list(zip(page, found, strict=True))
        for supervoxel, data in fetched(request.stream.packs, blobs):
            suffix = "missing" if data is None else extension
            yield f"{supervoxel}.{suffix}", data or b""


async def head_tarfile(request: NodeRequest) -> HTTPResponse:
    """HEAD tarfile/<label>: 200 if all supervoxels of a body have blobs, else 400."""
    label = _number(request, "tarfile", "Label")
    cannot = f"can't check existence of tarfile for label {label}"
    blobs = await request.in_thread(_blobs_of, request, label, cannot)
    if any(blob is None for _, blob in blobs):
        raise InvalidRequest(f"{cannot}: not all supervoxel data available")
    return HTTPResponse(None, 200, content_type=TAR)


def refuse_tarfile_verb(request: NodeRequest) -> HTTPResponse:
    """Refuse any other method."""
    _number(request, "tarfile", "Label")
    raise InvalidRequest("only GET and HEAD actions are support for the 'tarfile' endpoint")


async def get_missing(request: NodeRequest) -> HTTPResponse:
    """GET missing/<label>: the supervoxels of a body that have no blob, ascending."""
    label = _number(request, "missing", "Label")
    blobs = await request.in_thread(_blobs_of, request, label, "can't get missing supervoxels")
    missing = [supervoxel for supervoxel, blob in blobs if blob is None]
    return raw_json(json.dumps(missing, separators=(",", ":")))


# -- settings ---------------------------------------------------------------------------------


async def post_info(request: NodeRequest) -> HTTPResponse:
    """POST info {"Extension"}: other settings from now on, for all versions."""
    config = Configuration(parse_json_object(request.body, empty=True))
    command = Configure(
        extension=config.get("extension"),
        compression=parse_compression(config) if "compression" in config else None,
        checksum=parse_checksum(config) if "checksum" in config else None,
    )
    await request.write(command)
    name = request.instance.name
    text = f"Changed '{name}' based on received configuration:\n{{{config.shown()}}}\n"
    return HTTPResponse(text, 200, content_type=TEXT)


ENDPOINTS: dict[str, Handler] = {
    "POST info": post_info,
    "GET supervoxel": get_supervoxel,
    "POST supervoxel": post_supervoxel,
    "DELETE supervoxel": delete_supervoxel,
    "HEAD supervoxel": refuse_supervoxel_verb,
    "* supervoxel": refuse_supervoxel_verb,
    "POST load": post_load,
    "* load": refuse_load_verb,
    "GET exists": get_exists,
    "HEAD exists": refuse_exists_verb,
    "* exists": refuse_exists_verb,
    "GET tarfile": get_tarfile,
    "HEAD tarfile": head_tarfile,
    "* tarfile": refuse_tarfile_verb,
    "GET missing": get_missing,
    "* missing": get_missing,
}
