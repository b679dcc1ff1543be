"""`mutations` and `mutations-range`, for the tables of the datatypes that keep such records."""

from collections.abc import Iterator, Sequence
from itertools import islice

from sanic.response import HTTPResponse

from dvid_es.errors import InvalidRequest
from dvid_es.http.node import TEXT, NodeRequest
from dvid_es.http.streaming import Snapshot, send_made, take_snapshot
from dvid_es.projections import mutations

PAGE_EVENTS = 1000


async def get_mutations(request: NodeRequest) -> HTTPResponse | None:
    """GET mutations[?userid=U]: the records of this version, oldest first."""
    return await _answer(request, [request.version_id])


async def get_mutations_range(request: NodeRequest) -> HTTPResponse | None:
    """GET mutations-range/<first>/<last>[?userid=U]: newest version first, along first parents.

    Raises:
        InvalidRequest: a version is missing, unknown, or of another repository.
    """
    if len(request.words) < 2:
        raise InvalidRequest("mutations-range needs two versions: mutations-range/<first>/<last>")
    ordinals = []
    for spec in request.words[:2]:
        stream, _, version = request.engine.resolve(spec)
        if stream.root != request.stream.root:
            raise InvalidRequest(f'version "{spec}" is not of this repository')
        ordinals.append(version.id)
    if not request.instance.versioned:
        return await _answer(request, [1])
    graph = request.repo.graph
    request.version = graph.by_id[ordinals[1]]
    return await _answer(request, mutations.between(graph, ordinals[0], ordinals[1]))


get_mutations.throttled = get_mutations_range.throttled = True  # type: ignore[attr-defined]


async def _answer(request: NodeRequest, versions: Sequence[int]) -> HTTPResponse | None:
    snapshot = take_snapshot(request)
    texts = _texts(snapshot, request.instance.id, versions, request.args.get("userid"))
    # DVID leaves the type to be guessed from the bytes, which comes to plain text.
    return await send_made(request, _array(texts), TEXT)


def _texts(
    snapshot: Snapshot, instance: int, versions: Sequence[int], user: str | None
) -> Iterator[str]:
    """Iterate over records, a page of events in each transaction."""
    for version in versions:
        start: int | None = 0
        while start is not None:
            with snapshot.open() as txn:
                rows = mutations.rows(txn, instance, version, snapshot.view, user, start)
                page = list(islice(rows, PAGE_EVENTS))
            start = page[-1][0] + 1 if len(page) == PAGE_EVENTS else None
            for _, texts in page:
                yield from texts


def _array(texts: Iterator[str]) -> Iterator[bytes]:
    before = "["
    for text in texts:
        yield (before + text).encode()
        before = ","
    yield b"[]" if before == "[" else b"]"
