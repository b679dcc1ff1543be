"""Requests to labelblks: voxels at one scale, written by boxes; edits come from a labelvol.

Source: datatype/labelblk/labelblk.go (janelia-flyem/dvid).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from dvid_es.datatypes.labelarray.editing import keep_bulk
from dvid_es.datatypes.labelblk.ahead import halve_ahead, has_halves
from dvid_es.datatypes.labelmap import endpoints_settings
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from dvid_es.datatypes.labelmap.voxels import endpoints_slices, ingest, prepare
from dvid_es.datatypes.labelmap.voxels import requests as parse
from dvid_es.datatypes.labelmap.voxels.commands import PutBlocks, SetExtents
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Box
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest, empty

Handler = Callable[[NodeRequest], Any]

BLOCK_COMPRESSIONS = ("lz4", "uncompressed")


def single_scale(handler: Handler) -> Handler:
    """Return a handler of labelmap's for an instance that has neither scales nor supervoxels."""

    @wraps(handler)
    def at_its_scale(request: NodeRequest) -> Any:
        for option in ("scale", "supervoxels"):
            request.args.pop(option, None)
        return handler(request)

    return at_its_scale


def get_blocks(request: NodeRequest) -> Any:
    """Stream the stored blocks of a box."""
    parse.parse_compression(request, BLOCK_COMPRESSIONS, "lz4")
    return endpoints_voxels.get_blocks(request)


async def refuse_blocks(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("blocks can only be read: write voxels with POST raw")


async def post_raw(request: NodeRequest) -> Any:
    """Write a box of whole blocks; the instances that listen follow."""
    words = parse.need_words(request, 3, f"{request.path} needs shape, size and offset")
    if parse.parse_shape(words[0]) != parse.VOLUME:
        raise InvalidRequest("only volumes can be written: the shape must be 0_1_2")
    shape = block_shape(request.instance)
    box = parse.limit_voxels(parse.need_aligned(parse.parse_box(words[1], words[2]), shape))
    compression = parse.parse_compression(request, ("", "none", "lz4", "gzip"))
    await _post_volume(request, box, compression, parse.parse_roi(request))
    return empty()


async def refuse_isotropic(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("isotropic can only be read: write voxels with POST raw")


async def _post_volume(request: NodeRequest, box: Box, compression: str, roi: str) -> None:
    """Prepare the blocks of a box side by side in threads, and have them written."""
    shape, packs = block_shape(request.instance), request.stream.packs
    coords, places, region = await ingest.choose_blocks(request, box, roi)
    extents = (*box.start_zyx[::-1], *box.max_xyz)
    inflate = prepare.inflate_volume
    volume = await request.in_thread(inflate, request.body, compression, box.shape_zyx)
    if not len(coords):
        await request.write(SetExtents(extents=extents, grow=True))
        return
    halves = has_halves(request, request.instance)
    wanted = prepare.Wanted(counted=True, kept=halves)

    def make(start: int, stop: int) -> list[tuple[Prepared, Bulk]]:
        made = prepare.prepare_boxes(volume, places[start:stop], shape, wanted)
        return list(zip(made, ingest.put_stored(packs, made), strict=True))

    parts = await in_threads(request, make, spans(len(coords), ingest.TASK_BLOCKS))
    pairs = [pair for part in parts for pair in part]
    prepared, stored = [one for one, _ in pairs], [bulk for _, bulk in pairs]

    def keep() -> list[Bulk]:
        counts = prepare.counts_bytes(prepare.join_counts(prepared))
        return [keep_bulk(request, value) for value in (coords.astype("<i4").tobytes(), counts)]

    coords_bulk, counts_bulk = await request.in_thread(keep)
    if halves:
        await halve_ahead(request, request.instance, coords, prepared, stored)
    await request.write(
        PutBlocks(
            scale=0,
            coords=coords_bulk,
            blocks=tuple(stored),
            shape_zyx=shape,
            counts=counts_bulk,
            extents=extents,
            region=region,
        )
    )


get_blocks.throttled = True  # type: ignore[attr-defined]
post_raw.takes_buffer = True  # type: ignore[attr-defined]
post_raw.throttled = True  # type: ignore[attr-defined]

_VOXELS = endpoints_voxels.ENDPOINTS
_SLICES = endpoints_slices.ENDPOINTS

ENDPOINTS = {
    "GET metadata": endpoints_settings.ENDPOINTS["GET metadata"],
    "POST resolution": endpoints_settings.ENDPOINTS["POST resolution"],
    **{key: single_scale(_SLICES[key]) for key in ("GET raw", "GET isotropic", "GET pseudocolor")},
    "* pseudocolor": _SLICES["* pseudocolor"],
    "* isotropic": refuse_isotropic,
    "POST raw": post_raw,
    "GET blocks": single_scale(get_blocks),
    "* blocks": refuse_blocks,
    **{key: single_scale(_VOXELS[key]) for key in ("GET label", "* label", "GET labels")},
    "* labels": _VOXELS["* labels"],
}
