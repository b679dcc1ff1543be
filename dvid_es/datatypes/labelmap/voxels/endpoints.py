"""Requests for voxels: raw, blocks, points."""

import hashlib
import math
from collections.abc import Callable
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import blocks, ingest
from dvid_es.datatypes.labelmap.voxels import reads as reads_voxels
from dvid_es.datatypes.labelmap.voxels import requests as parse
from dvid_es.datatypes.labelmap.voxels.reads import BlockSet, PointRead
from dvid_es.datatypes.labelmap.voxels.volumes import QUICK_BYTES, VolumeAnswer, memory_bytes
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.answers import (
    AHEAD,
    in_threads,
    send_parts,
    send_whole,
    spans,
)
from dvid_es.http.direct import Made, write_made
from dvid_es.http.node import PIECE_BYTES, NodeRequest, empty, octets, raw_json
from dvid_es.http.receive import receive_whole
from dvid_es.http.wire import parse_point
from dvid_es.projections import regions

DECODED_BLOCKS = 8
"""Blocks of one part of a stream in another form than the stored one."""

PART_BYTES = 2 << 20
"""Stored bytes of one part of a stream: a client reads one while the next is made. With less, it wakes up more
often than it must."""

AT_ONCE_BLOCKS = 8
"""Boxes of up to so many blocks are looked up on the event loop."""

POINT_BLOCKS = 32
"""Blocks whose points one task looks up."""


def _mapping(request: NodeRequest, supervoxels: bool) -> Any:
    return reads_voxels.mapping_for(request.txn, request.instance.id, request.view, supervoxels)


def _found(request: NodeRequest, coords: Any, rows: Any, supervoxels: bool) -> BlockSet:
    """Return the blocks of a read, after which its transaction may end."""
    mapping = _mapping(request, supervoxels)
    shape = block_shape(request.instance)
    chosen = BlockSet(request.stream.packs, mapping, shape, coords, rows)
    chosen.measure()
    if not request.view.linear:
        chosen.settle()
    return chosen


def _svs(request: NodeRequest) -> bool:
    return request.flag("supervoxels")


def find_box(
    request: NodeRequest, scale: int, box: Box, supervoxels: bool, roi: str = ""
) -> BlockSet:
    """Return the blocks that cover a box of voxels; the request's transaction may end then.

    Args:
        request: what is asked.
        scale: of the blocks.
        box: in voxels of the scale.
        supervoxels: whether to leave labels as they are stored.
        roi: name of a region of interest: blocks outside of it are left out.

    Raises:
        InvalidRequest: there is no such region.
    """
    txn = request.txn
    covering = box.blocks(block_shape(request.instance))
    coords, rows = blocks.find_box(txn, request.instance.id, scale, covering, request.view)
    if roi:
        inside = regions.find(txn, roi, request.version_id).mask(box).holds(coords)
        coords, rows = coords[inside], list(compress(rows, inside.tolist()))
    return _found(request, coords, rows, supervoxels)


async def _find(request: NodeRequest, scale: int, box: Box, roi: str = "") -> BlockSet:
    """Find the blocks of a box: few of them at once, as the way to a thread takes longer."""
    supervoxels = _svs(request)
    few = box.blocks(block_shape(request.instance)).volume <= AT_ONCE_BLOCKS
    if few and request.view.linear and not roi:
        return find_box(request, scale, box, supervoxels)
    return await request.in_thread(find_box, request, scale, box, supervoxels, roi)


def _find_list(request: NodeRequest, scale: int, coords: Any) -> BlockSet:
    rows = blocks.find_rows(request.txn, request.instance.id, scale, coords, request.view)
    return _found(request, *blocks.present(coords, rows), _svs(request))


# -- raw -------------------------------------------------------------------------------------


def get_volume(request: NodeRequest) -> Any:
    """Answer a box of voxels: GET raw or isotropic of shape 0_1_2."""
    box = parse.limit_voxels(parse.parse_box(*request.words[1:3]))
    compression = parse.parse_compression(request, parse.READ_COMPRESSIONS)
    scale = parse.parse_scale(request)
    roi = parse.parse_roi(request, scale)
    if compression.startswith("google") and any(side % 8 for side in box.shape_zyx):
        raise InvalidRequest(f"compression={compression} needs sides that are multiples of 8")
    if not roi and _is_light(request, box, compression) and _may_be_quick(request, box):
        answer = VolumeAnswer(find_box(request, scale, box, _svs(request)), box, compression)
        if answer.is_quick:
            return octets(answer.whole())
    return _send_volume(request, scale, box, compression, roi)


