"""Many values in one answer: a JSON object or a protobuf message (a tar file: `codecs/tar.py`).

Each is an iterator of pieces over (key, value); a missing value is an empty one.
Source: keyvalues and keyrangevalues in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from dvid_es.codecs import gojson, tar
from dvid_es.errors import InvalidRequest
from dvid_es.http.node import JSON, OCTETS, TAR, NodeRequest
from dvid_es.http.streaming import send_made

Pairs = Iterable[tuple[str, bytes]]


def output_of(request: NodeRequest) -> str:
    """Return the form that options ask for: "tar", "json" or "protobuf".

    Raises:
        InvalidRequest: two forms at once.
    """
    archive = request.flag("tar") or request.flag("jsontar")
    if archive and request.flag("json"):
        raise InvalidRequest("can only specify tar or json output, not both")
    return "tar" if archive else "json" if request.flag("json") else "protobuf"


async def send_pairs(request: NodeRequest, kind: str, pairs: Pairs) -> Any:
    """Answer with many values in a form that `output_of` names."""
    if kind == "json":
        return await send_made(request, json_pieces(pairs), JSON)
    if kind == "tar":
        return await send_made(request, tar.write(pairs), TAR)
    return await send_made(request, protobuf_pieces(pairs), OCTETS)


def json_pieces(pairs: Pairs) -> Iterator[bytes]:
    """Iterate over a JSON object: values as they are stored, `{}` for an empty one."""
    before = b"{"
    for key, value in pairs:
        yield b"%s%s:" % (before, json.dumps(key, ensure_ascii=False).encode())
        yield value or b"{}"
        before = b","
    yield b"{}" if before == b"{" else b"}"


def protobuf_pieces(pairs: Pairs) -> Iterator[bytes]:
    """Iterate over a `KeyValues` message: fields that are empty are left out."""
    for key, value in pairs:
        name = key.encode()
        inner = b"\x0a" + _varint(len(name)) + name if name else b""
        if value:
            inner += b"\x12" + _varint(len(value))
        yield b"\x0a" + _varint(len(inner) + len(value)) + inner
        yield value


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def key_list_pieces(keys: Iterable[str]) -> Iterator[bytes]:
    """Iterate over a JSON array of texts, escaped as Go does it."""
    before = b"["
    for key in keys:
        yield before + gojson.string(key).encode()
        before = b","
    yield b"[]" if before == b"[" else b"]"
