"""Requests for voxels: raw, blocks, points."""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from dvid_es.datatypes.labelmap import blocks, ingest, reads_voxels, volume_reads
from dvid_es.datatypes.labelmap import voxel_requests as parse
from dvid_es.datatypes.labelmap.answers import Part, in_threads, send_parts, spans
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.reads_voxels import BlockSet, PointRead
from dvid_es.errors import InvalidRequest
from dvid_es.geometry import Box
from dvid_es.http.node import NodeRequest, empty, octets, raw_json

STREAMED_BLOCKS = 64
"""Blocks of one part of a stream."""

FETCHED_BLOCKS = 128
"""Blocks that one task fetches."""

MEASURED_BLOCKS = 1024
"""Streams of up to so many blocks are sent with their length."""

POINT_BLOCKS = 32
"""Blocks whose points one task looks up."""


def _mapping(request: NodeRequest, supervoxels: bool) -> Any:
    return reads_voxels.mapping_for(
        request.txn, request.instance.id, request.view, supervoxels
    )


def _found(request: NodeRequest, coords: Any, found: Any, supervoxels: bool) -> BlockSet:
    """Return the blocks of a read, after which its transaction may end."""
    mapping = _mapping(request, supervoxels)
    shape = block_shape(request.instance)
    chosen = BlockSet(request.stream.packs, mapping, shape, coords, found)
    if not request.view.linear:
        chosen.settle()
    return chosen


def find_box(request: NodeRequest, scale: int, box: Box, supervoxels: bool) -> BlockSet:
    """Return the blocks that cover a box of voxels; the request's transaction may end then."""
    covering = box.blocks(block_shape(request.instance))
    coords, found = blocks.find_box(
        request.txn, request.instance.id, scale, covering, request.view
    )
    return _found(request, coords, found, supervoxels)


def _find_list(request: NodeRequest, scale: int, coords: Any) -> BlockSet:
    found = blocks.find_list(request.txn, request.instance.id, scale, coords, request.view)
    there = [place for place, block in enumerate(found) if block is not None]
    chosen = [found[place] for place in there]
    return _found(request, coords[there], chosen, request.flag("supervoxels"))


# -- raw -------------------------------------------------------------------------------------


async def get_volume(request: NodeRequest) -> Any:
    """Answer a box of voxels: GET raw or isotropic of shape 0_1_2."""
    box = parse.limit_voxels(parse.parse_box(*request.words[1:3]))
    compression = parse.parse_compression(request, parse.READ_COMPRESSIONS)
    scale = parse.parse_scale(request)
    parse.refuse_roi(request)
    if compression.startswith("google") and any(side % 8 for side in box.shape_zyx):
        raise InvalidRequest(f"compression={compression} needs sides that are multiples of 8")
    found = await request.in_thread(find_box, request, scale, box, request.flag("supervoxels"))
    request.finish()
    headers = {"Content-Encoding": "gzip"} if compression == "googlegzip" else {}
    answer = volume_reads.VolumeAnswer(found, box, compression)
    if answer.is_small:
        return octets(await request.in_thread(answer.whole), headers)
    return await send_parts(
        request, answer.parts(), headers, answer.length, answer.joiner()
    )


async def post_raw(request: NodeRequest) -> Any:
    """Write a box of whole blocks from its voxels, with indices and all lower scales."""
    words = parse.need_words(request, 3, f"{request.path} needs shape, size and offset")
    if parse.parse_shape(words[0]) != parse.VOLUME:
        raise InvalidRequest("only volumes can be written: the shape must be 0_1_2")
    shape = block_shape(request.instance)
    box = parse.limit_voxels(parse.need_aligned(parse.parse_box(words[1], words[2]), shape))
    compression = parse.parse_compression(request, ("", "none", "lz4", "gzip"))
    parse.refuse_roi(request)
    await ingest.post_volume(request, box, compression)
    return empty()


async def post_isotropic(request: NodeRequest) -> Any:
    """Refuse to write resampled voxels."""
    raise InvalidRequest("isotropic can only be read: write with POST raw")


# -- blocks ----------------------------------------------------------------------------------


async def get_blocks(request: NodeRequest) -> Any:
    """Stream the stored blocks of a box."""
    words = parse.need_words(request, 2, f"{request.path} needs size and offset")
    box = parse.need_aligned(parse.parse_box(words[0], words[1]), block_shape(request.instance))
    compression = parse.parse_compression(request, parse.BLOCK_COMPRESSIONS, "lz4")
    scale = parse.parse_scale(request)
    found = await request.in_thread(find_box, request, scale, box, request.flag("supervoxels"))
    return await _send_blocks(request, found, compression)


async def get_specific_blocks(request: NodeRequest) -> Any:
    """Stream the blocks of a list."""
    coords = parse.parse_block_list(request.args.get("blocks", ""))
    compression = parse.parse_compression(request, parse.BLOCK_COMPRESSIONS, "blocks")
    scale = parse.parse_scale(request)
    found = await request.in_thread(_find_list, request, scale, coords)
    return await _send_blocks(request, found, compression)


async def _send_blocks(request: NodeRequest, found: BlockSet, compression: str) -> Any:
    request.finish()
    if len(found) <= 1:
        return octets(await request.in_thread(found.stream, compression))
    if compression != "blocks" or len(found) > MEASURED_BLOCKS:
        return await send_parts(request, _block_parts(found, compression))
    # Fetching all first tells the length: without it each piece is copied once more, as a chunk.
    fetching = [(found.part(*span),) for span in spans(len(found), FETCHED_BLOCKS)]
    fetched = await in_threads(request, BlockSet.gzipped, fetching)
    parts = [part.stream for part in fetched]
    return await send_parts(request, parts, length=sum(part.length for part in fetched))


def _block_parts(found: BlockSet, compression: str) -> Iterator[Part]:
    size = STREAMED_BLOCKS if compression == "blocks" else 8
    for start, stop in spans(len(found), size):
        part = found.part(start, stop)
        yield partial(part.pieces, compression)


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


# -- points ----------------------------------------------------------------------------------


async def get_label(request: NodeRequest) -> Any:
    """Answer the label of one voxel."""
    words = parse.need_words(request, 1, f"{request.path} needs a point, such as 10_20_30")
    x, y, z = parse.parse_point(words[0], "point")
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
    return raw_json(f"[{','.join(map(str, labels.tolist()))}]")


async def _labels(request: NodeRequest, points: Any) -> Any:
    scale = parse.parse_scale(request)
    read = PointRead(points, block_shape(request.instance))
    coords = read.coords_zyx
    find = partial(blocks.find_list, request.txn, request.instance.id, scale, coords, request.view)
    found = find() if len(coords) < 64 else await request.in_thread(find)
    mapping = _mapping(request, request.flag("supervoxels"))
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
    "POST isotropic": post_isotropic,
    "GET blocks": get_blocks,
    "POST blocks": post_blocks,
    "GET specificblocks": get_specific_blocks,
    "POST ingest-supervoxels": post_ingest,
    "GET label": get_label,
    "* label": get_label,
    "GET labels": get_labels,
    "* labels": get_labels,
}

READS = frozenset({"POST label"})
