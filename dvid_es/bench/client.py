"""One persistent HTTP/1.1 connection that costs as little as Python allows.

The clock runs from the first byte sent to the last byte received. The receive buffer is kept from
answer to answer, so that a body of 134 MB costs no page faults while it is timed. The operating system
itself watches over timeouts: Python would ask it before each call whether that would wait.
"""

import select
import socket
import struct
import time
from urllib.parse import urlsplit

from dvid_es.bench.answer import AnswerReader

SEND_TOGETHER = 64 * 1024
RECEIVE_AT_MOST = 4 * 1024 * 1024


class Address:
    """Where a server listens."""

    def __init__(self, url: str) -> None:
        """Take `http://host:port`; a path is refused.

        Raises:
            ValueError: not such a URL.
        """
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(
                f"{url!r} is not the base of a DVID server, like http://127.0.0.1:8000"
            )
        self.host = parts.hostname
        self.port = parts.port or 80
        self.netloc = f"{self.host}:{self.port}" if ":" not in self.host else parts.netloc

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a new connection without Nagle's delay."""
        connection = socket.create_connection((self.host, self.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def head(self, method: str, target: str, length: int = 0, kind: str = "") -> bytes:
        """Return the head of a request; `length` is that of its body in bytes."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.netloc}"]
        if length or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {length}")
            lines.append(f"Content-Type: {kind or 'application/octet-stream'}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def request(self, method: str, target: str, body: bytes = b"", kind: str = "") -> bytes:
        """Return a whole request as bytes."""
        return self.head(method, target, len(body), kind) + body


class Answer:
    """A complete answer; its body may be taken until the connection is used again."""

    def __init__(self, connection: "Connection", reader: AnswerReader, seconds: float) -> None:
        """Remember where the body lies in the connection's buffer."""
        self.status = reader.status
        self.seconds = seconds
        self.length = reader.body_length()
        self._spans = reader.spans
        self._connection = connection
        self._turn = connection.turn

    def body(self) -> bytes:
        """Return the body, copied out of the buffer.

        Raises:
            RuntimeError: the connection was used again since.
        """
        if self._turn != self._connection.turn:
            raise RuntimeError("the body of an answer was wanted after the next request")
        with memoryview(self._connection.buffer) as view:
            return b"".join([view[start:stop] for start, stop in self._spans])


def _leave_timeouts_to_the_system(connection: socket.socket, seconds: float) -> None:
    connection.settimeout(None)
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, direction, limit)


class Connection:
    """Sends requests one after the other over one socket."""

    def __init__(self, address: Address, timeout_s: float = 600.0) -> None:
        """Open nothing yet; the socket is made at the first request."""
        self.turn = 0
        self.buffer = bytearray(1 << 20)
        self._address = address
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def send(self, method: str, target: str, body: bytes = b"", kind: str = "") -> Answer:
        """Send one request and return its complete answer, whatever its status.

        Raises:
            OSError: the server cannot be reached or hung up.
            MalformedAnswer: its answer is no HTTP.
        """
        connection = self._ready()
        head = self._address.head(method, target, len(body), kind)
        self.turn += 1
        reader = AnswerReader()
        started = time.perf_counter()
        try:
            if len(body) <= SEND_TOGETHER:
                connection.sendall(head + body)
            else:
                self._send_large(connection, head, body)
            seconds = self._receive(connection, reader) - started
        except BlockingIOError:
            raise TimeoutError(f"nothing came or went for {self._timeout_s:g} s") from None
        if reader.closes:
            self.close()
        return Answer(self, reader, seconds)

    def close(self) -> None:
        """Close the socket; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ready(self) -> socket.socket:
        # A server may have closed an idle connection: it is then readable before we asked anything.
        # A request is never sent twice, for it may be a mutation.
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()
        if self._socket is None:
            self._socket = self._address.connect(self._timeout_s)
            _leave_timeouts_to_the_system(self._socket, self._timeout_s)
        return self._socket

    def _send_large(self, connection: socket.socket, head: bytes, body: bytes) -> None:
        try:
            connection.sendall(head)
            connection.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body may answer and hang up before it has read all of it.
            pass

    def _receive(self, connection: socket.socket, reader: AnswerReader) -> float:
        """Read an answer to its end; return when that came."""
        filled = 0
        while True:
            wanted = max(reader.expected(), filled + 1)
            if wanted > len(self.buffer):
                self.buffer.extend(bytes(max(wanted, 2 * len(self.buffer)) - len(self.buffer)))
            with memoryview(self.buffer) as view:
                got = connection.recv_into(view[filled : filled + RECEIVE_AT_MOST])
            received = time.perf_counter()
            filled += got
            if reader.feed(self.buffer, filled, ended=not got):
                return received
