"""Long answers whose pieces are made in the kernel threads, never on the event loop."""

import logging
from collections.abc import Iterator

from sanic.response import HTTPResponse

from dvid_es.http.node import PIECE_BYTES, NodeRequest

logger = logging.getLogger(__name__)


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
