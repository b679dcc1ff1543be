"""Requests for voxels: volumes, slices and blocks, read and written."""

from functools import partial
from typing import Any

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.codecs import images
from dvid_es.codecs.images import Format, Pixels
from dvid_es.datatypes.imageblk import arbitrary, prepare
from dvid_es.datatypes.imageblk import requests as parse
from dvid_es.datatypes.imageblk.commands import PutBlocks
from dvid_es.datatypes.imageblk.pixels import in_format, stretched
from dvid_es.datatypes.imageblk.reads import Coords, Found
from dvid_es.datatypes.imageblk.streams import COMPRESSIONS, BlockRow, BlockStream
from dvid_es.datatypes.imageblk.volumes import VolumeAnswer, picture
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.geometry import Box
from dvid_es.http import slices
from dvid_es.http.answers import AHEAD, in_threads, send_parts, send_whole, spans
from dvid_es.http.node import PIECE_BYTES, NodeRequest, empty, octets
from dvid_es.http.shapes import VOLUME, need_aligned, need_words, parse_box, parse_shape
from dvid_es.http.slices import Slice
from dvid_es.http.wire import parse_point, parse_signed
from dvid_es.projections.regions import Region

TASK_BLOCKS = 32
"""Blocks that one task stores or shows."""

TASK_BYTES = 8 << 20
"""Voxels that one task stores: fewer blocks if they are large."""

WAVE_TASKS = 4
"""Tasks of one picture at a time: those of others come between, however large it is."""

QUICK_BLOCKS = 8
"""Boxes of up to so many blocks may be answered on the event loop."""

_RAW_USAGE = "must be followed by shape/size/offset"
_BLOCKS_USAGE = '"blocks" must be followed by block-coord/span-x'


# -- raw -------------------------------------------------------------------------------------


def get_raw(request: NodeRequest) -> Any:
    """Answer voxels: a box of them, or a picture of a slice."""
    words = need_words(request, 3, f'"raw" {_RAW_USAGE}')
    plane = parse_shape(words[0])
    parse.parse_attenuation(request)
    if plane == VOLUME:
        return _get_volume(request)
    return _send_picture(request, slices.parse_slice(plane, words[1], words[2]))


async def get_isotropic(request: NodeRequest) -> Any:
    """Answer a picture with square pixels; three dimensions are not resampled."""
    words = need_words(request, 3, f'"isotropic" {_RAW_USAGE}')
    plane = parse_shape(words[0])
    parse.parse_attenuation(request)
    if plane == VOLUME:
        return await _throttled_volume(request)
    sizes = request.instance.settings["VoxelSize"]
    return await _send_picture(request, slices.parse_slice(plane, words[1], words[2], sizes))


def _get_volume(request: NodeRequest) -> Any:
    """Answer a small box at once, if that is all there is to do, else in threads."""
    quick = (
        request.args.get("throttle") not in ("on", "true")
        and len(request.words) < 4
        and request.server.monitor.active <= 1
        and "roi" not in request.args
    )
    if quick:
        layout = parse.layout_of(request)
        box = parse_box(*request.words[1:3])
        few = box.blocks(layout.shape_zyx).volume <= QUICK_BLOCKS
        if few and layout.dtype.itemsize * box.volume <= PIECE_BYTES and request.view.linear:
            found = parse.find_box(request, box)
            if sum(found.lengths) <= PIECE_BYTES and layout.form in ("lz4", "none"):
                return octets(bytes(VolumeAnswer(found, box).whole()))
    return _throttled_volume(request)


async def _throttled_volume(request: NodeRequest) -> Any:
    """Answer a box, which can be throttled; pictures of slices never wait."""
    if request.args.get("throttle") in ("on", "true"):
        with request.server.monitor.throttle():
            return await _send_volume(request)
    return await _send_volume(request)


