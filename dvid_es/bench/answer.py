"""Reading one HTTP/1.1 answer out of a buffer that fills step by step.

The reader only notes where the pieces of the body lie; nothing is copied until somebody wants the
body. So what a client does while the clock runs is little more than `recv`.
"""

from functools import lru_cache

HEAD_END = b"\r\n\r\n"
CHUNKED = -1
"""Stands for the length of a body that comes in chunks."""

UNTIL_CLOSE = -2
"""Stands for the length of a body that ends with the connection."""


class MalformedAnswer(Exception):
    """The server sent something that is no HTTP/1.1 answer."""


@lru_cache(maxsize=4096)
def parse_head(head: bytes) -> tuple[int, int, bool]:
    """Return status, body length (bytes, CHUNKED or UNTIL_CLOSE) and whether the server closes.

    Args:
        head: the status line and the headers, without the empty line.

    Raises:
        MalformedAnswer: no status line, or a length that is no number.
    """
    status_line, _, rest = head.partition(b"\r\n")
    words = status_line.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise MalformedAnswer(f"not a status line: {status_line[:80]!r}")
    status = int(words[1])
    length, closes = UNTIL_CLOSE, words[0] == b"HTTP/1.0"
    for line in rest.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip().lower()
        if name == b"content-length":
            if not value.isdigit():
                raise MalformedAnswer(f"not a length: {line[:80]!r}")
            length = int(value) if length != CHUNKED else length
        elif name == b"transfer-encoding" and value == b"chunked":
            length = CHUNKED
        elif name == b"connection":
            closes = value == b"close"
    if status in (204, 304):
        length = 0
    return status, length, closes or length == UNTIL_CLOSE


class AnswerReader:
    """Follows one answer in a buffer; `feed` after each `recv`."""

    def __init__(self) -> None:
        """Begin before the first byte of the head."""
        self.status = 0
        self.closes = False
        self.spans: list[tuple[int, int]] = []
        self.length = UNTIL_CLOSE
        self._body_start = -1
        self._next_chunk = -1

    def feed(self, buffer: bytearray, filled: int, *, ended: bool = False) -> bool:
        """Look at the first `filled` bytes of `buffer` and say whether the answer is complete.

        Args:
            buffer: all bytes since the beginning of the answer.
            filled: how many of them are valid.
            ended: the server closed the connection.

        Raises:
            MalformedAnswer: wrong bytes, or the connection ended too early.
        """
        done = self._has_head(buffer, filled) and self._has_body(buffer, filled, ended)
        if ended and not done:
            raise MalformedAnswer(f"the connection was closed within an answer ({filled} bytes)")
        return done

    def expected(self) -> int:
        """Return the bytes of the whole answer if its head tells, else 0."""
        return self._body_start + self.length if self.length >= 0 else 0

    def body_length(self) -> int:
        """Return the bytes of the body of a complete answer."""
        return sum(stop - start for start, stop in self.spans)

    def _has_head(self, buffer: bytearray, filled: int) -> bool:
        while self._body_start < 0:
            end = buffer.find(HEAD_END, 0, filled)
            if end < 0:
                return False
            self.status, self.length, self.closes = parse_head(bytes(buffer[:end]))
            self._body_start = self._next_chunk = end + len(HEAD_END)
        return True

    def _has_body(self, buffer: bytearray, filled: int, ended: bool) -> bool:
        if self.length == CHUNKED:
            return self._has_last_chunk(buffer, filled)
        if self.length == UNTIL_CLOSE:
            self.spans = [(self._body_start, filled)]
            return ended
        self.spans = [(self._body_start, self._body_start + self.length)]
        return filled >= self._body_start + self.length

    def _has_last_chunk(self, buffer: bytearray, filled: int) -> bool:
        while self._next_chunk < filled:
            start = self._next_chunk
            line_end = buffer.find(b"\r\n", start, min(filled, start + 64))
            if line_end < 0:
                if filled - start >= 64:
                    raise MalformedAnswer(f"not a chunk: {bytes(buffer[start : start + 20])!r}")
                return False
            try:
                size = int(bytes(buffer[start:line_end]).split(b";")[0], 16)
            except ValueError as error:
                raise MalformedAnswer(f"not a chunk: {bytes(buffer[start:line_end])!r}") from error
            data = line_end + 2
            if size == 0:
                # Trailers are not used by any DVID; the empty line after the last chunk ends all.
                return filled >= data + 2
            self.spans.append((data, data + size))
            self._next_chunk = data + size + 2
        return False
