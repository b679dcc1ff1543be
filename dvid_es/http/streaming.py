"""Long answers whose pieces are made in the kernel threads, never on the event loop.

They are read page by page, each page in a transaction of its own: rows are never changed, so a view
that is bounded by a sequence gives the same answer in a later transaction.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from sanic.response import HTTPResponse

from dvid_es.http.node import PIECE_BYTES, NodeRequest
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """The state that a request reads, for as many short transactions as it needs."""

    open: Callable[[], AbstractContextManager[ReadTxn]]
    view: View
    """What the addressed version sees, bounded by the sequence of the snapshot."""


def take_snapshot(request: NodeRequest) -> Snapshot:
    """Fix the state that a request reads, and end its own transaction."""
    bound = request.view.sequence  # of `?at=`
    assert request.sequence is not None
    sequence = min(bound, request.sequence)
    view = request.view.at(sequence)
    store, packs, repo = request.engine.store, request.stream.packs, request.repo
    request.finish()

    @contextmanager
    def open_txn() -> Iterator[ReadTxn]:
        txn = store.begin_read(repo, packs, sequence)
        try:
            yield txn
        finally:
            store.finish_read(txn)

    return Snapshot(open_txn, view)


def _chunk(pieces: Iterator[bytes]) -> bytes:
    """Return the next pieces, joined to about 256 KiB; empty at the end."""
    waiting = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            break
    return waiting[0] if len(waiting) == 1 else b"".join(waiting)


async def send_made(
    request: NodeRequest,
    pieces: Iterator[bytes],
    content_type: str,
    headers: dict[str, str] | None = None,
) -> HTTPResponse | None:
    """Answer with pieces, of which the iterator makes each only when it is wanted.

    A short answer goes out whole. An error before the first 256 KiB is an ordinary one; after that
    the connection is cut, so that no client takes half an answer for a whole one. The iterator holds
    no transaction between two pieces: a client may be slow.
    """
    first = await request.in_thread(_chunk, pieces)
    if len(first) < PIECE_BYTES:
        return HTTPResponse(first, 200, headers, content_type)
    response = await request.raw.respond(
        status=200,
        headers={**request.common_headers(), **(headers or {})},
        content_type=content_type,
    )
    try:
        await response.send(first)
        while chunk := await request.in_thread(_chunk, pieces):
            await response.send(chunk)
    except Exception:
        logger.exception("the answer to %s %s was cut short", request.method, request.path)
        request.raw.transport.abort()  # type: ignore[attr-defined]
        return None
    await response.eof()
    return None