async def _send_volume(request: NodeRequest) -> Any:
    box = parse_box(*request.words[1:3])
    parse.limit_bytes(box.volume, parse.layout_of(request))
    # Of the formats, DVID knows only these here, and no quality.
    form = Format("image/jpeg") if request.words[3:4] in (["jpg"], ["jpeg"]) else None
    if form is not None:
        z, y, x = box.shape_zyx
        _check_picture(x, z * y, form)
    found = await request.in_thread(parse.find_box, request, box)
    request.finish()
    answer = VolumeAnswer(found, box)
    if form is not None:
        async with request.memory(2 * answer.length):
            body = await request.in_thread(picture, found, box, form)
        return HTTPResponse(body, 200, content_type=form.content_type)
    if answer.is_small:
        return await send_whole(request, await request.in_thread(answer.whole))
    async with request.memory(answer.memory_bytes):
        return await send_parts(
            request, answer.parts(), length=answer.length, ahead_max=answer.ahead_max
        )


def _check_picture(width: int, height: int, form: Format) -> None:
    images.check_size(width, height, form)
    if width * height > slices.PIXELS_MAX:
        raise InvalidRequest(
            f"a picture has at most {slices.PIXELS_MAX} pixels, not {width} x {height}: ask in parts"
        )


async def _send_picture(request: NodeRequest, wanted: Slice) -> HTTPResponse:
    """Answer the picture of a slice in the format at the end of the path."""
    form = images.parse_format(request.words[3] if len(request.words) > 3 else "")
    images.check_size(wanted.width, wanted.height, form)
    found = await request.in_thread(parse.find_box, request, wanted.box)
    request.finish()
    layout = found.layout
    async with request.memory(2 * layout.dtype.itemsize * wanted.width * wanted.height):
        voxels = np.zeros(wanted.box.shape_zyx, layout.dtype)
        tasks = [
            (found, start, stop, wanted.box, voxels)
            for start, stop in spans(len(found), TASK_BLOCKS)
        ]
        for start, stop in spans(len(tasks), WAVE_TASKS):
            await in_threads(request, _paste, tasks[start:stop])

        def encode() -> bytes:
            seen = voxels.reshape(wanted.shape)
            shown = stretched(seen, layout, wanted.height, wanted.width)
            return images.encode(in_format(shown, form), form)

        body = await request.in_thread(encode)
    return HTTPResponse(body, 200, content_type=form.content_type)


def _paste(found: Found, start: int, stop: int, box: Box, out: Any) -> None:
    found.part(start, stop).paste(box, out)


async def get_arb(request: NodeRequest) -> Any:
    """Answer a picture of a plane of any orientation."""
    usage = '"arb" must be followed by top-left/top-right/bottom-left/res'
    words = need_words(request, 4, usage)
    layout = parse.layout_of(request)
    plane = arbitrary.parse_plane(words, request.instance.settings["VoxelSize"])
    form = images.parse_format(words[4] if len(words) > 4 else "")
    images.check_size(plane.width, plane.height, form)
    arbitrary.check_kind(layout)
    coords = await request.in_thread(arbitrary.blocks_of, plane, layout)
    found = await request.in_thread(parse.find_list, request, coords)
    request.finish()
    pixels_count = plane.height * plane.width
    channels = (4,) if layout.channels > 1 else ()
    async with request.memory(2 * layout.dtype.itemsize * pixels_count):
        pixels: Pixels = np.empty((pixels_count, *channels), np.uint8 if channels else layout.dtype)
        tasks = [(plane, found, start, stop, pixels) for start, stop in plane.parts()]
        for start, stop in spans(len(tasks), WAVE_TASKS):
            await in_threads(request, arbitrary.paint, tasks[start:stop])
        shaped = pixels.reshape(plane.height, plane.width, *channels)
        body = await request.in_thread(lambda: images.encode(in_format(shaped, form), form))
    return HTTPResponse(body, 200, content_type=form.content_type)


# -- blocks ----------------------------------------------------------------------------------


