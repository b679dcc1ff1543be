"""Requests to counts of elements.

Source: ServeHTTP in datatype/labelsz/labelsz.go (janelia-flyem/dvid).
"""

from collections import OrderedDict
from weakref import WeakKeyDictionary

import msgspec
from sanic.response import HTTPResponse

from dvid_es.datatypes.labelsz.commands import ReloadCounts
from dvid_es.datatypes.labelsz.reads import INDEX_TYPES, Ranking, count, counting, rank, sizes
from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, raw_json
from dvid_es.http.shapes import need_words
from dvid_es.http.streaming import take_snapshot
from dvid_es.http.wire import parse_labels, parse_signed, parse_unsigned

LABELS_AT_ONCE = 1000
"""For more labels than this, a ranking of all is less work."""

PAGE_LABELS = 10_000
"""Labels that `threshold` answers if it is not said how many."""

RANKINGS = 8
RANKINGS_BYTES = 128 << 20
"""Rankings that are kept, for as long as nothing is written to the repository."""

_encode = msgspec.json.Encoder().encode

_Key = tuple[str, int, int]
_KEPT: WeakKeyDictionary[Engine, OrderedDict[_Key, tuple[int, Ranking]]] = WeakKeyDictionary()


def _parse_type(text: str) -> str:
    """Return what is to be counted.

    Raises:
        InvalidRequest: there is no such type; case matters.
    """
    if text not in INDEX_TYPES:
        raise InvalidRequest(
            f'unknown index type specified ("{text}"): use one of {", ".join(INDEX_TYPES)}'
        )
    return text


async def get_count(request: NodeRequest) -> HTTPResponse:
    """GET count/<label>/<type>: how many elements a label has."""
    words = need_words(request, 2, "Must include label and element type after 'count' endpoint.")
    label, index_type = parse_unsigned(words[0], "label"), _parse_type(words[1])
    (size,) = await _sizes(request, [label], index_type)
    return raw_json(_encode({"Label": label, index_type: size}))


async def get_counts(request: NodeRequest) -> HTTPResponse:
    """GET counts/<type>: how many elements each of the labels in the body has."""
    words = need_words(request, 1, "Must include element type after 'counts' endpoint.")
    index_type = _parse_type(words[0])
    labels = await request.in_thread(parse_labels, request.body)
    if len(labels) > LABELS_AT_ONCE:
        ranking = await _ranking(request)
        found = sizes(ranking.of(labels), index_type).tolist()
    else:
        found = await _sizes(request, labels, index_type)
    pairs = zip(labels, found, strict=True)
    return raw_json(_encode([{"Label": label, index_type: size} for label, size in pairs]))


async def _sizes(request: NodeRequest, labels: list[int], index_type: str) -> list[int]:
    """Return the sizes of a few labels."""

    def read() -> list[int]:
        txn = request.txn
        what = counting(txn, request.instance, request.version_id)
        return [int(sizes(count(txn, what, label), index_type)) for label in labels]

    return await request.in_thread(read)


async def get_top(request: NodeRequest) -> HTTPResponse:
    """GET top/<N>/<type>: the labels with most elements."""
    words = need_words(request, 2, "Must include N and element type after 'top' endpoint.")
    many, index_type = parse_unsigned(words[0], "N", 32), _parse_type(words[1])
    ranking = await _ranking(request)
    return _ranked(ranking.top(many, index_type))


async def get_threshold(request: NodeRequest) -> HTTPResponse:
    """GET threshold/<T>/<type>?offset=&n=: the labels with at least T elements, in order of their rank."""
    usage = "Must include threshold # and element type after 'threshold' endpoint."
    words = need_words(request, 2, usage)
    threshold, index_type = parse_unsigned(words[0], "threshold", 32), _parse_type(words[1])
    offset = parse_signed(request.args.get("offset") or "0", "offset", 64)
    many = parse_signed(request.args.get("n") or "0", "n", 64)
    if many < 0:
        raise InvalidRequest(f"bad number of requested labels ({many})")
    ranking = await _ranking(request)
    return _ranked(ranking.at_least(threshold, index_type, offset, many or PAGE_LABELS))


def _ranked(found: list[tuple[int, int]]) -> HTTPResponse:
    return raw_json(_encode([{"Label": label, "Size": size} for label, size in found]))


async def _ranking(request: NodeRequest) -> Ranking:
    """Return the counts of all labels, those made before if nothing was written since."""
    instance, version = request.instance, request.version_id
    snapshot = take_snapshot(request)
    kept = _KEPT.setdefault(request.engine, OrderedDict())
    key = (request.repo.root, instance.id, version)
    sequence, ranking = kept.get(key, (-1, None))
    if ranking is None or sequence != snapshot.view.sequence:
        ranking = await request.in_thread(rank, snapshot.open, instance, version)
        kept[key] = (snapshot.view.sequence, ranking)
        while len(kept) > RANKINGS or (
            len(kept) > 1 and sum(one.memory_bytes for _, one in kept.values()) > RANKINGS_BYTES
        ):
            kept.popitem(last=False)
    kept.move_to_end(key)
    return ranking


async def refuse_post(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods than GET."""
    raise InvalidRequest("counts are only read: use GET")


async def post_reload(request: NodeRequest) -> HTTPResponse:
    """POST reload: count all elements, also those that were there before the sync."""
    await request.write(ReloadCounts())
    return empty()


async def refuse_reload(request: NodeRequest) -> HTTPResponse:
    """Refuse other methods than POST."""
    raise InvalidRequest("Only POST action is available on 'reload' endpoint.")


ENDPOINTS = {
    "GET count": get_count,
    "GET counts": get_counts,
    "GET top": get_top,
    "GET threshold": get_threshold,
    **{f"* {word}": refuse_post for word in ("count", "counts", "top", "threshold")},
    "POST reload": post_reload,
    "* reload": refuse_reload,
}
