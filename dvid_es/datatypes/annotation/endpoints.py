"""The HTTP face of annotations: parse, prepare, ask, answer.

Source: ServeHTTP in datatype/annotation/handlers.go (janelia-flyem/dvid).
"""

from collections.abc import Awaitable, Callable, Iterator

import numpy as np
from sanic.response import HTTPResponse

from dvid_es.commands import Command
from dvid_es.datatypes.annotation import elements as texts
from dvid_es.datatypes.annotation import parsing, preparing, reads, reloading
from dvid_es.datatypes.annotation.commands import (
    DeleteAll,
    DeleteElement,
    ListLabels,
    MoveElement,
    Outdated,
    PutElements,
    ReplaceBlocks,
    UnderPoints,
)
from dvid_es.datatypes.annotation.elements import Packed
from dvid_es.datatypes.annotation.source import block_shape
from dvid_es.errors import InvalidRequest
from dvid_es.events import INLINE_BYTES_MAX, Bulk
from dvid_es.geometry import Box, Triple, from_xyz
from dvid_es.http.datatype import Handler
from dvid_es.http.node import JSON, NodeRequest, empty, raw_json
from dvid_es.http.streaming import Snapshot, send_made, take_snapshot
from dvid_es.http.wire import parse_point, parse_unsigned
from dvid_es.projections import regions

TRIES = 4
"""How often a write is prepared while the labels to follow change."""

PAGE_BLOCKS = 2000
"""Blocks read in one transaction."""

Make = Callable[[], Command]


# -- parsing -----------------------------------------------------------------------------------


def _words(request: NodeRequest, count: int, need: str) -> list[str]:
    words = request.words
    if len(words) < count or not all(words[:count]):
        raise InvalidRequest(need)
    return words


def _no_words(request: NodeRequest, endpoint: str) -> None:
    if any(request.words):
        raise InvalidRequest(f"Do not expect additional parameters after '{endpoint}'")


def _point(text: str, what: str) -> Triple:
    x, y, z = parse_point(text, what)
    return z, y, x


def _box(request: NodeRequest, endpoint: str) -> Box:
    need = f"Expect size and offset to follow '{endpoint}' in GET request"
    size, offset = _words(request, 2, need)[:2]
    size_xyz, offset_xyz = parse_point(size, "size"), parse_point(offset, "offset")
    start, shape = from_xyz(offset_xyz), from_xyz(size_xyz)  # type: ignore[arg-type]
    stop = tuple(max(a, a + n) for a, n in zip(start, shape, strict=True))
    return Box(start, stop)  # type: ignore[arg-type]


def _told(request: NodeRequest) -> bool:
    return request.args.get("kafkalog") != "off"


def _shape(request: NodeRequest) -> Triple:
    return block_shape(request.txn.repo, request.instance)


# -- reading -----------------------------------------------------------------------------------


async def get_elements(request: NodeRequest) -> HTTPResponse | None:
    """GET elements/<size>/<offset>: the elements in a box of voxels; null if there is none."""
    box, shape = _box(request, "elements"), _shape(request)
    snapshot, instance = take_snapshot(request), request.instance.id

    def found(snapshot: Snapshot) -> Iterator[bytes]:
        with snapshot.open() as txn:
            yield from reads.texts_in(txn, instance, snapshot.view, box, shape)

    return await _answer(request, lambda: list(found(snapshot)) or None)


async def _answer(
    request: NodeRequest, make: Callable[[], list[bytes] | None]
) -> HTTPResponse | None:
    """Answer a list of texts that is read in a thread; null for None."""

    def pieces() -> Iterator[bytes]:
        found = make()
        if found is None:
            yield b"null"
            return
        before = b"["
        for text in found:
            yield before + text
            before = b","
        yield b"[]" if before == b"[" else b"]"

    return await send_made(request, pieces(), JSON)


async def get_blocks(request: NodeRequest) -> HTTPResponse | None:
    """GET blocks/<size>/<offset>: all blocks that meet a box of voxels, with all their elements."""
    box = _box(request, "blocks").blocks(_shape(request))
    return await _send_blocks(request, box)


async def get_all_elements(request: NodeRequest) -> HTTPResponse | None:
    """GET all-elements: all blocks and their elements."""
    _no_words(request, "all-elements")
    return await _send_blocks(request, None)


async def _send_blocks(request: NodeRequest, box: Box | None) -> HTTPResponse | None:
    snapshot, instance = take_snapshot(request), request.instance.id

    def pieces() -> Iterator[bytes]:
        before, last = b"{", None
        more = True
        while more:
            made, more = _page(snapshot, instance, box, last)
            for listing in made:
                z, y, x = last = listing.block_zyx
                yield b'%b"%d,%d,%d":%b' % (before, x, y, z, listing.text())
                before = b","
        yield b"{}" if before == b"{" else b"}"

    return await send_made(request, pieces(), JSON)


