"""Requests to counts of elements.

Source: ServeHTTP in datatype/labelsz/labelsz.go (janelia-flyem/dvid).
"""

from collections import OrderedDict
from weakref import WeakKeyDictionary

import msgspec
from sanic.response import HTTPResponse

from dvid_es.datatypes.labelsz.commands import ReloadCounts
from dvid_es.datatypes.labelsz.reads import (
    INDEX_TYPES,
    Ranking,
    count,
    counting,
    follow,
    rank,
    sizes,
)
from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import NodeRequest, empty, raw_json
from dvid_es.http.shapes import need_words
from dvid_es.http.streaming import take_snapshot
from dvid_es.http.wire import parse_labels, parse_signed, parse_unsigned
from dvid_es.projections.elements import Moment

LABELS_AT_ONCE = 1000
"""For more labels than this, a ranking of all is less work."""

FEW_LABELS = 20
"""The same, if there was a ranking before."""

PAGE_LABELS = 10_000
"""Labels that `threshold` answers if it is not said how many."""

RANKINGS = 8
RANKINGS_BYTES = 128 << 20
"""Rankings that are kept: the next ones begin with them."""

_encode = msgspec.json.Encoder().encode

_Key = tuple[str, int, int]
_Kept = OrderedDict[_Key, Ranking]
_KEPT: WeakKeyDictionary[Engine, _Kept] = WeakKeyDictionary()


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
    known = (request.repo.root, request.instance.id, request.version_id) in _kept(request)
    if len(labels) > (FEW_LABELS if known else LABELS_AT_ONCE):
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
    """Return the counts of all labels: those made before, with what has changed since."""
    instance, version = request.instance, request.version_id
    snapshot = take_snapshot(request)
    moment = Moment(version, snapshot.view.sequence)
    kept = _kept(request)
    bases = _bases(request, kept, moment)
    if bases and bases[0].moment == moment:
        return bases[0]

    def make() -> Ranking:
        for base in bases:
            found = follow(snapshot.open, instance, moment, base)
            if found is not None:
                return found
        return rank(snapshot.open, instance, moment)

    ranking = await request.in_thread(make)
    if "at" not in request.args:  # the present is what will be asked for again
        _keep(kept, (request.repo.root, instance.id, version), ranking)
    return ranking


def _kept(request: NodeRequest) -> _Kept:
    return _KEPT.setdefault(request.engine, OrderedDict())


def _bases(request: NodeRequest, kept: _Kept, moment: Moment) -> list[Ranking]:
    """Return the rankings that one may begin with: of the version, or else of its nearest ancestor."""
    root, instance = request.repo.root, request.instance.id
    for ordinal in request.repo.graph.first_parents(moment.version):
        found = kept.get((root, instance, ordinal))
        if found is not None and found.moment.sequence <= moment.sequence:
            return [found]
    return []


def _keep(kept: _Kept, key: _Key, ranking: Ranking) -> None:
    before = kept.get(key)
    if before is None or before.moment.sequence <= ranking.moment.sequence:
        kept[key] = ranking
    kept.move_to_end(key)
    while len(kept) > RANKINGS or (
        len(kept) > 1 and sum(one.memory_bytes for one in kept.values()) > RANKINGS_BYTES
    ):
        kept.popitem(last=False)


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
