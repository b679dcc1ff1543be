"""The 128-bit FNV-1 hash, which names DVID's blobs. Not cryptographic.

Source: hash/fnv of Go's library, as used by storage/blobstore (janelia-flyem/dvid).
"""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import kernel, u8, u64_out

_OFFSET_HIGH = np.uint64(0x6C62272E07BB0142)
_OFFSET_LOW = np.uint64(0x62B821756295C58D)
# The prime is 2**88 + 0x13B: of its product, the first part only reaches the upper half.
_PRIME = np.uint64(0x13B)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(24)


@kernel(types.void(u8, u64_out))
def _fnv1_128(data, out):  # pragma: no cover
    high, low = _OFFSET_HIGH, _OFFSET_LOW
    for byte in data:
        bottom = (low & _LOW_HALF) * _PRIME
        top = (low >> _HALF) * _PRIME + (bottom >> _HALF)
        high = high * _PRIME + (top >> _HALF) + (low << _SHIFT)
        low = ((top << _HALF) | (bottom & _LOW_HALF)) ^ np.uint64(byte)
    out[0] = high
    out[1] = low


def fnv1_128(data: bytes | memoryview) -> bytes:
    """Return the hash as 16 bytes, big endian."""
    out = np.empty(2, np.uint64)
    _fnv1_128(np.frombuffer(data, np.uint8), out)
    return out.astype(">u8").tobytes()
