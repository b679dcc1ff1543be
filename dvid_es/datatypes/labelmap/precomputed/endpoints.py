"""GET precomputed: `info` and chunks, for neuroglancer, CloudVolume and TensorStore as they are."""

import hashlib
import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import labelblock, neuroglancer
from dvid_es.codecs.compression import gzip_compress
from dvid_es.datatypes.labelmap.precomputed import volume
from dvid_es.datatypes.labelmap.precomputed.volume import COMPRESSED, RAW, Scale
from dvid_es.datatypes.labelmap.voxels import reads
from dvid_es.datatypes.labelmap.voxels.endpoints import find_box
from dvid_es.errors import NotFound
from dvid_es.geometry import Triple
from dvid_es.http.node import JSON, OCTETS, NodeRequest
from dvid_es.http.wire import parse_unsigned

FOREVER = "max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
"""Keep it, and ask each time whether it has changed."""

_GZIP_FROM = 512


class Wanted(NamedTuple):
    """What the path asks for."""

    supervoxels: bool
    encoding: str
    words: list[str]
    """Behind the options: `info`, or scale and chunk."""


def parse_path(request: NodeRequest) -> Wanted:
    """Return options and file of a path such as precomputed/supervoxels/raw/at-12/s0/0-64_0-64_0-64.

    Clients add names to a base URL and know no query: so the options are folders. Those of a query count
    as well.

    Raises:
        InvalidRequest: the sequence of `at-` is no number.
    """
    words = [word for word in request.words if word]
    supervoxels, encoding = request.flag("supervoxels"), COMPRESSED
    while words:
        word = words[0]
        if word == "supervoxels":
            supervoxels = True
        elif word == RAW:
            encoding = RAW
        elif word.startswith("at-"):
            request.args["at"] = str(parse_unsigned(word[3:], "at"))
        else:
            break
        words = words[1:]
    return Wanted(supervoxels, encoding, words)


async def get_precomputed(request: NodeRequest) -> Any:
    """Answer a file of the precomputed volume."""
    wanted = parse_path(request)
    scales = volume.scales_of(request.txn, request.instance, request.view)
    if wanted.words == ["info"]:
        info = volume.volume_info([scale.info(wanted.encoding) for scale in scales])
        # The size of voxels may be set at any time, so that `info` of no version is for ever.
        return _answer(request, json.dumps(info).encode(), JSON, ASK_AGAIN)
    if len(wanted.words) != 2:
        raise NotFound("a precomputed volume has info, and chunks such as s0/0-64_0-64_0-64")
    key, name = wanted.words
    scale = next((scale for scale in scales if scale.key == key), None)
    if scale is None:
        raise NotFound(f'there is no scale "{key}": info lists s0 to {scales[-1].key}')
    box = volume.parse_chunk(name, scale)
    if request.view.linear:
        found = find_box(request, scale.number, box, wanted.supervoxels)
    else:
        found = await request.in_thread(find_box, request, scale.number, box, wanted.supervoxels)
    forever = _is_settled(request)
    request.finish()
    body = await request.in_thread(_chunk, found, scale, wanted.encoding)
    return _answer(request, body, OCTETS, FOREVER if forever else ASK_AGAIN)


def _chunk(found: reads.BlockSet, scale: Scale, encoding: str) -> bytes:
    blocks = found.label_blocks()
    if not blocks:
        return _zeros(scale.shape_zyx, encoding)
    if encoding == COMPRESSED:
        return neuroglancer.encode_block(blocks[0])
    return labelblock.decode(blocks[0]).astype("<u8", copy=False).tobytes()


@lru_cache(8)
def _zeros(shape_zyx: Triple, encoding: str) -> bytes:
    """Return a chunk that is not stored: CloudVolume takes 404 for an error unless told otherwise."""
    if encoding == COMPRESSED:
        return neuroglancer.encode_block(labelblock.solid(0, shape_zyx))
    return bytes(8 * int(np.prod(shape_zyx)))


def _is_settled(request: NodeRequest) -> bool:
    """Say whether what was read can never change: of a committed version, or as of a past event."""
    assert request.sequence is not None
    if request.view.sequence <= request.sequence:
        return True
    mode = request.server.settings.mode
    return request.instance.versioned and request.version.locked and mode != "fullwrite"


def _answer(request: NodeRequest, body: bytes, content_type: str, caching: str) -> HTTPResponse:
    raw = request.raw.headers
    digest = hashlib.blake2b(body, digest_size=12).hexdigest()
    # Who asks for a range gets the whole, as HTTP allows, and must be able to cut it.
    whole = "range" not in raw and len(body) >= _GZIP_FROM
    zipped = whole and "gzip" in raw.get("accept-encoding", "")
    tag = f'"{digest}-gzip"' if zipped else f'"{digest}"'
    headers = {"ETag": tag, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    known = [one.strip().removeprefix("W/") for one in raw.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return HTTPResponse(None, 304, headers)
    if zipped:
        headers["Content-Encoding"] = "gzip"
        body = gzip_compress(body)
    return HTTPResponse(body, 200, headers, content_type)


ENDPOINTS = {"GET precomputed": get_precomputed}
