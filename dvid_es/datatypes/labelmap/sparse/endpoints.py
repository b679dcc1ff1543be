"""Requests for sparse volumes of bodies and supervoxels.

Source: handleSparsevol and its kin in datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import asyncio
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import labelblock, rle, storedblock
from dvid_es.codecs.compression import gzip_compress, lz4_block_compress
from dvid_es.datatypes.labelmap.bodies.requests import (
    indexed,
    parse_label,
    reads_of,
)
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.sparse import volumes as sparse
from dvid_es.datatypes.labelmap.sparse.volumes import Plan
from dvid_es.datatypes.labelmap.voxels import blocks
from dvid_es.datatypes.labelmap.voxels.requests import need_words, parse_scale
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.answers import (
    Buffer,
    in_threads,
    send_whole,
    spans,
)
from dvid_es.http.budget import Share
from dvid_es.http.node import NodeRequest, octets, raw_json
from dvid_es.http.wire import parse_point

BLOCK_BYTES = 32 << 10
"""Bytes that the runs of a body take in one block, about, until more is known."""

GROUPS_AT_ONCE = 2
"""Groups of blocks whose runs are made side by side."""


def _plan(
    request: NodeRequest, label: int, supervoxel: bool, scale: int, fetch: bool
) -> Plan | None:
    return sparse.plan(
        reads_of(request),
        label,
        supervoxel=supervoxel,
        scale=scale,
        bounds=sparse.parse_bounds(request.args),
        shape_zyx=block_shape(request.instance),
        fetch=fetch,
    )


@indexed
async def get_sparsevol(request: NodeRequest) -> Any:
    """Answer the voxels of a body."""
    return await _send_sparsevol(request, parse_label(request), request.flag("supervoxels"))


async def _send_sparsevol(request: NodeRequest, label: int, supervoxel: bool) -> Any:
    form = request.args.get("format", "rles")
    scale = parse_scale(request)
    compression = request.args.get("compression", "")
    if form not in ("srles", "blocks") and compression not in ("", "lz4", "gzip"):
        raise InvalidRequest(f'unknown compression "{compression}": use lz4 or gzip')
    plan = await request.in_thread(_plan, request, label, supervoxel, scale, True)
    request.finish()
    if plan is None:
        raise NotFound("")
    async with request.memory(len(plan.coords_zyx) * BLOCK_BYTES) as share:
        if form == "blocks":
            body = await _binary_blocks(request, plan)
            await share.resize(len(body))
            return await send_whole(request, body)
        exact = request.args.get("exact") != "false"
        pieces = await _ordered_runs(request, plan, share, exact)
        buffers = await request.in_thread(_encode, pieces, form, compression)
        return await send_whole(request, *buffers)


async def _binary_blocks(request: NodeRequest, plan: Plan) -> bytes:
    packs = request.stream.packs
    parts = [part for group in sparse.groups_of(plan) for part in group]
    masks = await in_threads(request, sparse.binary_blocks_of, ((p, packs) for p in parts))
    body = b"".join(masks)
    return rle.binary_header(plan.shape_zyx, plan.label) + body if body else b""


async def _ordered_runs(
    request: NodeRequest, plan: Plan, share: Share, exact: bool
) -> list[rle.Runs]:
    """Return runs in ZYX order, in pieces that follow each other.

    A few groups at a time: before they are ordered and joined, runs take several times as much.
    """
    packs = request.stream.packs

    async def ordered(group: list[Plan]) -> rle.Runs:
        tasks = [(part, packs, exact, len(group) == 1) for part in group]
        return await request.in_thread(_joined, await in_threads(request, sparse.runs_of, tasks))

    pieces: list[rle.Runs] = []
    groups = sparse.groups_of(plan)
    for first, last in spans(len(groups), GROUPS_AT_ONCE):
        running = [asyncio.ensure_future(ordered(group)) for group in groups[first:last]]
        for found in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found
            pieces.append(found)
        # The rest is expected to be like what is there.
        made = sum(piece.nbytes for piece in pieces)
        await share.resize(made * len(groups) // last)
    return pieces


def _joined(made: list[rle.Runs]) -> rle.Runs:
    runs = rle.sort_runs(made) if len(made) > 1 else made[0]
    # What was joined leaves room at the end, which would be kept for as long as the answer.
    return runs if runs.base is None else runs.copy()


def _encode(pieces: list[rle.Runs], form: str, compression: str) -> list[Buffer]:
    count = sum(map(len, pieces))
    if not count:
        return [b""]
    buffers = [
        memoryview(np.ascontiguousarray(piece, "<i4")).cast("B") for piece in pieces if len(piece)
    ]
    if form == "srles":
        return [*buffers]
    whole: list[Buffer] = [rle.legacy_header(count), *buffers]
    if compression == "lz4":
        return [lz4_block_compress(b"".join(whole))]
    return [gzip_compress(b"".join(whole))] if compression == "gzip" else whole


@indexed
async def head_sparsevol(request: NodeRequest) -> HTTPResponse:
    """Answer whether there are voxels: 200 or 204. Of a supervoxel, its whole body is meant."""
    label, scale = parse_label(request), parse_scale(request)
    if request.flag("supervoxels"):
        label = reads_of(request).body_of(label)
    plan = await request.in_thread(_plan, request, label, False, scale, False)
    status = 204 if plan is None else 200
    return HTTPResponse(b"", status, {"content-type": "text/html"})


@indexed
async def get_sparsevol_by_point(request: NodeRequest) -> Any:
    """Answer the voxels of the body at a point."""
    words = need_words(request, 1, f"{request.path} needs a point, such as 10_20_30")
    x, y, z = parse_point(words[0], "point")
    sz, sy, sx = block_shape(request.instance)
    place, inside = (z // sz, y // sy, x // sx), (z % sz, y % sy, x % sx)
    reads = reads_of(request)
    stored = blocks.read_block(
        reads.txn, reads.instance_id, parse_scale(request), place, reads.view
    )
    label = 0 if stored is None else labelblock.label_at(storedblock.load(stored), *inside)
    supervoxel = request.flag("supervoxels")
    if not supervoxel:
        label = int(reads.mapping().map(np.array([label], np.uint64))[0])
    if label == 0:
        raise InvalidRequest(f"label 0 (background) is at {words[0]}: it has no sparse volume")
    return await _send_sparsevol(request, label, supervoxel)


@indexed
async def get_sparsevol_coarse(request: NodeRequest) -> Any:
    """Answer the blocks of a body as runs."""
    label = parse_label(request)
    reads = reads_of(request)
    bounds = sparse.parse_bounds(request.args)
    shape = block_shape(request.instance)

    def work() -> bytes | None:
        found = reads.chosen(label, request.flag("supervoxels"))
        if found is None:
            return None
        coords = bounds.select(reads.blocks(*found), shape)
        return rle.encode_legacy(rle.runs_of_points(coords))

    data = await request.in_thread(work)
    if data is None:
        raise NotFound("")
    return octets(data)


async def get_sparsevols_coarse(request: NodeRequest) -> Any:
    """Answer the blocks of all bodies of a range of labels."""
    words = need_words(request, 2, f"{request.path} needs a first and a last label")
    first, last = (parse_label(request, place) for place in range(len(words[:2])))
    reads = reads_of(request)
    bounds = sparse.parse_bounds(request.args)
    shape = block_shape(request.instance)

    def work() -> bytes:
        pieces = []
        for key, _ in reads.listed(first, 1 << 62):
            label = int.from_bytes(key, "big")
            if label > last:
                break
            found = reads.chosen(label, False)
            if found is not None:
                coords = bounds.select(reads.blocks(*found), shape)
                runs = rle.runs_of_points(coords)
                head = label.to_bytes(8, "little") + len(runs).to_bytes(4, "little")
                pieces.append(head + rle.encode_runs(runs))
        return b"".join(pieces)

    return octets(await request.in_thread(work))


async def get_sparsevol_size(request: NodeRequest) -> Any:
    """Answer voxels and covering blocks of a body."""
    label = parse_label(request)
    reads = reads_of(request)
    shape = np.array(block_shape(request.instance), np.int64)

    def work() -> str | None:
        found = reads.chosen(label, request.flag("supervoxels"))
        if found is None:
            return None
        coords = reads.blocks(*found)
        size = reads.size(label, request.flag("supervoxels"))
        if not len(coords) or not size:
            return None
        first = (coords.min(axis=0) * shape)[::-1].tolist()
        last = (coords.max(axis=0) * shape + shape - 1)[::-1].tolist()
        return (
            f'{{"voxels": {size}, "numblocks": {len(coords)}, "minvoxel": {first},'
            f' "maxvoxel": {last}}}'
        )

    text = await request.in_thread(work)
    if text is None:
        raise NotFound("")
    return raw_json(text)


ENDPOINTS = {
    "GET sparsevol": get_sparsevol,
    "HEAD sparsevol": head_sparsevol,
    "GET sparsevol-by-point": get_sparsevol_by_point,
    "GET sparsevol-coarse": get_sparsevol_coarse,
    "GET sparsevols-coarse": get_sparsevols_coarse,
    "GET sparsevol-size": get_sparsevol_size,
}
