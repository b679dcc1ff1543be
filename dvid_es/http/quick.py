"""A short way for small requests: one packet in, one answer out, without Sanic's objects.

Sanic takes some 30 us for a request, 60 with a body, as long as DVID takes for all of it. So a connection
that waits for its next request looks at what comes.

- If that is one whole, plain GET or HEAD, and its handler is marked `quick`, the answer is made and
  written at once. Such a handler is a plain function that changes nothing and takes less than a
  millisecond. If it returns an awaitable or raises, it is called again on the long way.
- If it is one whole, plain POST, and its handler is marked `quick_write`, the handler runs once, and
  whatever comes of it is the answer; see `quickwrite`. Such a handler looks at nothing of what came but
  headers and body, awaits nothing but its write, and answers in one piece. What the client sends
  meanwhile waits.

Whatever else it is, or comes to, is handed to Sanic as it came.
"""

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sanic.compat import Header
from sanic.exceptions import BadRequest
from sanic.http.constants import Stage
from sanic.models.server_types import ConnInfo
from sanic.response import HTTPResponse
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from dvid_es.http.guard import check_head
from dvid_es.http.headers import last_head
from dvid_es.http.quickwrite import QuickWrite
from dvid_es.http.sendroom import limit_room

if TYPE_CHECKING:
    from dvid_es.http.app import Server

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8192
BODY_BYTES_MAX = 65536
WAITING_BYTES_MAX = 1 << 20
"""So much is taken from a client that sends on while a write is under way; then it waits as well."""

COPIED_BYTES = 16384
"""Longer bodies go out from where they are: joining them with their heads would cost more."""

KNOWN_MAX = 512
"""Blocks of header lines that are remembered: a client sends the same ones with every request."""

# Fewer characters than the guard lets through: none that any reader of URLs stumbles over.
_LINE = re.compile(rb"(GET|HEAD|POST) (/[A-Za-z0-9._~:/?&=,;@!$'()*+%-]*+) HTTP/1\.1")
_LONG_WAY = frozenset({"transfer-encoding", "expect", "upgrade", "trailer", "te"})


