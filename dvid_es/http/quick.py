"""A short way for small reads: one packet in, one answer out, without a task and without Sanic's objects.

Sanic takes some 30 us for a request, as long as DVID takes for all of it. So a connection that waits
for its next request looks at what comes. If that is one whole, plain GET or HEAD, and its handler is
marked `quick`, the answer is made and written at once. Whatever else it is, or comes to, is handed to
Sanic as it came: the long way is the only one that refuses, streams, waits or closes.

A `quick` handler is a plain function that changes nothing and takes less than a millisecond. If it returns
an awaitable or raises, it is called again on the long way.
"""

import re
from typing import TYPE_CHECKING, Any

from sanic.compat import Header
from sanic.exceptions import BadRequest
from sanic.http.constants import Stage
from sanic.models.server_types import ConnInfo
from sanic.response import HTTPResponse
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from dvid_es.http.guard import check_head
from dvid_es.http.headers import encoded_head

if TYPE_CHECKING:
    from dvid_es.http.app import Server

HEAD_BYTES_MAX = 8192
KNOWN_MAX = 512
"""Blocks of header lines that are remembered: a client sends the same ones with every request."""

# Fewer characters than the guard lets through: none that any reader of URLs stumbles over.
_LINE = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9._~:/?&=,;@!$'()*+%-]*+) HTTP/1\.1")
_LONG_WAY = frozenset({"content-length", "transfer-encoding", "expect", "upgrade", "trailer", "te"})


class Head:
    """What a quick handler may look at of a request; anything else leads to the long way."""

    __slots__ = ("conn_info", "headers", "method", "target")

    def __init__(
        self, method: str, target: str, headers: Header, conn_info: ConnInfo | None
    ) -> None:
        """Keep the parts of a head that was read whole."""
        self.method = method
        self.target = target
        """Path and query, as they came."""
        self.headers = headers
        """Shared by requests with the same lines: not to be changed."""
        self.conn_info = conn_info

    @property
    def ip(self) -> str:
        """Address of the other side; "" if it has none."""
        return self.conn_info.client_ip if self.conn_info else ""


def plain_headers(block: bytes) -> Header | None:
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
    for line in block[2:-4].decode(errors="surrogateescape").split("\r\n"):
        name, _, value = line.partition(":")
        name, value = name.lower(), value.lstrip()
        if name in _LONG_WAY or (name == "connection" and value.lower() != "keep-alive"):
            return None
        headers.append((name, value))
    return Header(headers)


class Heads:
    """Reads heads of requests; remembers blocks of header lines."""

    def __init__(self, bytes_max: int) -> None:
        """Read heads of up to `bytes_max` bytes and of no more than what is plain."""
        self.bytes_max = min(bytes_max, HEAD_BYTES_MAX)
        self._known: dict[bytes, Header | None] = {}

    def read(self, data: bytes, conn_info: ConnInfo | None = None) -> Head | None:
        """Return the head that `data` is, or None if it is anything else, or more, or less."""
        if len(data) > self.bytes_max:
            return None
        end = data.find(b"\r\n")
        line = _LINE.fullmatch(data, 0, end)
        if line is None:
            return None
        block = data[end:]
        known = self._known
        if block in known:
            headers = known[block]
        else:
            headers = plain_headers(block)
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[block] = headers
        if headers is None:
            return None
        return Head(line[1].decode(), line[2].decode(), headers, conn_info)


def encoded(response: HTTPResponse, method: str) -> bytes:
    """Return an answer as Sanic writes it; its status is one that comes with a body."""
    body = response.body or b""
    headers = response.headers
    if method == "GET" or "content-length" not in headers:
        headers["content-length"] = len(body)
    headers["connection"] = "keep-alive"
    head = encoded_head(response)
    return head + body if method == "GET" else head


class QuickProtocol(WebSocketProtocol):
    """Sanic's protocol of one connection, with the short way in front."""

    __slots__ = ("_heads", "_server")

    def __init__(self, **named: Any) -> None:
        """Set up as Sanic does; the application knows its server."""
        super().__init__(**named)
        self._http = None  # until the connection's task begins
        self._server: Server = self.app.ctx.server
        self._heads: Heads = self.app.ctx.heads

    def data_received(self, data: bytes) -> None:
        """Answer at once, or let Sanic do it."""
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
        ):
            head = self._heads.read(data, self.conn_info)
            response = None if head is None else self._server.answer_quickly(head)
            if head is not None and response is not None:
                self._time = self.loop.time()  # when Sanic last heard of the client
                self.state["requests_count"] += 1
                transport.write(encoded(response, head.method))
                return
        super().data_received(data)
