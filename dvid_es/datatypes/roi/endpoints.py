"""Requests to regions of interest.

Source: ServeHTTP in datatype/roi/roi.go (janelia-flyem/dvid).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.datatypes.roi import reads
from dvid_es.datatypes.roi.commands import ClearSpans, ReplaceSpans
from dvid_es.datatypes.roi.partition import BATCH_MAX, partition
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.http.node import JSON, OCTETS, NodeRequest, empty, raw_json
from dvid_es.http.shapes import VOLUME, need_words, parse_rows, parse_shape
from dvid_es.http.streaming import send_made
from dvid_es.http.wire import parse_point, parse_signed
from dvid_es.projections import regions
from dvid_es.projections.regions import EMPTY_LAYERS, Region

MASK_BYTES_MAX = 3 << 30
"""Voxels of one mask."""

SMALL_BODY = 16 * 1024
"""Longer bodies are parsed in a thread."""

DEFAULT_BATCH = 8


def _region(request: NodeRequest) -> Region:
    """Return the region that a request reads, and end its transaction."""
    instance = request.instance
    spans = regions.read(request.txn, instance.id, request.view)
    request.finish()
    return Region(instance.name, regions.block_shape(instance), spans)


# -- spans -----------------------------------------------------------------------------------


async def get_roi(request: NodeRequest) -> HTTPResponse | None:
    """GET roi: all spans."""
    region = await request.in_thread(_region, request)
    return await send_made(request, reads.spans_json(region.spans), JSON)


async def post_roi(request: NodeRequest) -> HTTPResponse:
    """POST roi: replace all spans."""
    put = request.stream.packs.put

    def prepare(body: bytes) -> ReplaceSpans:
        spans, layers = _parse_spans(body)
        data = regions.to_bytes(spans)
        bulk: Bulk = put(data) if len(data) > INLINE_BYTES_MAX else data
        return ReplaceSpans(spans=bulk, layers=layers)

    await request.write(await _parsed(request, prepare))
    return empty()


def _parse_spans(body: bytes) -> tuple[regions.Spans, tuple[int, int]]:
    """Return the spans of a body, sorted, and their lowest and highest z.

    Raises:
        InvalidRequest: not a list of spans, or one ends before it begins.
    """
    given = parse_rows(body, 4)
    wrong = np.flatnonzero(given[:, 3] < given[:, 2])
    if len(wrong):
        z, y, x0, x1 = given[wrong[0]].tolist()
        raise InvalidRequest(
            f"span [{z},{y},{x0},{x1}] ends before it begins: a span is [z, y, x0, x1] with x0 <= x1"
        )
    spans = regions.sorted_spans(given)
    return spans, (int(spans[0, 0]), int(spans[-1, 0])) if len(spans) else EMPTY_LAYERS


async def delete_roi(request: NodeRequest) -> HTTPResponse:
    """DELETE roi: no spans from this version on."""
    await request.write(ClearSpans())
    return empty()


async def refuse_roi(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods, which DVID answers with 200 and nothing done."""
    raise InvalidRequest(f"roi endpoint does not support {request.method}: use GET, POST or DELETE")


async def _parsed(request: NodeRequest, parse: Callable[[bytes], Any]) -> Any:
    """Return what a body says; long ones are read in a thread."""
    body = bytes(request.body)
    if len(body) <= SMALL_BODY:
        return parse(body)
    return await request.in_thread(parse, body)


# -- questions -------------------------------------------------------------------------------


async def post_ptquery(request: NodeRequest) -> HTTPResponse:
    """POST ptquery: say of points whether they are inside, in their order."""
    points = await _parsed(request, lambda body: parse_rows(body, 3)[:, ::-1])

    def answer() -> bytes:
        return reads.booleans_json(_region(request).holds_points(points))

    return raw_json(await request.in_thread(answer))


async def refuse_ptquery(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods."""
    raise InvalidRequest("ptquery requires POST with list of points")


async def get_mask(request: NodeRequest) -> HTTPResponse | None:
    """GET mask/0_1_2/<size>/<offset>: voxels, 1 inside and 0 outside."""
    words = need_words(request, 3, '"mask" must be followed by shape/size/offset')
    if parse_shape(words[0]) != VOLUME:
        raise InvalidRequest("Currently only 3d masks ('0_1_2' shape) are supported")
    box = _parse_box(words[1], words[2])
    region = await request.in_thread(_region, request)
    return await send_made(request, reads.mask(region, box), OCTETS)


def _parse_box(size: str, offset: str) -> Box:
    """Return the box of a mask, which may be empty.

    Raises:
        InvalidRequest: a size is negative, the box leaves 32 bits, or it is too large.
    """
    size_xyz: Triple = parse_point(size, "size")  # type: ignore[assignment]
    offset_xyz: Triple = parse_point(offset, "offset")  # type: ignore[assignment]
    if min(size_xyz) < 0:
        raise InvalidRequest(f'size "{size}" must not be negative')
    if any(a + n > 1 << 31 for a, n in zip(offset_xyz, size_xyz, strict=True)):
        raise InvalidRequest(f"a box of {size} at {offset} leaves the 32 bits of coordinates")
    box = Box.from_offset_size(offset_xyz, size_xyz)
    if box.volume > MASK_BYTES_MAX:
        raise InvalidRequest(
            f"a mask of {box.volume} voxels is over the {MASK_BYTES_MAX} of one request: ask in parts"
        )
    return box


async def refuse_mask(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods."""
    raise InvalidRequest("ROI mask only supports GET")


async def get_partition(request: NodeRequest) -> HTTPResponse | None:
    """GET partition?batchsize=8&optimized=true: sub-volumes of whole blocks that cover the region."""
    text = request.args.get("batchsize")
    size = DEFAULT_BATCH if text is None else parse_signed(text, "batchsize")
    if not 1 <= size <= BATCH_MAX:
        raise InvalidRequest(f"batchsize must be 1 to {BATCH_MAX} blocks, not {size}")
    optimized = request.args.get("optimized") in ("true", "on")
    z, y, x = regions.block_shape(request.instance)

    def make() -> Any:
        return partition(_region(request), size, optimized)

    made = await request.in_thread(make)
    return await send_made(request, made.json((x, y, z)), JSON)


async def refuse_partition(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods."""
    raise InvalidRequest("partition only supports GET request")


ENDPOINTS = {
    "GET roi": get_roi,
    "POST roi": post_roi,
    "DELETE roi": delete_roi,
    "* roi": refuse_roi,
    "POST ptquery": post_ptquery,
    "* ptquery": refuse_ptquery,
    "GET mask": get_mask,
    "* mask": refuse_mask,
    "GET partition": get_partition,
    "* partition": refuse_partition,
}

READS = frozenset({"POST ptquery"})