async def get_subvolblocks(request: NodeRequest) -> Any:
    """Stream the stored blocks of a box."""
    words = need_words(request, 2, '"subvolblocks" must be followed by size/offset')
    shape = parse.layout_of(request).shape_zyx
    box = need_aligned(parse_box(words[0], words[1], smallest=0), shape)
    compression = _compression(request)
    if not box.volume:
        return octets(b"")
    found = await request.in_thread(parse.find_blocks, request, box.blocks(shape))
    return await _send_stream(request, found, compression)


async def get_specific_blocks(request: NodeRequest) -> Any:
    """Stream the blocks of a list; with prefetch nothing, as all is at hand here."""
    coords = await request.in_thread(parse.parse_block_list, request.args.get("blocks", ""))
    compression = _compression(request)
    if request.args.get("prefetch") in ("on", "true"):
        return octets(b"")
    found = await request.in_thread(parse.find_list, request, coords)
    return await _send_stream(request, found, compression)


def _compression(request: NodeRequest) -> str:
    found = request.args.get("compression", "")
    if found not in COMPRESSIONS:
        raise InvalidRequest(
            f"don't understand 'compression' query string value: {found}; use jpeg or uncompressed"
        )
    return found


async def _send_stream(request: NodeRequest, found: Found, compression: str) -> Any:
    request.finish()
    stream = BlockStream(found, compression)
    if stream.length <= PIECE_BYTES:
        here = found.are_inline and len(found) <= QUICK_BLOCKS
        body = stream.whole() if here else await request.in_thread(stream.whole)
        return octets(body)
    async with request.memory(min(stream.length, (AHEAD + 1) * TASK_BYTES)):
        return await send_parts(request, stream.parts(), length=stream.length)