def _page(
    snapshot: Snapshot, instance: int, box: Box | None, after: Triple | None
) -> tuple[list[reads.Listing], bool]:
    """Return some blocks, and whether there may be more."""
    made = []
    with snapshot.open() as txn:
        for listing in reads.blocks_in(txn, instance, snapshot.view, box, after):
            made.append(listing)
            if len(made) == PAGE_BLOCKS:
                return made, True
    return made, False


async def get_scan(request: NodeRequest) -> HTTPResponse:
    """GET scan: how many blocks there are; `byCoord` and `keysOnly` count the same."""
    _no_words(request, "scan")
    txn, view = request.txn, request.view
    count = await request.in_thread(reads.count_blocks, txn, request.instance.id, view)
    return raw_json(f'{{"num kv pairs":{count},"num empty blocks":0}}')


async def get_label(request: NodeRequest) -> HTTPResponse | None:
    """GET label/<label>[?relationships=true|verbose]: the elements of a body."""
    (word,) = _words(request, 1, "Must include label after 'label' endpoint.")[:1]
    label = parse_unsigned(word, "label")
    if label == 0:
        raise InvalidRequest("Label 0 is protected background value and cannot be used for query.")
    txn, view, instance = request.txn, request.view, request.instance
    version = request.version.id
    entries = await request.in_thread(reads.entries_of_label, txn, instance, view, version, label)
    return await _send_entries(request, entries)


async def get_tag(request: NodeRequest) -> HTTPResponse | None:
    """GET tag/<tag>[?relationships=true|verbose]: the elements with a tag."""
    (tag,) = _words(request, 1, "Must include tag string after 'tag' endpoint.")[:1]
    txn, view, instance = request.txn, request.view, request.instance.id
    entries = await request.in_thread(reads.entries_of_tag, txn, instance, view, tag)
    return await _send_entries(request, entries)


async def _send_entries(request: NodeRequest, entries: list[reads.Entry]) -> HTTPResponse | None:
    """Answer the elements of a list, with relationships if they are asked for."""
    asked = request.args.get("relationships")
    if asked not in ("true", "verbose"):
        return await _answer(request, lambda: [text for _, text in entries])
    shape, instance = _shape(request), request.instance.id
    snapshot = take_snapshot(request)

    def expanded() -> list[bytes]:
        with snapshot.open() as txn:
            expander = reads.Expander(txn, instance, snapshot.view, shape)
            if asked == "true":
                return expander.full(entries)
            return list(expander.verbose(entries))

    return await _answer(request, expanded)


async def get_roi(request: NodeRequest) -> HTTPResponse | None:
    """GET roi/<name>[,<uuid>]: the elements in the blocks of a region of interest; null if none."""
    need = "Expect ROI specification to follow 'roi' in GET request"
    (word,) = _words(request, 1, need)[:1]
    name, *others = word.split(",")
    if len(others) > 1:
        raise InvalidRequest(f'Bad ROI specification: "{word}"')
    version = request.version
    if others:
        stream, _, version = request.engine.resolve(others[0])
        if stream.root != request.stream.root:
            raise InvalidRequest(f'version "{others[0]}" is not of this repository')
    region, shape = regions.find(request.txn, name, version.id), _shape(request)
    if region.block_zyx != shape:
        raise InvalidRequest(
            f'the ROI "{name}" has blocks of {region.block_zyx[::-1]} voxels, and annotation'
            f' "{request.instance.name}" of {shape[::-1]}: they must be the same'
        )
    spans, instance = region.spans.tolist(), request.instance.id
    snapshot = take_snapshot(request)

    def found() -> list[bytes] | None:
        with snapshot.open() as txn:
            return list(reads.texts_of_spans(txn, instance, snapshot.view, spans)) or None

    return await _answer(request, found)


# -- writing -----------------------------------------------------------------------------------


async def _write(request: NodeRequest, make: Make) -> None:
    """Prepare a command in a thread and have it decided; again if the labels to follow have changed."""
    for last in range(TRIES):
        command = await request.in_thread(make)
        try:
            await request.write(command)
            return
        except Outdated:
            if last == TRIES - 1 or request.stream.repo is None:
                raise
            # Names were resolved before the syncs changed.
            request.repo = request.stream.repo
            request.instance = request.repo.instances[request.instance.id]


def _keep(request: NodeRequest, value: bytes) -> Bulk:
    """Return bytes as an event holds them: long ones are put into a pack."""
    return value if len(value) <= INLINE_BYTES_MAX else request.stream.packs.put(value)


def _keep_packed(request: NodeRequest, packed: Packed) -> tuple[Bulk, Bulk]:
    return (
        _keep(request, texts.points_bytes(packed)),
        _keep(request, texts.texts_bytes(packed)),
    )


def _under(request: NodeRequest, packed: Packed) -> UnderPoints:
    points = packed.points_zyx.astype(np.int64)
    return UnderPoints.look(request.txn, request.instance, request.version.id, points)