def _may_be_quick(request: NodeRequest, box: Box) -> bool:
    """Say whether an answer may be made on the event loop, without a word to anybody.

    That is fastest, unless long answers are under way: then threads share the processors with them.
    """
    few = box.blocks(block_shape(request.instance)).volume <= AT_ONCE_BLOCKS
    waits = request.args.get("throttle") in ("on", "true")
    return few and not waits and request.server.monitor.active <= 1 and request.view.linear


def _is_light(request: NodeRequest, box: Box, compression: str) -> bool:
    """Say whether voxels are so few that the event loop may make an answer of them."""
    # On the long way, Sanic would copy what is not compressed.
    copied = not compression and request.raw.stream is not None
    return 8 * box.volume <= (PIECE_BYTES if copied else QUICK_BYTES)


async def _send_volume(
    request: NodeRequest, scale: int, box: Box, compression: str, roi: str
) -> Any:
    if not compression and request.method == "GET":
        return await _write_volume(request, scale, box, roi)
    found = await _find(request, scale, box, roi)
    request.finish()
    headers = {"Content-Encoding": "gzip"} if compression == "googlegzip" else {}
    answer = VolumeAnswer(found, box, compression)
    if answer.is_small:
        return await send_whole(request, await request.in_thread(answer.whole), headers=headers)
    async with request.memory(memory_bytes(box, compression)):
        return await send_parts(request, answer.parts(), headers, answer.length, answer.joiner())


async def _write_volume(request: NodeRequest, scale: int, box: Box, roi: str) -> None:
    """Find the blocks of a box and send its voxels as they are, all in one thread."""

    def begin() -> Made:
        found = find_box(request, scale, box, _svs(request), roi)
        request.finish()
        answer = VolumeAnswer(found, box, "")
        return Made(answer.length, answer.parts(), heavy=False)

    request.finish()  # memory may have to be waited for
    async with request.memory(memory_bytes(box, "")):
        request.view  # noqa: B018 # the headers are those of this state
        await write_made(request, begin)


async def post_raw(request: NodeRequest) -> Any:
    """Write a box of whole blocks from its voxels, with indices and all lower scales."""
    try:
        words = parse.need_words(request, 3, f"{request.path} needs shape, size and offset")
        if parse.parse_shape(words[0]) != parse.VOLUME:
            raise InvalidRequest("only volumes can be written: the shape must be 0_1_2")
        shape = block_shape(request.instance)
        box = parse.limit_voxels(parse.need_aligned(parse.parse_box(words[1], words[2]), shape))
        compression = parse.parse_compression(request, ("", "none", "lz4", "gzip"))
        roi = parse.parse_roi(request)
    except InvalidRequest:
        await receive_whole(request)  # a client that is still sending would not hear what is wrong
        raise
    await ingest.post_volume(request, box, compression, roi)
    return empty()


# -- blocks ----------------------------------------------------------------------------------


def get_blocks(request: NodeRequest) -> Any:
    """Stream the stored blocks of a box."""
    words = parse.need_words(request, 2, f"{request.path} needs size and offset")
    box = parse.parse_box(words[0], words[1], smallest=0)
    parse.need_aligned(box, block_shape(request.instance))
    compression = parse.parse_compression(request, parse.BLOCK_COMPRESSIONS, "lz4")
    scale = parse.parse_scale(request)
    if not box.volume:
        return octets(b"")
    if compression == "blocks" and _may_be_quick(request, box):
        found = find_box(request, scale, box, _svs(request))
        if found.stored_bytes <= PIECE_BYTES:
            return octets(bytes(found.stream(compression)))
    return _get_blocks(request, scale, box, compression)


async def _get_blocks(request: NodeRequest, scale: int, box: Box, compression: str) -> Any:
    few = box.blocks(block_shape(request.instance)).volume <= AT_ONCE_BLOCKS
    if compression == "blocks" and request.method == "GET" and not few:
        return await _write_blocks(request, find_box, request, scale, box, _svs(request))
    found = await _find(request, scale, box)
    return await _send_blocks(request, found, compression)


async def get_specific_blocks(request: NodeRequest) -> Any:
    """Stream the blocks of a list."""
    coords = await request.in_thread(parse.parse_block_list, request.args.get("blocks", ""))
    compression = parse.parse_compression(request, parse.BLOCK_COMPRESSIONS, "blocks")
    scale = parse.parse_scale(request)
    if compression == "blocks" and request.method == "GET" and len(coords) > AT_ONCE_BLOCKS:
        return await _write_blocks(request, _find_list, request, scale, coords)
    found = await request.in_thread(_find_list, request, scale, coords)
    return await _send_blocks(request, found, compression)


