"""How posted voxels become a command: prepared side by side in threads, kept in packs, then queued."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.instance_settings import block_shape
from dvid_es.datatypes.labelmap.voxels import blocks, downres, prepare
from dvid_es.datatypes.labelmap.voxels.arriving import BLOCK_VOXELS, prepare_arriving
from dvid_es.datatypes.labelmap.voxels.commands import PutBlocks, SetExtents
from dvid_es.datatypes.labelmap.voxels.prepare import Prepared
from dvid_es.errors import VersionConflict
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.http.answers import in_threads, spans
from dvid_es.http.node import NodeRequest
from dvid_es.http.receive import Arriving, receive_whole
from dvid_es.logs.base import Packs
from dvid_es.projections import regions
from dvid_es.projections.regions import Region

Coords = NDArray[np.int32]

TASK_BLOCKS = 16
"""Blocks of one task."""

PUT_BLOCKS = 128
"""Blocks that one task puts into packs."""


async def choose_blocks(
    request: NodeRequest, box: Box, roi: str
) -> tuple[Coords, Coords, Region | None]:
    """Return the blocks of an aligned box and where they begin in it: those in a region, if one is named.

    Raises:
        InvalidRequest: there is no such region.
    """
    coords, places = prepare.block_places(box, block_shape(request.instance))
    if not roi:
        return coords, places, None
    region = await request.in_thread(regions.find, request.txn, roi, request.version_id)
    inside = region.mask(box).holds(coords)
    return coords[inside], places[inside], region


async def post_volume(request: NodeRequest, box: Box, compression: str, roi: str = "") -> None:
    """Write an aligned box from the voxels of a body; with a region, only its blocks.

    The extents grow by the whole box, also where the region has none of its blocks, as in DVID.

    Raises:
        InvalidRequest: the body does not have these voxels; nothing has changed.
    """
    instance = request.instance
    shape = block_shape(instance)
    extents = (*box.start_zyx[::-1], *box.max_xyz)
    counted = bool(instance.settings["IndexedLabels"])
    wanted = prepare.Wanted(counted=counted, kept=instance.settings["MaxDownresLevel"] > 0)
    as_it_comes = compression in ("", "none") and not roi and _fits(request.body, box, shape)
    if as_it_comes:
        coords, _ = prepare.block_places(box, shape)
        region = None
        prepared = await prepare_arriving(request, request.body, box.shape_zyx, shape, wanted)
    else:
        await receive_whole(request)
        coords, places, region = await choose_blocks(request, box, roi)
        volume = await request.in_thread(
            prepare.inflate_volume, request.body, compression, box.shape_zyx
        )
        if not len(coords):
            await request.write(SetExtents(extents=extents, grow=True))
            return
        tasks = [
            (volume, places[start:stop], shape, wanted)
            for start, stop in spans(len(coords), TASK_BLOCKS)
        ]
        prepared = _joined(await in_threads(request, prepare.prepare_boxes, tasks))
    await _write(
        request, 0, coords, prepared, counted=counted, downres=True, extents=extents, region=region
    )


def _fits(body: object, box: Box, shape_zyx: Triple) -> bool:
    """Say whether a body is not there yet, and is to be just the voxels of a box of usual blocks."""
    return (
        isinstance(body, Arriving)
        and len(body) == 8 * box.volume
        and math.prod(shape_zyx) in BLOCK_VOXELS
    )


async def post_stream(
    request: NodeRequest,
    scale: int,
    *,
    indexed: bool = False,
    downres: bool = False,
    stored_only: bool = False,
) -> None:
    """Write the blocks of a stream.

    Args:
        request: its body is DVID's stream of gzipped label blocks.
        scale: of the blocks; only those of scale 0 have indices, a maximum label and extents.
        indexed: whether the supervoxel index takes part.
        downres: whether lower scales follow.
        stored_only: ingestion: blocks alone, without a mutation id.

    Raises:
        InvalidRequest: a block is wrong; nothing has changed.
    """
    instance = request.instance
    shape = block_shape(instance)
    coords, payloads = await request.in_thread(prepare.split_stream, request.body)
    if not payloads:
        return
    counted = indexed and scale == 0 and bool(instance.settings["IndexedLabels"])
    kept = downres and instance.settings["MaxDownresLevel"] > 0
    wanted = prepare.Wanted(counted=counted, kept=kept)
    tasks = [
        (coords[start:stop], payloads[start:stop], shape, wanted)
        for start, stop in spans(len(coords), TASK_BLOCKS)
    ]
    prepared = _joined(await in_threads(request, prepare.prepare_payloads, tasks))
    chosen = prepare.newest(coords)
    coords = coords[chosen]
    prepared = [prepared[place] for place in chosen.tolist()]
    if scale or stored_only:
        await _write(request, scale, coords, prepared, plain=True, mutates=not stored_only)
        return
    side = np.array(shape)
    low, high = coords.min(axis=0) * side, (coords.max(axis=0) + 1) * side - 1
    extents = (*low[::-1].tolist(), *high[::-1].tolist())
    await _write(request, 0, coords, prepared, counted=counted, downres=downres, extents=extents)


async def _write(
    request: NodeRequest,
    scale: int,
    coords: Coords,
    prepared: Sequence[Prepared],
    *,
    counted: bool = False,
    downres: bool = False,
    extents: tuple[int, ...] = (),
    plain: bool = False,
    mutates: bool = True,
    region: Region | None = None,
) -> None:
    """Put prepared blocks into packs and have the command decided."""
    packs = request.stream.packs
    tasks = [(packs, prepared[start:stop]) for start, stop in spans(len(prepared), PUT_BLOCKS)]
    stored: list[Bulk] = _joined(await in_threads(request, put_stored, tasks))
    counts = b""
    if counted:
        counts = await request.in_thread(
            lambda: prepare.counts_bytes(prepare.join_counts(prepared))
        )
    coords_bytes = coords.astype("<i4").tobytes()
    coords_bulk, counts_bulk = await request.in_thread(_bulks, packs, [coords_bytes, counts])
    shape = block_shape(request.instance)
    levels = request.instance.settings["MaxDownresLevel"]
    if downres and levels:
        await derive_ahead(request, coords, prepared, stored, shape, levels)
    command = PutBlocks(
        scale=scale,
        coords=coords_bulk,
        blocks=tuple(stored),
        shape_zyx=shape,
        counts=counts_bulk,
        counted=counted,
        downres=downres,
        max_label=0 if plain else max(one.highest for one in prepared),
        extents=extents,
        mutates=mutates,
        region=region,
    )
    await request.write(command)


def put_stored(packs: Packs, prepared: Sequence[Prepared]) -> list[Bulk]:
    """Put the stored forms of blocks into packs, except small ones; return what the event holds."""
    return _bulks(packs, [one.stored for one in prepared])


def _bulks(packs: Packs, values: Sequence[bytes]) -> list[Bulk]:
    large = [value for value in values if len(value) > INLINE_BYTES_MAX]
    refs = iter(packs.put_many(large) if large else ())
    return [next(refs) if len(value) > INLINE_BYTES_MAX else value for value in values]


def _joined(lists: Sequence[list]) -> list:  # type: ignore[type-arg]
    return [item for items in lists for item in items]


async def derive_ahead(
    request: NodeRequest,
    coords: Coords,
    prepared: Sequence[Prepared],
    stored: Sequence[Bulk],
    shape_zyx: Triple,
    levels: int,
) -> None:
    """Make the lower scales now, side by side, for the fold of the event to find them."""
    txn, view, instance = request.txn, request.view, request.instance
    plans: list[downres.Parents] = []
    replaced: list[list[Bulk | None]] = []
    below = coords
    for scale in range(1, levels + 1):
        parents = downres.parents_of(below)
        previous: list[Bulk | None] = [None] * len(parents.coords_zyx)
        partial = np.flatnonzero(parents.partial)
        wanted = parents.coords_zyx[partial]
        try:
            found = await request.in_thread(blocks.find_list, txn, instance.id, scale, wanted, view)
        except VersionConflict:
            return  # this very write may settle it: the fold will see
        for place, block in zip(partial, found, strict=True):
            previous[place] = block
        plans.append(parents)
        replaced.append(previous)
        below = parents.coords_zyx
    request.finish()
    children = [one.block for one in prepared]
    digests = [downres.digest(block) for block in stored]
    for parents, previous in zip(plans, replaced, strict=True):
        maker = downres.Maker(request.stream.packs, shape_zyx, children, digests, parents, previous)
        made = await in_threads(request, maker.make, spans(len(previous), 4))
        results = _joined(made)
        children = [block for block, _ in results]
        digests = [digest for _, digest in results]
