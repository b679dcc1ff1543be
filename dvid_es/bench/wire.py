"""The bytes of DVID's answers turned into arrays, for comparing them. Nothing here is timed."""

import gzip
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import compression, labelblock
from dvid_es.errors import InvalidRequest

MAX_BLOCK_BYTES = 64 * 1024 * 1024


def split_blocks(stream: bytes) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    """Yield the coordinate (XYZ) and the payload of each block of a stream.

    Raises:
        InvalidRequest: the stream is cut off.
    """
    at = 0
    while at < len(stream):
        if at + 16 > len(stream):
            raise InvalidRequest("a block stream is cut off within a header")
        x, y, z, length = struct.unpack_from("<4i", stream, at)
        at += 16
        if length < 0 or at + length > len(stream):
            raise InvalidRequest(f"a block stream is cut off within block {x},{y},{z}")
        yield (x, y, z), stream[at : at + length]
        at += length


def decode_block(payload: bytes, side: int) -> NDArray[np.uint64]:
    """Return the voxels of one gzipped label block, uint64[side, side, side].

    Raises:
        InvalidRequest: it is no such block.
    """
    # Not our own gunzip: an answer is read as a client would, which also checks length and CRC.
    try:
        data = gzip.decompress(payload)
    except (OSError, EOFError) as error:
        raise InvalidRequest(f"a block is not gzip: {error}") from None
    labelblock.validate(data, (side, side, side))
    return labelblock.decode(data)


def decode_stream(stream: bytes, shape_zyx: tuple[int, int, int], side: int) -> NDArray[np.uint64]:
    """Return the volume from the origin that a stream of gzipped label blocks holds.

    Blocks that are not in the stream read as 0.

    Raises:
        InvalidRequest: malformed, a block outside of the volume, or one that comes twice.
    """
    volume = np.zeros(shape_zyx, np.uint64)
    seen = set()
    for at, payload in split_blocks(stream):
        x, y, z = (side * axis for axis in at)
        if (
            at in seen
            or min(at) < 0
            or any(a >= n for a, n in zip((z, y, x), shape_zyx, strict=True))
        ):
            raise InvalidRequest(f"block {at} came twice or was not asked for")
        seen.add(at)
        volume[z : z + side, y : y + side, x : x + side] = decode_block(payload, side)
    return volume


def decode_raw(body: bytes, shape_zyx: tuple[int, int, int], compressed: str) -> NDArray[np.uint64]:
    """Return the voxels of a `raw` answer.

    Args:
        body: as it came.
        shape_zyx: what was asked for.
        compressed: "", "lz4" or "gzip".

    Raises:
        InvalidRequest: it does not hold that many voxels.
    """
    size = 8 * shape_zyx[0] * shape_zyx[1] * shape_zyx[2]
    if compressed == "lz4":
        body = compression.lz4_block_decompress(body, size)
    elif compressed == "gzip":
        body = compression.gzip_decompress(body, size)
    if len(body) != size:
        raise InvalidRequest(f"raw voxels: {len(body)} bytes came where {size} were asked for")
    return np.frombuffer(body, "<u8").reshape(shape_zyx)


def decode_runs(body: bytes) -> NDArray[np.int32]:
    """Return the runs of a sparse volume (format rles) as int32[n, 4] of x, y, z, length.

    Raises:
        InvalidRequest: header and length disagree.
    """
    if not body:
        return np.zeros((0, 4), np.int32)
    if len(body) < 12:
        raise InvalidRequest("a sparse volume is shorter than its header")
    (spans,) = struct.unpack_from("<I", body, 8)
    if body[:4] != b"\0\3\0\0" or len(body) != 12 + 16 * spans:
        raise InvalidRequest(f"a sparse volume of {len(body)} bytes claims {spans} runs")
    return np.frombuffer(body, "<i4", offset=12).reshape(-1, 4)


def decode_index(body: bytes) -> tuple[int, dict[int, dict[int, int]]]:
    """Return the body and, by block key, {supervoxel: voxels} of a LabelIndex message.

    Raises:
        InvalidRequest: not such a message.
    """
    label, index = 0, {}
    for field, value in _fields(body):
        if field == 2 and isinstance(value, int):
            label = value
        elif field == 1 and isinstance(value, bytes):
            entry = dict(_fields(value))
            counts: dict[int, int] = {}
            for inner, pair in _fields(_bytes(entry.get(2, b""))):
                if inner == 1:
                    fields = dict(_fields(_bytes(pair)))
                    counts[_number(fields.get(1, 0))] = _number(fields.get(2, 0))
            index[_number(entry.get(1, 0))] = counts
    return label, index


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidRequest("a protobuf field is a number where a message was expected")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise InvalidRequest("a protobuf field is a message where a number was expected")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message (varints and bytes only)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and at + value <= len(message):
            yield tag >> 3, message[at : at + value]
            at += value
        else:
            raise InvalidRequest(f"a protobuf message has a damaged field at byte {at}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise InvalidRequest("a protobuf message is cut off")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
