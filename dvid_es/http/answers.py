"""Large answers: parts are made in kernel threads, ahead of the one that is being sent."""

import asyncio
import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvid_es.http.node import OCTETS, PIECE_BYTES, NodeRequest, octets

logger = logging.getLogger(__name__)

T = TypeVar("T")
Buffer = bytes | memoryview
Part = Callable[[], Any]
"""Makes some of an answer, in a thread: buffers that nobody changes any more, or what a joiner takes."""


class Lent(NamedTuple):
    """A part of an answer in memory that is used again when its bytes are on their way."""

    data: memoryview
    give_back: Callable[[], None]


HUGE_PAGE = 2 << 20
CACHE_LINE = 64


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return fresh memory that begins with a line of the processor's caches: 8 voxels are one.

    Long memory begins with a huge page, so that all of it may lie in such pages.
    """
    step = HUGE_PAGE if size >= 2 * HUGE_PAGE else CACHE_LINE
    memory = np.empty(size + step, np.uint8)
    start = -memory.ctypes.data % step
    return memory[start : start + size]


class Buffers:
    """Memory of parts to use again: fresh memory costs more than decoding into it.

    Without a lock: memory may come back wherever the last view of it is dropped.
    """

    def __init__(self, size: int, kept_max: int) -> None:
        """Keep up to `kept_max` buffers of `size` bytes."""
        self._size = size
        self._kept: deque[NDArray[np.uint8]] = deque(maxlen=kept_max)
        self._leased: dict[int, tuple[weakref.ref[NDArray[np.uint8]], NDArray[np.uint8]]] = {}

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return at least `size` bytes, which may hold anything."""
        if size <= self._size:
            with contextlib.suppress(IndexError):
                return self._kept.pop()
        return _aligned(max(size, self._size))

    def give(self, buffer: NDArray[Any]) -> None:
        """Take back what nobody looks at any more."""
        if buffer.nbytes == self._size:
            self._kept.append(buffer.view(np.uint8))

    def lease(self, size: int) -> memoryview:
        """Return `size` bytes, which may hold anything and come back when the last view of them is gone."""
        memory = self.take(size)
        lease = memory[:size]
        watch = weakref.ref(lease, self._come_back)
        self._leased[id(watch)] = watch, memory
        return memoryview(lease)

    def _come_back(self, watch: "weakref.ref[NDArray[np.uint8]]") -> None:
        _, memory = self._leased.pop(id(watch))
        self.give(memory)


FIRST_BYTES = 4096
"""Of a long body these go out with the head."""

LOW_BYTES = 16 << 10
HIGH_BYTES = 64 << 10
"""How many bytes the transport holds before it asks to wait: Sanic's own limits."""

AHEAD = 2
"""Parts in the making while one is sent."""


class Joiner(Protocol):
    """Turns the parts of an answer, in their order, into its bytes; takes no time to speak of."""

    def add(self, part: Any) -> Sequence[Buffer]:
        """Return the bytes of the next part."""

    def end(self) -> Sequence[Buffer]:
        """Return the last bytes."""


class Plain:
    """Parts that are lists of buffers already."""

    def add(self, part: Sequence[Buffer] | Lent) -> Sequence[Buffer]:
        """Return them."""
        return (part.data,) if isinstance(part, Lent) else part

    def end(self) -> Sequence[Buffer]:
        """Return nothing more."""
        return ()


async def in_threads(
    request: NodeRequest, work: Callable[..., T], tasks: Iterable[tuple[Any, ...]]
) -> list[T]:
    """Run `work` with each of several arguments, side by side; return the results in order.

    All have ended when this returns or raises, so nothing goes on behind the answer.
    """
    running = [asyncio.ensure_future(request.in_thread(work, *task)) for task in tasks]
    results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


def spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut 0 ... count into spans of at most `size`."""
    for start in range(0, count, size):
        yield start, min(count, start + size)


async def send_whole(
    request: NodeRequest, *bodies: Buffer, headers: dict[str, str] | None = None
) -> Any:
    """Answer with bytes that are all there, long ones without a copy.

    Sanic joins the head with what comes first, so that is little.
    """
    length = sum(map(len, bodies))
    if length <= PIECE_BYTES or request.method == "HEAD":
        return octets(b"".join(bodies), headers)
    response = await request.raw.respond(
        status=200,
        headers={**request.common_headers(), **(headers or {}), "content-length": str(length)},
        content_type=OCTETS,
    )
    first, *others = [memoryview(body) for body in bodies]
    try:
        for piece in (first[:FIRST_BYTES], first[FIRST_BYTES:], *others):
            await response.send(piece)
        await response.eof()
    except Exception:
        logger.exception("the answer to %s %s was cut short", request.method, request.path)
        request.raw.transport.abort()  # type: ignore[attr-defined]
    return None


async def send_parts(
    request: NodeRequest,
    parts: Iterable[Part],
    headers: dict[str, str] | None = None,
    length: int | None = None,
    joiner: Joiner | None = None,
    ahead_max: int = AHEAD,
) -> None:
    """Send an answer of many parts, `length` bytes in all if that is known.

    The transaction of the request must have ended: a client may be slow. An error in the first part
    is an ordinary one; later the connection is cut, so that nobody takes half for the whole.
    """
    waiting = iter(() if request.method == "HEAD" else parts)
    ahead: deque[asyncio.Future[Any]] = deque()
    joiner = joiner or Plain()

    def start() -> None:
        part = next(waiting, None)
        if part is not None:
            ahead.append(request.begin(part))

    for _ in range(ahead_max):
        start()
    part = await ahead.popleft() if ahead else ()
    pieces = joiner.add(part)
    known = {} if length is None else {"content-length": str(length)}
    response = await request.raw.respond(
        status=200,
        headers={**request.common_headers(), **(headers or {}), **known},
        content_type=OCTETS,
    )
    send = _send_chunk if length is None else _send_piece
    try:
        if length is None:
            await response.send(b"")  # the head; `_send_chunk` goes past Sanic
        while True:
            start()
            if isinstance(part, Lent):
                await _send_lent(request, response, part)
            else:
                for piece in pieces:
                    await send(response, piece)
            if not ahead:
                break
            part = await ahead.popleft()
            pieces = joiner.add(part)
        if request.method != "HEAD":
            for piece in joiner.end():
                await send(response, piece)
        await response.eof()
    except Exception:
        logger.exception("the answer to %s %s was cut short", request.method, request.path)
        request.raw.transport.abort()  # type: ignore[attr-defined]
    finally:
        for task in ahead:
            task.cancel()


async def _send_piece(response: Any, piece: Buffer) -> None:
    await response.send(piece)


async def _send_chunk(response: Any, piece: Buffer) -> None:
    """Send some of a body of unknown length without a copy, which Sanic would make."""
    if piece:
        protocol = response.stream.protocol
        await protocol.send(b"%x\r\n" % len(piece))
        await protocol.send(piece)
        await protocol.send(b"\r\n")


async def _send_lent(request: NodeRequest, response: Any, part: Lent) -> None:
    """Send a part without a copy; its memory goes back when the network has taken all of it.

    If the client hangs up the memory is not given back: the network may still look at it.
    """
    transport: Any = request.raw.transport
    # With these limits, writing is paused for as long as any byte is left.
    transport.set_write_buffer_limits(high=0)
    await response.send(part.data)
    await response.stream.protocol.send(b"")
    transport.set_write_buffer_limits(low=LOW_BYTES, high=HIGH_BYTES)
    part.give_back()