async def _write_blocks(request: NodeRequest, find: Callable[..., BlockSet], *args: Any) -> None:
    """Find stored blocks and stream them, both in one thread."""
    request.view  # noqa: B018 # the headers are those of this state

    def begin() -> Made:
        found = find(*args)
        request.finish()
        length = found.gzip_length
        if length is None and found.stored_bytes <= PART_BYTES:
            whole = found.gzip_stream()
            return Made(len(whole), iter((lambda: whole,)), heavy=False)
        return Made(length, found.gzip_parts(PART_BYTES), heavy=False)

    await write_made(request, begin)


async def _send_blocks(request: NodeRequest, found: BlockSet, compression: str) -> Any:
    if compression == "blocks":
        if len(found) <= AT_ONCE_BLOCKS and found.stored_bytes <= 2 * PIECE_BYTES:
            request.finish()
            return await send_whole(request, found.gzip_stream())
        if request.method == "HEAD":
            return await send_parts(request, (), length=found.gzip_length)
        return await _write_blocks(request, lambda: found)
    request.finish()
    if len(found) <= 1:
        return await send_whole(request, await request.in_thread(found.stream, compression))
    at_once = min(len(found), DECODED_BLOCKS * (AHEAD + 1))
    spans_of = spans(len(found), DECODED_BLOCKS)
    parts = (partial(found.part(*span).pieces, compression) for span in spans_of)
    async with request.memory(8 * at_once * math.prod(found.shape_zyx)):
        return await send_parts(request, parts)


async def post_blocks(request: NodeRequest) -> Any:
    """Write a stream of gzipped label blocks."""
    scale = parse.parse_scale(request)
    parse.parse_compression(request, ("blocks",), "blocks")
    downres = request.flag("downres")
    if downres and scale:
        raise InvalidRequest("downres=true needs scale 0: lower scales are made from it")
    await ingest.post_stream(
        request, scale, indexed=not request.flag("noindexing"), downres=downres
    )
    return empty()


async def post_ingest(request: NodeRequest) -> Any:
    """Store a stream of gzipped label blocks and nothing else."""
    await ingest.post_stream(request, parse.parse_scale(request), stored_only=True)
    return empty()


# Their bodies may be buffers instead of bytes: see receive.py.
for _handler in (post_raw, post_blocks, post_ingest):
    _handler.takes_buffer = True  # type: ignore[attr-defined]
post_raw.takes_arriving = True  # type: ignore[attr-defined]
for _handler in (post_raw, post_blocks):
    _handler.throttled = True  # type: ignore[attr-defined]
get_blocks.throttled = get_blocks.quick = True  # type: ignore[attr-defined]


# -- points ----------------------------------------------------------------------------------


async def get_label(request: NodeRequest) -> Any:
    """Answer the label of one voxel."""
    words = parse.need_words(request, 1, f"{request.path} needs a point, such as 10_20_30")
    x, y, z = parse_point(words[0], "point")
    points = np.array([[z, y, x]], np.int64)
    labels = await _labels(request, points)
    return raw_json(f'{{"Label": {int(labels[0])}}}')


async def get_labels(request: NodeRequest) -> Any:
    """Answer the labels of many voxels, in their order."""
    if request.method not in ("GET", "HEAD"):
        raise InvalidRequest("Batch labels query must be a GET request")
    wanted = request.args.get("hash")
    if wanted and hashlib.md5(request.body, usedforsecurity=False).hexdigest() != wanted:
        raise InvalidRequest("the MD5 hash of the body is not the one given")
    points = await request.in_thread(parse.parse_points, request.body)
    labels = await _labels(request, points)
    return raw_json(await request.in_thread(_list_json, labels))


def _list_json(labels: Any) -> str:
    return f"[{','.join(map(str, labels.tolist()))}]"


async def _labels(request: NodeRequest, points: Any) -> Any:
    scale = parse.parse_scale(request)
    shape = block_shape(request.instance)
    many = len(points) > 1
    read = await request.in_thread(PointRead, points, shape) if many else PointRead(points, shape)
    coords = read.coords_zyx
    find = partial(blocks.find_list, request.txn, request.instance.id, scale, coords, request.view)
    found = await request.in_thread(find) if many else find()
    mapping = _mapping(request, _svs(request))
    packs = request.stream.packs
    tasks = [(packs, found, start, stop) for start, stop in spans(len(coords), POINT_BLOCKS)]
    if len(tasks) > 1:
        await in_threads(request, read.look_up, tasks)
        return await request.in_thread(read.labels, mapping)
    if tasks:
        read.look_up(*tasks[0])
    return read.labels(mapping)


ENDPOINTS = {
    "POST raw": post_raw,
    "GET blocks": get_blocks,
    "POST blocks": post_blocks,
    "GET specificblocks": get_specific_blocks,
    "POST ingest-supervoxels": post_ingest,
    "GET label": get_label,
    "* label": get_label,
    "GET labels": get_labels,
    "* labels": get_labels,
}
