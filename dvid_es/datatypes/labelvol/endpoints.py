"""Requests to labelvols: sparse volumes and edits of labels.

Source: datatype/labelvol/labelvol.go (janelia-flyem/dvid).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import labelblock, rle
from dvid_es.codecs.compression import gzip_compress, lz4_block_compress
from dvid_es.datatypes.labelarray import editing, edits, requests
from dvid_es.datatypes.labelarray import endpoints as endpoints_labelarray
from dvid_es.datatypes.labelarray.edits import Coords, Found, Places
from dvid_es.datatypes.labelblk.ahead import halve_ahead, has_halves
from dvid_es.datatypes.labelblk.following import UNVERSIONED, listeners
from dvid_es.datatypes.labelmap.bodies.requests import parse_label
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.sparse import endpoints as endpoints_sparse
from dvid_es.datatypes.labelmap.voxels import blocks, prepare
from dvid_es.datatypes.labelmap.voxels import requests as parse
from dvid_es.datatypes.labelvol.commands import DeleteArea, Resync, find_area
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.geometry import Triple
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest, empty, octets, raw_json
from dvid_es.http.wire import parse_point
from dvid_es.projections.catalog import Instance
from dvid_es.versions import View

Handler = Callable[[NodeRequest], Any]

BOUNDS = tuple(side + axis for side in ("min", "max") for axis in "xyz")
BOUNDS_XY = tuple(name for name in BOUNDS if not name.endswith("z"))
LABELMAPS = ("format", "scale", "supervoxels")
"""Options of labelmap's that mean nothing here."""

RESYNC_BLOCKS_MAX = 1 << 18
"""Most blocks of one resync."""


def without(handler: Handler, *options: str) -> Handler:
    """Return a handler of labelmap's that does not see some options of a request."""

    @wraps(handler)
    async def plain(request: NodeRequest) -> Any:
        for option in options:
            request.args.pop(option, None)
        return await handler(request)

    return plain


# -- sparse volumes --------------------------------------------------------------------------


_NO_RUNS = {
    "": rle.legacy_header(0),
    "lz4": lz4_block_compress(rle.legacy_header(0)),
    "gzip": gzip_compress(rle.legacy_header(0)),
}
_send_sparsevol = without(endpoints_sparse.get_sparsevol, *LABELMAPS)


async def get_sparsevol(request: NodeRequest) -> Any:
    """Answer the voxels of a label as runs; no runs if bounds of x and y exclude all of them."""
    compression = parse.parse_compression(request, ("", "lz4", "gzip"))
    try:
        answer = await _send_sparsevol(request)
        if answer.body:
            return answer
    except NotFound:
        if (await without(head_sparsevol, *BOUNDS_XY)(request)).status == 204:
            raise
    return octets(_NO_RUNS[compression])


