"""Snappy's block format, in which DVID can store values: a length, then literals and copies.

Source: format_description.txt of google/snappy; DVID has golang/snappy.
"""

import numpy as np

from dvid_es.codecs import snappy_kernels as kernels
from dvid_es.codecs.compression import Buffer
from dvid_es.errors import InvalidRequest

_MAX = 0xFFFFFFFF


def compress(data: Buffer) -> bytes:
    """Return bytes as a Snappy block.

    Raises:
        InvalidRequest: more than 4 GiB.
    """
    size = len(data)
    if size > _MAX:
        raise InvalidRequest(f"{size} bytes do not fit one Snappy block")
    out = np.empty(32 + size + size // 6, np.uint8)
    used = kernels.compress(np.frombuffer(data, np.uint8), out)
    return _varint(size) + out[:used].tobytes()


def decompress(data: Buffer, size: int) -> bytes:
    """Return the `size` bytes of a Snappy block.

    Raises:
        InvalidRequest: damaged, or of another size.
    """
    raw = np.frombuffer(data, np.uint8)
    found, at = _read_varint(data)
    if found != size:
        raise InvalidRequest(f"Snappy data have {found} bytes and not {size}")
    out = np.empty(size, np.uint8)
    if not kernels.decompress(raw, at, out):
        raise InvalidRequest("Snappy data are damaged")
    return out.tobytes()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: Buffer) -> tuple[int, int]:
    """Return a number and where it ends."""
    number = 0
    for place, byte in enumerate(bytes(data[:5])):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, place + 1
    raise InvalidRequest("Snappy data do not begin with their length")