async def post_elements(request: NodeRequest) -> HTTPResponse:
    """POST elements[?kafkalog=off] [{...}, ...]: add elements, or replace those at the same places."""
    body, told = bytes(request.body), _told(request)
    found = preparing.distinct(await request.in_thread(parsing.parse_elements, body))
    packed = await request.in_thread(texts.pack, found)
    points, kept = await request.in_thread(_keep_packed, request, packed)
    posted: Bulk = await request.in_thread(_keep, request, body) if told else b""

    def make() -> PutElements:
        shape = _shape(request)
        links = preparing.links_between(found, shape)
        return PutElements(
            block=shape,
            points=points,
            elements=kept,
            links=_keep(request, links.astype("<i4").tobytes()),
            under=_under(request, packed),
            posted=posted,
            told=told,
        )

    await _write(request, make)
    return empty()


async def post_blocks(request: NodeRequest) -> HTTPResponse:
    """POST blocks[?kafkalog=off] {"x,y,z": [{...}, ...], ...}: replace the lists of blocks as they are."""
    body, told = bytes(request.body), _told(request)
    found = await request.in_thread(parsing.parse_blocks, body)
    posted: Bulk = await request.in_thread(_keep, request, body) if told else b""

    def make() -> ReplaceBlocks:
        shape = _shape(request)
        made = preparing.pack_blocks(found, shape)
        points, kept = _keep_packed(request, made.packed)
        return ReplaceBlocks(
            block=shape,
            blocks=_keep(request, made.coords_zyx.astype("<i4").tobytes()),
            counts=_keep(request, made.counts.astype("<u4").tobytes()),
            points=points,
            elements=kept,
            links=_keep(request, made.links.astype("<i4").tobytes()),
            posted=posted,
            told=told,
        )

    await _write(request, make)
    return empty()


async def post_labels(request: NodeRequest) -> HTTPResponse:
    """POST labels {"23": "[{...}, ...]", ...}: replace the lists of labels."""
    _no_words(request, "labels")
    body = bytes(request.body)

    def make() -> ListLabels:
        lists = preparing.pack_lists(body)
        points, kept = _keep_packed(request, lists.packed)
        return ListLabels(
            labels=lists.labels,
            counts=lists.counts,
            points=points,
            elements=kept,
            under=_under(request, lists.packed),
        )

    await _write(request, make)
    return empty()


async def delete_element(request: NodeRequest) -> HTTPResponse:
    """DELETE element/<x_y_z>[?kafkalog=off]: delete the element at a place, and relationships to it."""
    (word,) = _words(request, 1, "Must include coordinate after DELETE on 'element' endpoint.")[:1]
    point = _point(word, "coordinate")
    version, told = request.version.id, _told(request)
    await request.write(DeleteElement(point=point, version=version, told=told))
    return empty()


async def post_move(request: NodeRequest) -> HTTPResponse:
    """POST move/<from>/<to>[?kafkalog=off]: move an element, and relationships to it."""
    need = "Must include 'from' and 'to' coordinate after 'move' endpoint."
    words = _words(request, 2, need)
    source, target = _point(words[0], "from"), _point(words[1], "to")
    version, told = request.version.id, _told(request)
    await request.write(MoveElement(source=source, target=target, version=version, told=told))
    return empty()


async def post_reload(request: NodeRequest) -> HTTPResponse:
    """POST reload[?check=true]: make the lists of labels and tags of this version again."""
    await reloading.reload(request, check=request.flag("check"))
    return empty()


async def post_delete_all(request: NodeRequest) -> HTTPResponse:
    """POST delete-all: delete all elements and lists of this version; DVID has it as a command only."""
    _no_words(request, "delete-all")
    await request.write(DeleteAll())
    return empty()


def _only(methods: str, endpoint: str) -> Handler:
    """Return the handler of all other methods."""

    def refuse(request: NodeRequest) -> Awaitable[HTTPResponse]:
        """Refuse other methods."""
        raise InvalidRequest(f"Only {methods} action is available on '{endpoint}' endpoint.")

    return refuse


ENDPOINTS: dict[str, Handler] = {
    "GET elements": get_elements,
    "POST elements": post_elements,
    "* elements": _only("GET or POST", "elements"),
    "DELETE element": delete_element,
    "* element": _only("DELETE", "element"),
    "POST move": post_move,
    "* move": _only("POST", "move"),
    "GET label": get_label,
    "* label": _only("GET", "label"),
    "POST labels": post_labels,
    "* labels": _only("POST", "labels"),
    "GET tag": get_tag,
    "* tag": _only("GET", "tag"),
    "GET roi": get_roi,
    "* roi": _only("GET", "roi"),
    "GET blocks": get_blocks,
    "POST blocks": post_blocks,
    "* blocks": _only("GET/POST", "blocks"),
    "GET all-elements": get_all_elements,
    "* all-elements": _only("GET", "all-elements"),
    "GET scan": get_scan,
    "* scan": _only("GET", "scan"),
    "POST reload": post_reload,
    "* reload": _only("POST", "reload"),
    "POST delete-all": post_delete_all,
    "* delete-all": _only("POST", "delete-all"),
}
