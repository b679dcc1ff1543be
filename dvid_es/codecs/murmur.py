"""The 32-bit MurmurHash3 of labels, which gives each a colour.

Source: Austin Appleby's MurmurHash3_x86_32, in the public domain; handlePseudocolor in
datatype/labelmap/handlers.go (janelia-flyem/dvid).
"""

import numpy as np
from numba import types
from numpy.typing import NDArray

from dvid_es.codecs.kernel import helper, kernel, u8_out, u64

# uint64 throughout, cut to 32 bits where a product or a shift may have left more.
_LOW = np.uint64(0xFFFFFFFF)
_C1, _C2 = np.uint64(0xCC9E2D51), np.uint64(0x1B873593)
_FIVE, _ADDED = np.uint64(5), np.uint64(0xE6546B64)
_MIX1, _MIX2 = np.uint64(0x85EBCA6B), np.uint64(0xC2B2AE35)
_8, _13, _15, _16 = np.uint64(8), np.uint64(13), np.uint64(15), np.uint64(16)
_17, _19, _24, _32 = np.uint64(17), np.uint64(19), np.uint64(24), np.uint64(32)


@helper
def _take_in(state, word):
    word = word * _C1 & _LOW
    word = (word << _15 | word >> _17) & _LOW
    state ^= word * _C2 & _LOW
    state = (state << _13 | state >> _19) & _LOW
    return (state * _FIVE + _ADDED) & _LOW


@helper
def hash_label(label):
    """Return the hash, with seed 0, of the 8 bytes of a u64, lowest first."""
    state = _take_in(_take_in(np.uint64(0), label & _LOW), label >> _32)
    state ^= _8  # the number of bytes
    state ^= state >> _16
    state = state * _MIX1 & _LOW
    state ^= state >> _13
    state = state * _MIX2 & _LOW
    return state ^ state >> _16


@kernel(types.void(u64, u8_out))
def _colours(labels, out):  # pragma: no cover
    for i in range(len(labels)):
        if i == 0 or labels[i] != labels[i - 1]:
            state = hash_label(labels[i])
        out[3 * i] = np.uint8(state >> _24)
        out[3 * i + 1] = np.uint8(state >> _16 & np.uint64(0xFF))
        out[3 * i + 2] = np.uint8(state >> _8 & np.uint64(0xFF))


def colours(labels: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the colours uint8[height, width, 3] of labels uint64[height, width].

    Red, green and blue are the upper three bytes of the hash; 0 has a colour like any other label.
    """
    out = np.empty((*labels.shape, 3), np.uint8)
    _colours(np.ascontiguousarray(labels).reshape(-1), out.reshape(-1))
    return out
