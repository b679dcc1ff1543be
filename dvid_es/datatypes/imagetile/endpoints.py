"""Requests for tiles, for their metadata, and for pictures put together from tiles."""

from typing import Any

from sanic.response import HTTPResponse

from dvid_es.codecs import images
from dvid_es.codecs.images import Format, Pixels
from dvid_es.datatypes.imagetile import pictures, tiles
from dvid_es.datatypes.imagetile.commands import PutTile, SetMetadata
from dvid_es.datatypes.imagetile.events import INLINE_TILE_MAX
from dvid_es.datatypes.imagetile.levels import tile_size
from dvid_es.datatypes.imagetile.pictures import Piece
from dvid_es.datatypes.imagetile.settings import FORMATS, parse_metadata
from dvid_es.datatypes.imagetile.tiles import Tile
from dvid_es.errors import InvalidRequest, NotFound
from dvid_es.events import Bulk
from dvid_es.http.answers import in_threads, send_whole, spans
from dvid_es.http.errors import PAGE_NOT_FOUND
from dvid_es.http.node import JSON, NodeRequest, empty, json_response
from dvid_es.http.shapes import VOLUME, need_words, parse_shape
from dvid_es.http.slices import AXES, Slice, parse_slice
from dvid_es.http.wire import parse_json, parse_point, parse_unsigned
from dvid_es.projections import bulkrow
from dvid_es.projections.catalog import Instance

WAVE_TILES = 8
"""Tiles of one picture that are decoded at a time."""

_PNG = Format("image/png")
_TYPES = {FORMATS["png"]: "image/png", FORMATS["jpg"]: "image/jpeg"}
_UNSET = "Tile metadata has not been POSTed yet.  GET requests require metadata to be POST."


# -- metadata --------------------------------------------------------------------------------


def get_metadata(request: NodeRequest) -> Any:
    """Answer tile coordinates and levels."""
    settings = request.instance.settings
    if not settings["Levels"]:
        name = request.instance.name
        raise InvalidRequest(f'tile metadata for imagetile "{name}" was not set\n')
    return json_response(
        {name: settings[name] for name in ("MinTileCoord", "MaxTileCoord", "Levels")}
    )


async def post_metadata(request: NodeRequest) -> Any:
    """Set tile coordinates and levels, for all versions."""
    found = parse_metadata(parse_json(request.body))
    command = SetMetadata(
        low=found.low_xyz,
        high=found.high_xyz,
        resolutions=tuple(level.resolution_xyz for level in found.levels),
        sizes=tuple(level.size_xyz for level in found.levels),
    )
    await request.write(command)
    return empty()


# -- tiles -----------------------------------------------------------------------------------


def _parse_tile(request: NodeRequest) -> Tile:
    """Return the tile that a path names.

    Raises:
        InvalidRequest: it names none.
    """
    usage = "'tile' request must be following by plane, scale level, and tile coordinate"
    words = need_words(request, 3, usage)
    plane = parse_shape(words[0])
    if plane == VOLUME:
        raise InvalidRequest(f"Illegal tile plane: {words[0]} (tiles are of xy, xz or yz)")
    scale = parse_unsigned(words[1], "tile scale", 8)
    x, y, z = parse_point(words[2], "tile coordinate")
    return Tile(plane, scale, (z, y, x))


async def get_tile(request: NodeRequest) -> Any:
    """Answer the bytes of a tile; a missing one is black, or not found."""
    settings = request.instance.settings
    if not settings["Levels"]:
        raise InvalidRequest(_UNSET)
    tile = _parse_tile(request)
    (found,) = tiles.find(request.txn, request.instance.id, [tile], request.view)
    if found is None:
        request.finish()
        return await _missing(request, tile)
    data = found if isinstance(found, bytes) else await request.in_thread(request.txn.bulk, found)
    request.finish()
    content_type = _TYPES.get(settings["Encoding"])
    if content_type is None:
        pixels = await request.in_thread(pictures.decode_own, data)
        data, content_type = await request.in_thread(images.encode, pixels, _PNG), "image/png"
    return await send_whole(request, data, headers={"content-type": content_type})


async def _missing(request: NodeRequest, tile: Tile) -> HTTPResponse:
    if request.args.get("noblanks") == "true":
        raise NotFound(PAGE_NOT_FOUND)
    size = tile_size(request.instance, tile.scale)
    if size is None:
        raise InvalidRequest(f"Could not extract tiles for unspecified scale level {tile.scale}")
    form = images.parse_format(request.words[3] if len(request.words) > 3 else "")
    right, down = AXES[tile.plane]
    images.check_size(size[right], size[down], form)
    async with request.memory(2 * size[right] * size[down]):
        body = await request.in_thread(images.black, size[right], size[down], form)
    return HTTPResponse(body, 200, content_type=form.content_type)


