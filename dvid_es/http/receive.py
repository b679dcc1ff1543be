"""Large request bodies, received into memory of the right size.

Sanic collects a body in pieces and joins them, which for 128 MiB costs more than everything that is then
done with them: most of it is the operating system handing out fresh pages, twice.
"""

import numpy as np
from sanic import Request

LARGE_BYTES = 1 << 20
"""Bodies from this size on are received here, for handlers that take a buffer for bytes."""


def announced_bytes(raw: Request) -> int:
    """Return the length of a body that a header announces; 0 if none does."""
    text: str = raw.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


async def receive_into_buffer(raw: Request, length: int) -> memoryview:
    """Return a body of `length` bytes, as its header announced and Sanic enforces."""
    # numpy asks for huge pages, which bytearray does not.
    body = memoryview(np.empty(length, np.uint8))
    at = 0
    assert raw.stream is not None, "the body was received before"
    async for data in raw.stream:  # type: ignore[attr-defined]  # HTTP/1.1 is all that is served
        body[at : at + len(data)] = data
        at += len(data)
    return body[:at]