class Head:
    """What came, as far as quick handlers may look at it; anything else leads to the long way."""

    __slots__ = ("body", "conn_info", "headers", "method", "target")

    stream = None
    """Nothing is to be received any more."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Header,
        conn_info: ConnInfo | None,
        body: bytes = b"",
    ) -> None:
        """Keep the parts of a request that was read whole."""
        self.method = method
        self.target = target
        """Path and query, as they came."""
        self.headers = headers
        """Shared by requests with the same lines: not to be changed."""
        self.conn_info = conn_info
        self.body = body

    @property
    def ip(self) -> str:
        """Address of the other side; "" if it has none."""
        return self.conn_info.client_ip if self.conn_info else ""


class Lines(NamedTuple):
    """Header lines that need no more than an answer."""

    headers: Header
    body_bytes: int
    """Of the body that follows; -1 if they announce none."""


def plain_headers(block: bytes) -> Lines | None:
    """Return the headers in the lines after the first, or None if these need more than an answer.

    Args:
        block: all header lines, each with the line end before it, and the two line ends at the end.
    """
    if not block.endswith(b"\r\n\r\n"):
        return None
    try:
        check_head(b"GET / HTTP/1.1" + block[:-4])
    except BadRequest:
        return None
    headers = []
    body_bytes = -1
    for line in block[2:-4].decode(errors="surrogateescape").split("\r\n"):
        name, _, value = line.partition(":")
        name, value = name.lower(), value.lstrip()
        if name in _LONG_WAY or (name == "connection" and value.lower() != "keep-alive"):
            return None
        if name == "content-length":
            if body_bytes >= 0:
                return None
            body_bytes = int(value)
        headers.append((name, value))
    return Lines(Header(headers), body_bytes)


class Heads:
    """Reads heads of requests; remembers blocks of header lines."""

    def __init__(self, bytes_max: int, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        """Read heads and bodies of up to so many bytes, and of no more than what is short."""
        self.bytes_max = min(bytes_max, HEAD_BYTES_MAX)
        self.body_bytes_max = min(body_bytes_max, BODY_BYTES_MAX)
        self._known: dict[bytes, Lines | None] = {}

    def read(self, data: bytes, conn_info: ConnInfo | None = None) -> Head | None:
        """Return the request that `data` is, or None if it is anything else, or more, or less."""
        if len(data) > self.bytes_max + self.body_bytes_max:
            return None
        end = data.find(b"\r\n")
        line = _LINE.fullmatch(data, 0, end)
        if line is None:
            return None
        method = line[1].decode()
        stop = data.find(b"\r\n\r\n", end) + 4 if method == "POST" else len(data)
        if stop > self.bytes_max or len(data) - stop > self.body_bytes_max:
            return None
        block = data[end:stop]
        known = self._known
        if block in known:
            lines = known[block]
        else:
            lines = plain_headers(block)
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[block] = lines
        # A body that is not here yet, or another request behind it, is for Sanic.
        if lines is None or lines.body_bytes != (len(data) - stop if method == "POST" else -1):
            return None
        return Head(method, line[2].decode(), lines.headers, conn_info, data[stop:])


def write(transport: asyncio.WriteTransport, response: HTTPResponse, method: str) -> None:
    """Write an answer as Sanic does; its status is one that comes with a body."""
    body = response.body or b""
    head = last_head(response, method)
    if method == "HEAD":
        transport.write(head)
    elif len(body) <= COPIED_BYTES:
        transport.write(head + body)
    else:
        transport.writelines((head, body))


class QuickProtocol(WebSocketProtocol):
    """Sanic's protocol of one connection, with the short way in front."""

    __slots__ = ("_heads", "_later", "_server", "_writing")

    def __init__(self, **named: Any) -> None:
        """Set up as Sanic does; the application knows its server."""
        super().__init__(**named)
        self._http = None  # until the connection's task begins
        self._server: Server = self.app.ctx.server
        self._heads: Heads = self.app.ctx.heads
        self._writing: QuickWrite | None = None
        self._later = b""
        """What came while a write was under way."""

    def connection_made(self, transport: Any) -> None:
        """Begin as Sanic does."""
        super().connection_made(transport)
        limit_room(transport)

    def data_received(self, data: bytes) -> None:
        """Answer at once, or let Sanic do it."""
        if self._writing is not None:
            self._later += data
            if len(self._later) >= WAITING_BYTES_MAX and self.transport is not None:
                self.transport.pause_reading()
            return
        transport, http = self.transport, self._http
        if (
            http is not None
            # Sanic waits for the next request, and not for what is left of the last one's body.
            and http.stage is Stage.IDLE
            and getattr(http, "request", http) is None
            and not self.recv_buffer
            and self._can_write.is_set()
            and transport is not None
            and not transport.is_closing()
            and (head := self._heads.read(data, self.conn_info)) is not None
        ):
            if head.method == "POST":
                begun = self._server.write_quickly(head)
                if begun is not None:
                    self._begin()
                    self._writing = QuickWrite(self, *begun)
                    self._writing.begin()
                    return
            else:
                response = self._server.answer_quickly(head)
                if response is not None:
                    self._begin()
                    write(transport, response, head.method)
                    return
        super().data_received(data)

    def _begin(self) -> None:
        self._time = self.loop.time()  # when Sanic last heard of the client
        self.state["requests_count"] += 1

    def answered(self) -> None:
        """Look at what came while a write was under way, which is answered."""
        self._writing = None
        self._time = self.loop.time()
        later, self._later = self._later, b""
        if len(later) >= WAITING_BYTES_MAX and self.transport is not None:
            self.transport.resume_reading()
        if later:
            self.data_received(later)

    def check_timeouts(self) -> None:
        """Close what is idle too long: a connection with a write under way is not."""
        if self._writing is not None:
            self._time = self.loop.time()
        super().check_timeouts()

    def close_if_idle(self) -> bool:
        """Close the connection unless a request is being answered; say whether."""
        return self._writing is None and super().close_if_idle()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take back a write that has not begun: nobody waits for it."""
        if self._writing is not None:
            self._writing.withdraw()
        super().connection_lost(exc)
