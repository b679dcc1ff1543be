"""CRC-32C and content digests; the one home of google_crc32c."""

from collections.abc import Sequence
from hashlib import blake2b

from google_crc32c import extend

from dvid_es.logs.base import DIGEST_BYTES

crc32c_extend = extend
"""`crc32c_extend(crc, data: bytes) -> int`: the CRC-32C of what `crc` covers followed by `data`."""

# The C function takes bytes only; pieces bound what a copy of another buffer costs.
_PIECE_BYTES = 1 << 18


def crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C of `data`."""
    if isinstance(data, bytes):
        return extend(0, data)
    crc = 0
    for start in range(0, len(data), _PIECE_BYTES):
        crc = extend(crc, bytes(data[start : start + _PIECE_BYTES]))
    return crc


def content_digest(data: bytes | memoryview) -> bytes:
    """Return the digest that names a value by its content."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def first_damaged(
    data: bytes | memoryview,
    starts: Sequence[int],
    lengths: Sequence[int],
    checksums: Sequence[int],
) -> int:
    """Return the place of the first value whose CRC-32C is another one; see `FindDamage`."""
    for place, (at, length, checksum) in enumerate(zip(starts, lengths, checksums, strict=True)):
        value = data[at : at + length]
        if len(value) != length or crc32c(value) != checksum:
            return place
    return -1
