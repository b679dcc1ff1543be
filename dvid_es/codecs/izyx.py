"""Block coordinates as keys: two encodings that look alike and are not.

- the *packed key* of a label index: z, y, x in 21 bits each of a u64, as sign and magnitude;
- *IZYX* of DVID's store: z, y, x as big-endian int32 with the sign bit flipped, 12 bytes that sort
  like the coordinates.

Source: EncodeBlockIndex and DecodeBlockIndex in datatype/common/labels, IndexZYX in dvid/index.go
(janelia-flyem/dvid).
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.errors import InvalidRequest

Coords = NDArray[np.int32]
Keys = NDArray[np.uint64]
Triple = tuple[int, int, int]

LIMIT = 2**20 - 1
"""Largest magnitude of a block coordinate in a packed key."""

IZYX_LENGTH = 12

_NEGATIVE = 1 << 20
_IZYX = struct.Struct(">III")
_FLIP = 0x80000000
_SHIFTS = np.array((42, 21, 0), np.uint64)


def pack_keys(coords_zyx: NDArray[np.integer]) -> Keys:
    """Return the packed keys uint64[n] of int[n, 3] block coordinates.

    Raises:
        InvalidRequest: a coordinate is beyond LIMIT.
    """
    magnitude = np.abs(coords_zyx.astype(np.int64))
    if magnitude.size and magnitude.max() > LIMIT:
        raise InvalidRequest(f"a block coordinate is beyond the {LIMIT} that label indices hold")
    fields = (magnitude | (coords_zyx < 0) * _NEGATIVE).astype(np.uint64)
    return np.bitwise_or.reduce(fields << _SHIFTS, axis=1)


def unpack_keys(keys: Keys) -> Coords:
    """Return the block coordinates int32[n, 3], ZYX, of packed keys uint64[n].

    Raises:
        InvalidRequest: the highest bit, which no coordinate uses, is set.
    """
    if keys.size and int(keys.max()) >> 63:
        raise InvalidRequest(f"{int(keys.max())} is not the key of a block: its top bit is set")
    fields = (keys[:, None] >> _SHIFTS).astype(np.int64) & (2 * _NEGATIVE - 1)
    magnitude = fields & LIMIT
    return np.where(fields & _NEGATIVE, -magnitude, magnitude).astype(np.int32)


def pack_key(block_zyx: Triple) -> int:
    """Return the packed key of one block.

    Raises:
        InvalidRequest: a coordinate is beyond LIMIT.
    """
    key = 0
    for coordinate in block_zyx:
        if abs(coordinate) > LIMIT:
            raise InvalidRequest(f"block coordinate {coordinate} is beyond {LIMIT}")
        key = key << 21 | abs(coordinate) | (_NEGATIVE if coordinate < 0 else 0)
    return key


def unpack_key(key: int) -> Triple:
    """Return the block, ZYX, of a packed key.

    Raises:
        InvalidRequest: not below 2**63.
    """
    if not 0 <= key < 1 << 63:
        raise InvalidRequest(f"{key} is not the key of a block: its top bit is set")
    fields = (key >> 42, key >> 21, key)
    z, y, x = (-(f & LIMIT) if f & _NEGATIVE else f & LIMIT for f in fields)
    return z, y, x


def encode_izyx(block_zyx: Triple) -> bytes:
    """Return the 12 sortable bytes of an int32 block coordinate."""
    z, y, x = block_zyx
    return _IZYX.pack(z + _FLIP, y + _FLIP, x + _FLIP)


def decode_izyx(data: bytes | memoryview) -> Triple:
    """Return the block, ZYX, of 12 sortable bytes."""
    z, y, x = _IZYX.unpack(data)
    return z - _FLIP, y - _FLIP, x - _FLIP


def encode_izyx_all(coords_zyx: NDArray[np.integer]) -> list[bytes]:
    """Return the 12 sortable bytes of each of int[n, 3] block coordinates."""
    data = (coords_zyx.astype(np.int64) + _FLIP).astype(">u4").tobytes()
    return [data[i : i + IZYX_LENGTH] for i in range(0, len(data), IZYX_LENGTH)]


def decode_izyx_all(keys: Sequence[bytes | memoryview] | bytes) -> Coords:
    """Return int32[n, 3] block coordinates, ZYX, of many 12-byte keys, joined or in a list."""
    data = keys if isinstance(keys, bytes) else b"".join(keys)
    return (np.frombuffer(data, ">u4").astype(np.int64) - _FLIP).astype(np.int32).reshape(-1, 3)
