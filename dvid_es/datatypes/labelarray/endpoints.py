"""Requests to labelarrays: those of a labelmap without its layer of supervoxels, and edits of their own.

Source: datatype/labelarray/labelarray.go (janelia-flyem/dvid).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import rle
from dvid_es.datatypes.labelarray import editing, maxlabel
from dvid_es.datatypes.labelarray.reads import LabelReads
from dvid_es.datatypes.labelmap import endpoints_settings
from dvid_es.datatypes.labelmap.bodies import counters
from dvid_es.datatypes.labelmap.bodies.requests import indexed, parse_label
from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.sparse import endpoints as endpoints_sparse
from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from dvid_es.datatypes.labelmap.voxels import endpoints_slices, ingest
from dvid_es.datatypes.labelmap.voxels import requests as parse
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.http.node import NodeRequest, empty, octets, raw_json

Handler = Callable[[NodeRequest], Any]

NO_RUNS = rle.legacy_header(0)


async def post_blocks(request: NodeRequest) -> Any:
    """Write a stream of gzipped label blocks; those of scale 0 are always indexed."""
    scale = parse.parse_scale(request)
    parse.parse_compression(request, ("blocks",), "blocks")
    downres = request.flag("downres")
    if downres and scale:
        raise InvalidRequest("downres=true needs scale 0: lower scales are made from it")
    await ingest.post_stream(request, scale, indexed=True, downres=downres)
    return empty()


post_blocks.takes_buffer = True  # type: ignore[attr-defined]
post_blocks.throttled = True  # type: ignore[attr-defined]


# -- labels ----------------------------------------------------------------------------------


async def get_sparsevol_size(request: NodeRequest) -> HTTPResponse:
    """Answer the blocks that cover a label; without any, the first block as if it did, as DVID."""
    label = parse_label(request)
    reads = LabelReads(request.txn, request.instance.id, request.view)
    shape = np.array(block_shape(request.instance), np.int64)

    def work() -> str:
        found = reads.chosen(label, False)
        blocks = np.zeros((0, 3), np.int32) if found is None else reads.blocks(*found)
        coords = blocks if len(blocks) else np.zeros((1, 3), np.int32)
        first = (coords.min(axis=0) * shape)[::-1].tolist()
        last = (coords.max(axis=0) * shape + shape - 1)[::-1].tolist()
        return f'{{"numblocks": {len(blocks)}, "minvoxel": {first}, "maxvoxel": {last}}}'

    return octets((await request.in_thread(work)).encode())


def found_only(handler: Handler) -> Handler:
    """Return a handler of labelmap's that answers 404 where there are no voxels, also within bounds."""

    @wraps(handler)
    async def checked(request: NodeRequest) -> Any:
        answer = await handler(request)
        if answer is not None and answer.body in (b"", NO_RUNS):
            raise NotFound("")
        return answer

    return checked


async def refuse_sparsevol(request: NodeRequest) -> Any:
    """Refuse to write sparse volumes."""
    raise InvalidRequest("sparse volumes can only be read: write voxels with POST raw")


@indexed
async def get_maxlabel(request: NodeRequest) -> HTTPResponse:
    """Answer the highest label written or made at this very version."""
    highest = maxlabel.own_max(request.txn, request.instance.id, request.view)
    if highest is None:
        raise InvalidRequest(
            f"No maximum label found for {request.instance.name} version {request.version.uuid}"
        )
    return raw_json(f'{{"maxlabel": {highest}}}')


@indexed
async def get_nextlabel(request: NodeRequest) -> HTTPResponse:
    """Answer the label that would be given out next."""
    common = counters.read_common(request.txn, request.instance.id)
    return raw_json(f'{{"nextlabel": {common.repo_max + 1}}}')


async def refuse_counters(request: NodeRequest) -> Any:
    """Refuse to set counters."""
    raise InvalidRequest("maxlabel and nextlabel can only be read: labels are given out by splits")


# -- edits -----------------------------------------------------------------------------------


def _derive(request: NodeRequest) -> editing.Derive | None:
    return editing.derive_scales if request.instance.settings["MaxDownresLevel"] else None


@indexed
async def post_merge(request: NodeRequest) -> HTTPResponse:
    """Merge labels: [target, label, label ...]."""
    await editing.merge(request, _derive(request))
    return empty()


@indexed
async def post_split(request: NodeRequest) -> HTTPResponse:
    """Give voxels of a label another label."""
    answer = await editing.split(
        request, parse_label(request), _derive(request), coarse=False, strict=False
    )
    return raw_json(answer)


@indexed
async def post_split_coarse(request: NodeRequest) -> HTTPResponse:
    """Give all voxels of a label in some blocks another label."""
    answer = await editing.split(
        request, parse_label(request), _derive(request), coarse=True, strict=False
    )
    return raw_json(answer)


async def refuse_edit(request: NodeRequest) -> Any:
    """Refuse other methods."""
    raise InvalidRequest("merges and splits can only be POSTed")


COUNTERS = {
    "GET maxlabel": get_maxlabel,
    "* maxlabel": refuse_counters,
    "GET nextlabel": get_nextlabel,
    "* nextlabel": refuse_counters,
}

EDITS_REFUSED = {
    "* merge": refuse_edit,
    "* split": refuse_edit,
    "* split-coarse": refuse_edit,
}

_VOXELS = (
    "POST raw",
    "GET blocks",
    "GET specificblocks",
    "GET label",
    "* label",
    "GET labels",
    "* labels",
)
_SPARSE = ("GET sparsevol", "GET sparsevol-by-point", "GET sparsevol-coarse")
_SLICES = ("GET raw", "GET isotropic", "GET pseudocolor", "* pseudocolor")
_SETTINGS = ("GET metadata", "POST resolution")

ENDPOINTS = {
    **{key: endpoints_settings.ENDPOINTS[key] for key in _SETTINGS},
    **{key: endpoints_voxels.ENDPOINTS[key] for key in _VOXELS},
    **{key: endpoints_slices.ENDPOINTS[key] for key in _SLICES},
    **{key: found_only(endpoints_sparse.ENDPOINTS[key]) for key in _SPARSE},
    "HEAD sparsevol": endpoints_sparse.ENDPOINTS["HEAD sparsevol"],
    "GET sparsevols-coarse": endpoints_sparse.ENDPOINTS["GET sparsevols-coarse"],
    "POST blocks": post_blocks,
    "* sparsevol": refuse_sparsevol,
    "GET sparsevol-size": get_sparsevol_size,
    "POST merge": post_merge,
    "POST split": post_split,
    "POST split-coarse": post_split_coarse,
    **EDITS_REFUSED,
    **COUNTERS,
}
