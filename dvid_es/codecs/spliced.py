"""One gzip member, or one LZ4 block, out of parts that were compressed apart, side by side.

A gzip member is joined from deflate streams that end on a byte, and their CRCs are combined. An LZ4
block ends in literals without a match, which are carried over into the first sequence of the next.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from isal import isal_zlib
from numba import types

from dvid_es.codecs.compression import LEVEL, LZ4_MAX_INPUT, crc32, lz4_block_compress
from dvid_es.codecs.kernel import kernel, u8
from dvid_es.codecs.storedblock_kernels import multiply, shift_operator
from dvid_es.errors import InvalidRequest

Buffer = bytes | memoryview

_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"
_LAST_BLOCK = b"\x03\0"
"""A final deflate block without content."""


class GzipPart(NamedTuple):
    """Some of the content of a gzip member."""

    deflated: bytes
    crc: int
    length: int
    """Bytes of content."""


@kernel(types.int64(types.int64, types.int64, types.int64))
def combined_crc(before, after, operator):
    """Return the CRC-32 of two pieces; `operator` is the shift of the second one's length."""
    return multiply(operator, before) ^ after


def gzip_part(data: Buffer) -> GzipPart:
    """Return a part whose deflate stream goes on: it ends on a byte and is not the last block."""
    stream = isal_zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    deflated = stream.compress(data) + stream.flush(isal_zlib.Z_FULL_FLUSH)
    return GzipPart(deflated, crc32(data), len(data))


class GzipJoiner:
    """Joins the parts of one gzip member, in their order."""

    def __init__(self) -> None:
        """Begin a member."""
        self._crc = 0
        self._length = 0

    def add(self, part: GzipPart) -> list[Buffer]:
        """Return the bytes of the next part."""
        head: list[Buffer] = [] if self._length else [_GZIP_HEAD]
        self._crc = combined_crc(self._crc, part.crc, shift_operator(part.length))
        self._length += part.length
        return [*head, part.deflated]

    def end(self) -> list[Buffer]:
        """Return the last bytes."""
        return [_LAST_BLOCK, struct.pack("<II", self._crc, self._length & 0xFFFFFFFF)]


class Lz4Part(NamedTuple):
    """Some of the content of an LZ4 block, compressed as a block of its own."""

    block: bytes
    first: tuple[int, int]
    """Place and number of the literals of the first sequence."""

    last: int
    """Where the last sequence begins, which has no match."""

    length: int
    """Bytes of content."""


@kernel(types.int64(u8))
def last_sequence(data):
    """Return where the last sequence of an LZ4 block begins; the block is our own."""
    at = 0
    end = len(data)
    while True:
        start = at
        literals = np.int64(data[at]) >> 4
        match = np.int64(data[at]) & 15
        at += 1
        if literals == 15:
            while True:
                more = np.int64(data[at])
                at += 1
                literals += more
                if more != 255:
                    break
        at += literals
        if at >= end:
            return start
        at += 2
        if match == 15:
            while data[at] == 255:
                at += 1
            at += 1


def lz4_part(data: Buffer) -> Lz4Part:
    """Return a part of an LZ4 block."""
    block = lz4_block_compress(data)
    return lz4_part_of(block, last_sequence(np.frombuffer(block, np.uint8)), len(data))


def lz4_part_of(block: bytes, last: int, length: int) -> Lz4Part:
    """Return a block of `length` bytes of content, whose last sequence begins at `last`, as a part."""
    return Lz4Part(block, _literals(block, 0), last, length)


class Lz4Joiner:
    """Joins the parts of one LZ4 block, in their order."""

    def __init__(self, length: int) -> None:
        """Begin a block of `length` bytes of content.

        Raises:
            InvalidRequest: no LZ4 block holds so many.
        """
        if length > LZ4_MAX_INPUT:
            raise InvalidRequest(f"{length} bytes do not fit one LZ4 block: ask for a smaller box")
        self._carried: list[Buffer] = []

    def add(self, part: Lz4Part) -> list[Buffer]:
        """Return the bytes of the next part, without its last literals."""
        block = memoryview(part.block)
        at, literals = part.first
        if part.last == 0:
            self._carried.append(block[at:])
            return []
        carried = [*self._carried, block[at : at + literals]]
        size = sum(map(len, carried))
        first = _run_head(size, block[0] & 15)
        tail, _ = _literals(part.block, part.last)
        self._carried = [block[tail:]]
        return [first, *carried, block[at + literals : part.last]]

    def end(self) -> list[Buffer]:
        """Return the last bytes."""
        return [_run_head(sum(map(len, self._carried)), 0), *self._carried]


def _literals(block: bytes, start: int) -> tuple[int, int]:
    """Return place and number of the literals of the sequence at `start`."""
    count = block[start] >> 4
    at = start + 1
    if count == 15:
        while True:
            count += block[at]
            at += 1
            if block[at - 1] != 255:
                break
    return at, count


def _run_head(literals: int, match: int) -> bytes:
    """Return token and length bytes of a sequence."""
    if literals < 15:
        return bytes((literals << 4 | match,))
    more, rest = divmod(literals - 15, 255)
    return bytes((0xF0 | match,)) + b"\xff" * more + bytes((rest,))