async def get_sparsevol_by_point(request: NodeRequest) -> Any:
    """Answer the voxels of the label that the labelblk has at a point."""
    words = parse.need_words(request, 1, f"{request.path} needs a point, such as 10_20_30")
    x, y, z = parse_point(words[0], "point")
    source, view = synced_labelblk(request)
    sides = block_shape(source)
    place: Triple = (z // sides[0], y // sides[1], x // sides[2])
    prepare.check_coords(np.array([place]))
    stored = blocks.read_block(request.txn, source.id, 0, place, view)
    inside = (z % sides[0], y % sides[1], x % sides[2])
    label = 0
    if stored is not None:
        label = labelblock.label_at(edits.load(request.stream.packs, stored, sides), *inside)
    if label == 0:
        raise InvalidRequest(f"label 0 (background) is at {words[0]}: it has no sparse volume")
    request.words = [str(label)]
    return await without(_send_sparsevol, *BOUNDS, "compression", "exact")(request)


def synced_labelblk(request: NodeRequest) -> tuple[Instance, View]:
    """Return the labelblk that a labelvol listens to, and what the request sees of it.

    Raises:
        InvalidRequest: there is none.
    """
    for number in request.instance.syncs:
        found = request.txn.repo.instances[number]
        if found.typename == "labelblk" and not found.deleted:
            version = request.version.id if found.versioned else UNVERSIONED
            return found, request.txn.view(version)
    raise InvalidRequest(
        f'data "{request.instance.name}" listens to no labelblk: POST sync with its name first'
    )


# -- edits -----------------------------------------------------------------------------------


def _derive(request: NodeRequest) -> editing.Derive | None:
    """Return what makes the blocks of coarser labelblks, if the edit reaches any."""
    for labelblk in listeners(request.repo, request.instance.id, "labelblk"):
        if has_halves(request, labelblk):
            return _halves_of(labelblk)
    return None


def _halves_of(labelblk: Instance) -> editing.Derive:
    async def derive(request: NodeRequest, *blocks_made: Any) -> None:
        await halve_ahead(request, labelblk, *blocks_made)

    return derive


async def post_merge(request: NodeRequest) -> HTTPResponse:
    """Merge labels: [target, label, label ...]."""
    await editing.merge(request, _derive(request))
    return empty()


async def post_split(request: NodeRequest) -> HTTPResponse:
    """Give voxels of a label another label."""
    answer = await editing.split(
        request, parse_label(request), _derive(request), coarse=False, strict=True
    )
    return raw_json(answer)


async def post_split_coarse(request: NodeRequest) -> HTTPResponse:
    """Give all voxels of a label in some blocks another label."""
    answer = await editing.split(
        request, parse_label(request), _derive(request), coarse=True, strict=True
    )
    return raw_json(answer)


async def delete_area(request: NodeRequest) -> HTTPResponse:
    """Drop the runs of a label in a box of blocks."""
    words = parse.need_words(request, 3, f"{request.path} needs a label, a size and an offset")
    label = parse_label(request)
    shape = block_shape(request.instance)
    area = parse.need_aligned(parse.parse_box(words[1], words[2]), shape).blocks(shape)

    async def make(_: int) -> DeleteArea:
        txn, view, instance_id = request.txn, request.view, request.instance.id
        found = await request.in_thread(find_area, txn, instance_id, view, label, area)
        gone = edits.Relabel(np.array([label], np.uint64), 0)
        made = await editing.rewrite(request, found, gone)
        return DeleteArea(label=label, area=area, made=made)

    await editing.write_edit(request, make)
    return empty()


async def refuse_area(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("area can only be DELETEd")


async def post_resync(request: NodeRequest) -> HTTPResponse:
    """Make the runs of a label in some blocks again from the voxels of the labelblk."""
    label = parse_label(request)
    runs = await request.in_thread(requests.parse_runs, request.body, True)
    if runs.covered > RESYNC_BLOCKS_MAX:
        raise InvalidRequest(
            f"{runs.covered} blocks cannot be resynced at once: send at most {RESYNC_BLOCKS_MAX}"
        )
    asked = await request.in_thread(requests.expanded, runs.ordered)
    prepare.check_coords(asked)

    async def make(_: int) -> Resync:
        return await _prepare_resync(request, label, asked)

    await editing.write_edit(request, make)
    return empty()


async def _prepare_resync(request: NodeRequest, label: int, asked: Coords) -> Resync:
    """Return the command for those blocks in which either instance has the label."""
    source, source_view = synced_labelblk(request)
    shape, packs = block_shape(request.instance), request.stream.packs
    if block_shape(source) != shape:
        raise InvalidRequest(f'data "{source.name}" has blocks of another size')
    txn, instance_id, view = request.txn, request.instance.id, request.view
    find = edits.find_blocks
    theirs = await request.in_thread(find, txn, source.id, source_view, asked)
    own = await request.in_thread(find, txn, instance_id, view, asked)

    def concerned(start: int, stop: int) -> list[int]:
        return [
            place
            for place in range(start, stop)
            if any(
                label in labelblock.table(edits.load(packs, stored, shape))
                for stored in (theirs.stored[place], own.stored[place])
            )
        ]

    tasks = spans(len(asked), editing.TASK_BLOCKS)
    places = [place for part in await in_threads(request, concerned, tasks) for place in part]
    voxels, found = (
        Found(asked[places], [blocks_of.stored[place] for place in places])
        for blocks_of in (theirs, own)
    )
    source_blocks = dict(zip(map(tuple, voxels.coords_zyx.tolist()), voxels.stored, strict=True))

    def resync(block: bytes, block_zyx: Places) -> bytes:
        z, y, x = block_zyx
        volume = labelblock.decode(block)
        there = labelblock.decode(edits.load(packs, source_blocks[z, y, x], shape)) == label
        volume[volume == label] = 0
        volume[there] = label
        return labelblock.encode(volume)

    made = await editing.rewrite(request, found, resync)
    return Resync(
        label=label, source=source.id, source_version=source_view.version, voxels=voxels, made=made
    )


async def refuse_resync(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("resync requests must be POSTed")


async def head_sparsevol(request: NodeRequest) -> Any:
    """Answer whether there are voxels: 200 or 204."""
    return await without(endpoints_sparse.head_sparsevol, *LABELMAPS)(request)


async def get_sparsevol_coarse(request: NodeRequest) -> Any:
    """Answer the blocks of a label as runs."""
    handler = endpoints_sparse.get_sparsevol_coarse
    return await without(handler, *LABELMAPS, *BOUNDS)(request)


ENDPOINTS = {
    "GET sparsevol": get_sparsevol,
    "HEAD sparsevol": head_sparsevol,
    "* sparsevol": endpoints_labelarray.refuse_sparsevol,
    "GET sparsevol-by-point": get_sparsevol_by_point,
    "GET sparsevol-coarse": get_sparsevol_coarse,
    "POST merge": post_merge,
    "POST split": post_split,
    "POST split-coarse": post_split_coarse,
    "DELETE area": delete_area,
    "* area": refuse_area,
    "POST resync": post_resync,
    "* resync": refuse_resync,
    **endpoints_labelarray.EDITS_REFUSED,
    **endpoints_labelarray.COUNTERS,
}
