"""Kernels of Snappy's block format. Source: format_description.txt of google/snappy."""

from typing import Any

import numpy as np
from numba import types

from dvid_es.codecs.kernel import kernel, u8, u8_out

FRAGMENT = 1 << 16
"""Bytes that are compressed by themselves: offsets within them fit 16 bits."""

TABLE_BITS = 14


@kernel(types.uint32(u8, types.int64))
def _word(data: Any, at: Any) -> Any:
    low = np.uint32(data[at]) | np.uint32(data[at + 1]) << np.uint32(8)
    return np.uint32(
        low | np.uint32(data[at + 2]) << np.uint32(16) | np.uint32(data[at + 3]) << np.uint32(24)
    )


@kernel(types.int64(u8, types.int64, types.int64, u8_out, types.int64))
def _literal(data: Any, start: Any, stop: Any, out: Any, size: Any) -> Any:
    length = stop - start
    if length == 0:
        return size
    if length <= 60:
        out[size] = (length - 1) << 2
        size += 1
    elif length <= 256:
        out[size] = 60 << 2
        out[size + 1] = length - 1
        size += 2
    else:  # a fragment has at most 65,536 bytes
        out[size] = 61 << 2
        out[size + 1] = (length - 1) & 255
        out[size + 2] = (length - 1) >> 8
        size += 3
    out[size : size + length] = data[start:stop]
    return size + length


@kernel(types.int64(types.int64, types.int64, u8_out, types.int64))
def _copy(offset: Any, length: Any, out: Any, size: Any) -> Any:
    while length > 0:
        # What is left over must not be shorter than the 4 bytes of a copy with a short offset.
        part = 64 if length >= 68 else (60 if length > 64 else length)
        if part < 12 and part >= 4 and offset < 2048:
            out[size] = ((offset >> 8) << 5) | ((part - 4) << 2) | 1
            out[size + 1] = offset & 255
            size += 2
        else:
            out[size] = ((part - 1) << 2) | 2
            out[size + 1] = offset & 255
            out[size + 2] = offset >> 8
            size += 3
        length -= part
    return size


@kernel(types.int64(u8, u8_out))
def compress(data: Any, out: Any) -> int:
    """Write the elements of uint8[n] and return how many bytes they are; `out` has room for the worst."""
    table = np.zeros(1 << TABLE_BITS, np.int64)
    n = len(data)
    size = 0
    for first in range(0, n, FRAGMENT):
        stop = min(n, first + FRAGMENT)
        table[:] = first - 1
        at = first
        literal = first
        skip = 32
        while at + 4 <= stop:
            word = _word(data, at)
            slot = np.int64(np.uint32(word * np.uint32(0x1E35A7BD)) >> np.uint32(32 - TABLE_BITS))
            before = table[slot]
            table[slot] = at
            if before < first or _word(data, before) != word:
                at += skip >> 5  # the longer nothing is found, the larger the steps
                skip += 1
                continue
            length = 4
            while at + length < stop and data[before + length] == data[at + length]:
                length += 1
            size = _literal(data, literal, at, out, size)
            size = _copy(at - before, length, out, size)
            at += length
            literal = at
            skip = 32
        size = _literal(data, literal, stop, out, size)
    return size


@kernel(types.int64(u8, types.int64, u8_out))
def decompress(data: Any, at: Any, out: Any) -> int:
    """Fill uint8[n] `out` from the elements in uint8 `data` from `at` on; 0 if they do not fit, else 1."""
    end, full = len(data), len(out)
    size = 0
    while at < end:
        tag = np.int64(data[at])
        at += 1
        kind = tag & 3
        if kind == 0:
            length = int(tag >> 2)
            if length >= 60:
                extra = length - 59
                if at + extra > end:
                    return 0
                length = 0
                for i in range(extra):
                    length |= int(data[at + i]) << (8 * i)
                at += extra
            length += 1
            if at + length > end or size + length > full:
                return 0
            out[size : size + length] = data[at : at + length]
            at += length
            size += length
            continue
        wide = 1 if kind == 1 else (2 if kind == 2 else 4)
        if at + wide > end:
            return 0
        offset = np.int64(0)
        for i in range(wide):
            offset |= np.int64(data[at + i]) << (8 * i)
        at += wide
        if kind == 1:
            length = 4 + (int(tag >> 2) & 7)
            offset |= (tag >> 5) << 8
        else:
            length = 1 + int(tag >> 2)
        if offset == 0 or offset > size or size + length > full:
            return 0
        for i in range(length):
            out[size + i] = out[size + i - offset]
        size += length
    return 1 if size == full else 0
