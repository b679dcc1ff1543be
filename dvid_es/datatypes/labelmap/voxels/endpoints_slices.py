"""Requests for pictures of slices, and for the distances of two bodies."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import images
from dvid_es.datatypes.labelmap.bodies.requests import reads_of
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.sparse import proximity
from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from dvid_es.datatypes.labelmap.voxels import requests as parse
from dvid_es.datatypes.labelmap.voxels import slices
from dvid_es.datatypes.labelmap.voxels.slices import Slice
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.answers import T, in_threads, spans
from dvid_es.http.node import NodeRequest, raw_json

_USAGE = "must be followed by shape/size/offset"

WAVE_TASKS = 4
"""Tasks of one request at a time: those of others come between, however large it is."""

Paint = Callable[[Any], Any]
"""Makes pixels of labels."""


def get_raw(request: NodeRequest) -> Any:
    """Answer voxels: a box, or a picture of a slice that carries the labels."""
    words = parse.need_words(request, 3, f"raw {_USAGE}")
    plane = parse.parse_shape(words[0])
    if plane == parse.VOLUME:
        return _answer_volume(request)
    wanted = slices.parse_slice(plane, words[1], words[2])
    return _send_picture(request, wanted, slices.label_pixels, request.flag("supervoxels"))


def get_isotropic(request: NodeRequest) -> Any:
    """Answer a picture with square pixels; three dimensions are not resampled."""
    words = parse.need_words(request, 3, f"isotropic {_USAGE}")
    plane = parse.parse_shape(words[0])
    if plane == parse.VOLUME:
        return _answer_volume(request)
    voxel_size = request.instance.settings["VoxelSize"]
    wanted = slices.parse_slice(plane, words[1], words[2], voxel_size)
    return _send_picture(request, wanted, slices.label_pixels, request.flag("supervoxels"))


get_raw.quick = True  # type: ignore[attr-defined]


async def get_pseudocolor(request: NodeRequest) -> Any:
    """Answer a picture with a colour for each body."""
    words = parse.need_words(request, 3, f"pseudocolor {_USAGE}")
    plane = parse.parse_shape(words[0])
    if plane == parse.VOLUME:
        raise InvalidRequest("pseudocolor makes pictures: the shape must be xy, xz or yz")
    wanted = slices.parse_slice(plane, words[1], words[2])
    return await _send_picture(request, wanted, slices.colour_pixels, False)


async def refuse_pseudocolor(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("pseudocolor can only be read: write voxels with POST raw")


def _answer_volume(request: NodeRequest) -> Any:
    """Answer a box of voxels, which can be throttled; pictures never wait, as in DVID."""
    if request.args.get("throttle") in ("on", "true"):
        return _throttled_volume(request)
    return endpoints_voxels.get_volume(request)


async def _throttled_volume(request: NodeRequest) -> Any:
    with request.server.monitor.throttle():
        return await endpoints_voxels.get_volume(request)


async def _in_waves(
    request: NodeRequest, work: Callable[..., T], tasks: list[tuple[Any, ...]]
) -> list[T]:
    """Run tasks as `in_threads` does, a few at a time."""
    results: list[T] = []
    for start, stop in spans(len(tasks), WAVE_TASKS):
        results += await in_threads(request, work, tasks[start:stop])
    return results


async def _send_picture(
    request: NodeRequest, wanted: Slice, paint: Paint, supervoxels: bool
) -> HTTPResponse:
    """Answer the picture of a slice in the format at the end of the path."""
    form = images.parse_format(request.words[3] if len(request.words) > 3 else "")
    width = wanted.shape[1] if wanted.columns is None else len(wanted.columns)
    height = wanted.shape[0] if wanted.rows is None else len(wanted.rows)
    images.check_size(width, height, form)
    scale = parse.parse_scale(request)
    roi = parse.parse_roi(request, scale)
    found = await request.in_thread(
        endpoints_voxels.find_box, request, scale, wanted.box, supervoxels, roi
    )
    request.finish()
    voxels = np.zeros(wanted.box.shape_zyx, np.uint64)
    tasks = [
        (found, start, stop, wanted.box, voxels)
        for start, stop in spans(len(found), slices.TASK_BLOCKS)
    ]
    await _in_waves(request, slices.paste, tasks)

    def encode() -> bytes:
        return images.encode(paint(slices.labels_shown(wanted, voxels)), form)

    return HTTPResponse(await request.in_thread(encode), 200, content_type=form.content_type)


async def get_proximity(request: NodeRequest) -> Any:
    """Answer how near two bodies come to each other in each block that has voxels of both."""
    first, second = proximity.parse_pair(request.words)
    reads = reads_of(request)
    shape = block_shape(request.instance)
    plan = await request.in_thread(proximity.plan, reads, first, second, shape)
    request.finish()
    if plan is None:
        raise NotFound("")
    packs = request.stream.packs
    tasks = [
        (plan, packs, start, stop)
        for start, stop in spans(len(plan.coords_zyx), proximity.TASK_BLOCKS)
    ]
    found = await _in_waves(request, proximity.distances, tasks)
    return raw_json(proximity.to_json([one for part in found for one in part]))


get_proximity.throttled = True  # type: ignore[attr-defined]

ENDPOINTS = {
    "GET raw": get_raw,
    "GET isotropic": get_isotropic,
    "GET pseudocolor": get_pseudocolor,
    "* pseudocolor": refuse_pseudocolor,
    "GET proximity": get_proximity,
}
