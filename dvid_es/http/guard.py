"""Refuses what HTTP/1.1 does not allow in the head of a request, before anything acts on it.

Sanic alone lets through a space before the colon of Content-Length, digits of other scripts, NUL in
values, and more than one Host: what two programs in a row may read differently. Raw `<>"^{|}` and
`%00` in a target pass, as they do in DVID.
"""

import re
from typing import Any

from sanic import Request
from sanic.exceptions import BadRequest

_HEAD = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH)"
    rb" (?:\*|(?:https?://[A-Za-z0-9._:\[\]-]++)?/[!-~]*+)"
    rb" HTTP/1\.[01]"
    rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+)*+\Z"
)
_FRAMING = re.compile(rb"\r\n(host|content-length|transfer-encoding):([^\r\n]*)", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]{1,15}\Z")


def check_head(head: bytes) -> None:
    """Refuse a request head (without the empty line at its end) that is not well-formed.

    Raises:
        BadRequest: what is wrong with it.
    """
    if not _HEAD.match(head):
        raise BadRequest("Bad Request: the head of the request is not well-formed")
    hosts = 0
    for name, value in _FRAMING.findall(head):
        kind = name.lower()
        value = value.strip(b" \t")
        if kind == b"host":
            hosts += 1
        elif kind == b"content-length":
            if not _DIGITS.match(value):
                raise BadRequest("Bad Request: Content-Length is not a number")
        elif value != b"chunked":
            raise BadRequest("Bad Request: chunked is the only Transfer-Encoding")
    line = head.partition(b"\r\n")[0]
    if hosts > 1 or (not hosts and line.endswith(b"1.1")):
        raise BadRequest("Bad Request: one Host is needed")
    if line.endswith(b"1.0") and b"\r\ntransfer-encoding:" in head.lower():
        raise BadRequest("Bad Request: HTTP/1.0 has no Transfer-Encoding")


class GuardedRequest(Request):
    """A request whose head is well-formed."""

    def __init__(
        self,
        url_bytes: bytes,
        headers: Any,
        version: str,
        method: str,
        transport: Any,
        app: Any,
        head: bytes = b"",
        stream_id: int = 0,
    ) -> None:
        """Check the head.

        Sanic makes a request without a head to answer what it could not read; the target that it gives
        may be what could not be read, and would fail again.
        """
        if head:
            check_head(head)
        else:
            url_bytes = b"/"
        super().__init__(url_bytes, headers, version, method, transport, app, head, stream_id)