async def get_blocks(request: NodeRequest) -> Any:
    """Answer the voxels of blocks in a row along X, one block after the other."""
    z, y, x, span = _row(request)
    layout = parse.layout_of(request)
    parse.limit_bytes(span * layout.block_bytes // layout.dtype.itemsize, layout)
    if not span:
        return octets(b"")
    box = Box((z, y, x), (z + 1, y + 1, x + span))
    found = await request.in_thread(parse.find_blocks, request, box)
    request.finish()
    row = BlockRow(found, x, span)
    if row.length <= PIECE_BYTES:
        return octets(await request.in_thread(row.whole))
    async with request.memory(min(row.length, (AHEAD + 1) * TASK_BYTES)):
        return await send_parts(request, row.parts(), length=row.length)


def _row(request: NodeRequest) -> tuple[int, int, int, int]:
    """Return z, y and x of the first block of a row, and how many there are."""
    words = need_words(request, 2, _BLOCKS_USAGE)
    x, y, z = parse_point(words[0], "block coordinate")
    span = parse_signed(words[1], "span")
    if span < 0:
        raise InvalidRequest(f"a row cannot have {span} blocks")
    if x + span > 1 << 31:
        raise InvalidRequest(f"{span} blocks from {x} on leave the 32 bits of coordinates")
    return z, y, x, span


# -- writing ---------------------------------------------------------------------------------


async def post_raw(request: NodeRequest) -> Any:
    """Write a box of whole blocks from its voxels; with an ROI only the blocks inside of it."""
    words = need_words(request, 3, f'"raw" {_RAW_USAGE}')
    if parse_shape(words[0]) != VOLUME:
        raise InvalidRequest("DVID does not permit 2d mutations, only 3d block-aligned stores")
    parse.parse_attenuation(request)
    layout = parse.layout_of(request)
    box = need_aligned(parse_box(words[1], words[2]), layout.shape_zyx)
    parse.limit_bytes(box.volume, layout)
    prepare.check_body(request.body, box, layout)
    prepare.check_count(box.blocks(layout.shape_zyx).volume)
    region = await request.in_thread(parse.region_of, request)
    request.finish()
    coords, places = await request.in_thread(prepare.places_of, box, layout)
    if region is not None:
        inside = region.mask(box).holds(coords)
        coords, places = coords[inside], places[inside]
    packs, body = request.stream.packs, request.body
    tasks = [
        (packs, body, box, places[start:stop], layout)
        for start, stop in spans(len(places), _step(layout.block_bytes))
    ]
    stored = await in_threads(request, prepare.store_parts, tasks)
    extents = (*box.start_zyx[::-1], *box.max_xyz)
    await _write(request, coords, [one for part in stored for one in part], extents, region)
    return empty()


async def post_blocks(request: NodeRequest) -> Any:
    """Write blocks in a row along X; what follows the last one is not looked at."""
    z, y, x, span = _row(request)
    layout = parse.layout_of(request)
    size = span * layout.block_bytes
    if not span or len(request.body) < size:
        raise InvalidRequest(
            f"{span} blocks are {size} bytes, but {len(request.body)} were sent; nothing was stored"
        )
    prepare.check_count(span)
    coords = np.full((span, 3), (z, y, x), np.int32)
    coords[:, 2] += np.arange(span, dtype=np.int32)
    packs, body = request.stream.packs, request.body
    tasks = [
        (packs, body, start, stop, layout) for start, stop in spans(span, _step(layout.block_bytes))
    ]
    stored = await in_threads(request, prepare.store_run, tasks)
    await _write(request, coords, [one for part in stored for one in part])
    return empty()


def _step(block_bytes: int) -> int:
    """Return how many blocks a task stores."""
    return max(1, min(TASK_BLOCKS, TASK_BYTES // block_bytes))


async def _write(
    request: NodeRequest,
    coords: Coords,
    stored: list[Bulk],
    extents: tuple[int, ...] = (),
    region: Region | None = None,
) -> None:
    packs = request.stream.packs
    names = partial(prepare.to_packs, packs, [coords.astype("<i4").tobytes()], INLINE_BYTES_MAX)
    (coords_bulk,) = await request.in_thread(names)
    blocks = await request.in_thread(prepare.limit_inline, packs, stored)
    await request.write(
        PutBlocks(coords=coords_bulk, blocks=blocks, extents=extents, region=region)
    )


# Their bodies may be buffers instead of bytes: see receive.py.
for _handler in (post_raw, post_blocks):
    _handler.takes_buffer = True  # type: ignore[attr-defined]
for _handler in (post_raw, get_arb, get_subvolblocks):
    _handler.throttled = True  # type: ignore[attr-defined]
get_raw.quick = True  # type: ignore[attr-defined]


# -- what is refused -------------------------------------------------------------------------


async def refuse_method(request: NodeRequest) -> Any:
    """Refuse a method that a word does not have."""
    if request.method not in ("GET", "POST"):
        name = request.instance.name
        raise InvalidRequest(f'Data "{name}" can only handle GET or POST HTTP verbs')
    if request.method == "GET":
        raise InvalidRequest(
            "this endpoint only supports the POST HTTP verb: see info and metadata"
        )
    raise InvalidRequest("this endpoint only supports the GET HTTP verb")


async def post_arb(request: NodeRequest) -> Any:
    """Answer a picture to POST, too, as DVID does; refuse other methods."""
    return await (get_arb if request.method == "POST" else refuse_method)(request)


_OWN = (
    *("raw", "isotropic", "arb", "blocks", "subvolblocks", "specificblocks"),
    *("metadata", "extents", "resolution", "rawkey", "info", "help"),
)

ENDPOINTS = {
    "GET raw": get_raw,
    "POST raw": post_raw,
    "GET isotropic": get_isotropic,
    "GET arb": get_arb,
    "GET blocks": get_blocks,
    "POST blocks": post_blocks,
    "GET subvolblocks": get_subvolblocks,
    "GET specificblocks": get_specific_blocks,
    **{f"{verb} {word}": refuse_method for verb in ("*", "HEAD") for word in _OWN},
    "* arb": post_arb,
}