async def post_tile(request: NodeRequest) -> Any:
    """Store the bytes of a tile as they are; none at all is a missing tile."""
    tile = _parse_tile(request)
    data: Bulk = bytes(request.body)
    if bulkrow.length(data) > INLINE_TILE_MAX:
        data = await request.in_thread(request.stream.packs.put, data)
    z, y, x = tile.at_zyx
    command = PutTile(plane=tile.plane, scale=tile.scale, tile_xyz=(x, y, z), data=data)
    await request.write(command)
    return empty()


def get_tilekey(request: NodeRequest) -> Any:
    """Answer the key of a tile: that of this server, for people who compare."""
    key = tiles.key(request.instance.id, _parse_tile(request)).hex()
    return HTTPResponse(f'{{"key": "{key}"}}', 200, content_type=JSON)


# -- pictures --------------------------------------------------------------------------------


def _source(request: NodeRequest) -> Instance:
    """Return the volume that the tiles show.

    Raises:
        InvalidRequest: there is none of that name, or it is no volume.
    """
    name = request.instance.settings["Source"]
    source = request.repo.names.get(name)
    if source is None:
        raise InvalidRequest(f'invalid data instance name "{name}": the Source of the tiles')
    if source.typename not in pictures.SOURCES:
        raise InvalidRequest(f"Cannot construct imagetile for non-voxels data: {name}")
    return source


async def get_raw(request: NodeRequest) -> Any:
    """Answer a picture of a slice."""
    return await _send_picture(request, isotropic=False)


async def get_isotropic(request: NodeRequest) -> Any:
    """Answer a picture with square pixels, by the size of the source's voxels."""
    return await _send_picture(request, isotropic=True)


async def _send_picture(request: NodeRequest, *, isotropic: bool) -> HTTPResponse:
    word = "isotropic" if isotropic else "raw"
    words = need_words(request, 3, f'"{word}" must be followed by shape/size/offset')
    plane = parse_shape(words[0])
    if plane == VOLUME:
        raise InvalidRequest("Quadtrees can only return 2d images: use xy, xz or yz")
    source = _source(request)
    size = tile_size(request.instance, 0)
    if size is None:
        raise InvalidRequest(_UNSET)
    sides = source.settings["VoxelSize"] if isotropic else None
    wanted = parse_slice(plane, words[1], words[2], sides)
    form = images.parse_format(words[3] if len(words) > 3 else "")
    images.check_size(wanted.width, wanted.height, form)
    pieces = pictures.pieces(plane, wanted.box, size)
    found = await request.in_thread(
        tiles.find, request.txn, request.instance.id, [one.tile for one in pieces], request.view
    )
    request.finish()
    async with request.memory(4 * wanted.width * wanted.height):
        body = await _paint(request, wanted, pieces, found, source.typename, form)
    return HTTPResponse(body, 200, content_type=form.content_type)


async def _paint(
    request: NodeRequest,
    wanted: Slice,
    pieces: list[Piece],
    found: list[Bulk | None],
    typename: str,
    form: Format,
) -> bytes:
    size = tile_size(request.instance, 0)
    assert size is not None
    settings = request.instance.settings
    right, down = AXES[pieces[0].tile.plane]
    packs = request.stream.packs
    out = pictures.blank(wanted, typename)

    def paste(piece: Piece, data: Bulk | None) -> None:
        if data is None and not settings["Placeholder"]:
            return
        tile: Pixels
        if data is None:
            tile = pictures.placeholder(piece, size)
        else:
            stored = data if isinstance(data, bytes) else packs.get(data)
            try:
                tile = pictures.decode(stored, settings["Encoding"])
            except InvalidRequest:
                return  # what is no picture is shown as black, as in DVID
        pictures.paste(tile, piece, (size[down], size[right]), out)

    tasks = list(zip(pieces, found, strict=True))
    for start, stop in spans(len(tasks), WAVE_TILES):
        await in_threads(request, paste, tasks[start:stop])

    def encode() -> bytes:
        return images.encode(images.scaled(out, wanted.height, wanted.width), form)

    return await request.in_thread(encode)


# -- what is refused -------------------------------------------------------------------------


async def refuse_method(request: NodeRequest) -> Any:
    """Refuse a method that a word does not have."""
    if request.method in ("GET", "POST"):
        name = request.instance.name
        raise InvalidRequest(
            f"imagetile '{name}' can only PUT tiles, with POST tile: this is read only"
        )
    raise InvalidRequest("Can only handle GET or POST HTTP verbs")


_OWN = ("metadata", "tile", "tilekey", "raw", "isotropic")

ENDPOINTS = {
    "GET metadata": get_metadata,
    "POST metadata": post_metadata,
    "GET tile": get_tile,
    "POST tile": post_tile,
    "GET tilekey": get_tilekey,
    "GET raw": get_raw,
    "GET isotropic": get_isotropic,
    **{f"{verb} {word}": refuse_method for verb in ("*", "HEAD") for word in _OWN},
    **{f"HEAD {word}": refuse_method for word in ("info", "help")},
}
