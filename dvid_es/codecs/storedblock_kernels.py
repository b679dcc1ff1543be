"""Kernels that turn stored blocks into gzip members: see `storedblock` for the forms."""

import zlib

import numpy as np
from numba import types

from dvid_es.codecs.crc32c import FAST, crc32c
from dvid_es.codecs.kernel import (
    copy_bytes,
    helper,
    i32_2d,
    i64,
    i64_out,
    kernel,
    load16,
    load32,
    load64,
    move_bytes,
    store16,
    store32,
    store64,
    u8,
    u64,
    u64_out,
)

FORM = 1
"""First byte of every stored block."""

SOLID = 1
SPLIT = 2

SOLID_HEADER = 4
SPLIT_HEADER = 16
"""Bytes in front of the block's own header."""

FRAME = 16
"""Bytes of the coordinate and length in front of each member of a stream."""

GZIP_HEADER = 10
STORED_LIMIT = 65535
"""Most bytes of one stored deflate block."""

_POLYNOMIAL = 0xEDB88320
"""CRC-32, reflected: bit 31 is the coefficient of x^0."""


def _crc_tables() -> np.ndarray:
    """Return 8 tables of 256: the CRC of one byte followed by 0 to 7 zero bytes."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for k in range(1, 8):
        for byte in range(256):
            value = int(tables[k - 1, byte])
            tables[k, byte] = value >> 8 ^ int(tables[0, value & 255])
    return tables.reshape(-1).astype(np.int64)


_CRC = _crc_tables()
assert zlib.crc32(b"\x01") == (int(_CRC[0x01 ^ 0xFF]) ^ 0x00FFFFFF) ^ 0xFFFFFFFF


@helper
def crc32(data, start, stop):
    """Return the CRC-32 of data[start:stop], eight bytes at a time."""
    crc = 0xFFFFFFFF
    at = start
    while at + 8 <= stop:
        low = load32(data, at) ^ crc
        high = load32(data, at + 4)
        crc = (
            _CRC[1792 + (low & 255)]
            ^ _CRC[1536 + (low >> 8 & 255)]
            ^ _CRC[1280 + (low >> 16 & 255)]
            ^ _CRC[1024 + (low >> 24)]
            ^ _CRC[768 + (high & 255)]
            ^ _CRC[512 + (high >> 8 & 255)]
            ^ _CRC[256 + (high >> 16 & 255)]
            ^ _CRC[high >> 24]
        )
        at += 8
    while at < stop:
        crc = crc >> 8 ^ _CRC[(crc ^ np.int64(data[at])) & 255]
        at += 1
    return crc ^ 0xFFFFFFFF


@helper
def multiply(a, b):
    """Return the product of two polynomials modulo that of CRC-32, all reflected."""
    product = 0
    bit = 1 << 31
    while bit > 0:
        if a & bit:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
        bit >>= 1
    return product


@kernel(types.int64(types.int64))
def shift_operator(length):
    """Return x^(8 * length): multiplying a CRC by it appends `length` zero bytes."""
    result = 1 << 31
    square = 1 << 23
    while length > 0:
        if length & 1:
            result = multiply(square, result)
        square = multiply(square, square)
        length >>= 1
    return result


@helper
def header_bytes(data, start):
    """Return the bytes in front of the header of the block that is stored at `start`."""
    return SOLID_HEADER if data[start + 1] == SOLID else SPLIT_HEADER


@helper
def member_length(data, verified, start, stop):
    """Return the bytes of the gzip member of one stored block; negative if it is damaged."""
    if stop - start < SOLID_HEADER + 24 or data[start] != FORM:
        return -1
    solid = data[start + 1] == SOLID
    if not solid and (data[start + 1] != SPLIT or stop - start < SPLIT_HEADER + 16):
        return -1
    header = SOLID_HEADER if solid else SPLIT_HEADER
    prefix = 16 + 8 * load32(data, start + header + 12)
    tail = stop - start - header - prefix
    if (tail != 0 or prefix != 24) if solid else tail < 1:
        return -1
    table_stop = start + header + prefix
    if not verified and crc32(data, start + 4, table_stop) & 0xFFFF != load16(data, start + 2):
        return -1
    pieces = (prefix + STORED_LIMIT - 1) // STORED_LIMIT
    return GZIP_HEADER + 5 * pieces + prefix + tail + 8


@kernel(types.int64(u8, u8, types.boolean, i64, i64, i64_out, i64_out))
def measure(front, back, verified, starts, stops, table_starts, lengths):
    """Write where each block's labels begin in one list of all, and its gzip member's length.

    Args:
        front: stored blocks.
        back: more of them; their places count on from the end of `front`.
        verified: those in front need no check.
        starts: int64[n], where each begins.
        stops: int64[n], where each ends.
        table_starts: int64[n + 1], written.
        lengths: int64[n], written.

    Returns:
        -1, or the position of the first damaged block.
    """
    total = 0
    for i in range(len(lengths)):
        packed = starts[i] < len(front)
        data = front if packed else back
        base = 0 if packed else len(front)
        start = starts[i] - base
        lengths[i] = member_length(data, verified and packed, start, stops[i] - base)
        if lengths[i] < 0:
            return i
        table_starts[i] = total
        total += load32(data, start + header_bytes(data, start) + 12)
    table_starts[len(lengths)] = total
    return -1


@kernel(types.void(u8, u8, i64, i64, u64_out))
def gather_tables(front, back, starts, table_starts, out):
    """Write the labels of all blocks behind each other."""
    for i in range(len(starts)):
        base = 0 if starts[i] < len(front) else len(front)
        data = front if starts[i] < len(front) else back
        start = starts[i] - base
        at = start + header_bytes(data, start) + 16
        for k in range(table_starts[i], table_starts[i + 1]):
            out[k] = load64(data, at)
            at += 8


@helper
def store_prefix(prefix, length, out, at, final):
    """Write bytes as stored deflate blocks."""
    start = 0
    while start < length:
        n = min(length - start, STORED_LIMIT)
        last = 1 if final and start + n == length else 0
        store32(out, at, last | n << 8)
        store16(out, at + 3, n ^ 0xFFFF)
        copy_bytes(prefix, start, out, at + 5, n)
        at += 5 + n
        start += n


@helper
def write_member(data, start, stop, prefix, out, at):
    """Write the gzip member of one stored block, whose own header and table are now `prefix`.

    It may be written over the block itself: all of that is read before.
    """
    solid = data[start + 1] == SOLID
    header = start + header_bytes(data, start)
    rest, rest_crc, operator = 0, 0, 0
    if not solid:
        rest = load32(data, start + 4)
        rest_crc = load32(data, start + 8)
        operator = load32(data, start + 12)
    crc = crc32(prefix, 0, len(prefix))
    size = len(prefix)
    pieces = (size + STORED_LIMIT - 1) // STORED_LIMIT
    end = at + GZIP_HEADER + 5 * pieces + size
    if not solid:
        # First of all: what is written next may lie where this was.
        move_bytes(data, header + size, out, end, stop - header - size)
    store64(out, at, np.uint64(0x00088B1F))
    store16(out, at + 8, 0xFF00)
    store_prefix(prefix, size, out, at + GZIP_HEADER, solid)
    if not solid:
        end += stop - header - size
        crc = multiply(operator, crc) ^ rest_crc
        size += rest
    store32(out, end, crc)
    store32(out, end + 4, size & 0xFFFFFFFF)
    return end + 8


@helper
def store_frame(coords_xyz, i, out, at, length):
    """Write the coordinate and length in front of a member."""
    for axis in range(3):
        store32(out, at + 4 * axis, np.int64(coords_xyz[i, axis]))
    store32(out, at + 12, length)


@kernel(types.void(u8, u8, i64, i64, u64, i64, i32_2d, u8))
def write_stream(front, back, starts, stops, labels, table_starts, coords_xyz, out):
    """Write gzip members, each behind its block coordinate and length if there are coordinates.

    `out` is written although it is declared read-only: it is the memory of a new bytes object, or `front` lies
    in it, where no member is written over a later block.
    """
    longest = 0
    for i in range(len(starts)):
        longest = max(longest, table_starts[i + 1] - table_starts[i])
    scratch = np.empty(16 + 8 * longest, np.uint8)
    at = 0
    for i in range(len(starts)):
        body = at + (FRAME if len(coords_xyz) > 0 else 0)
        first, last = table_starts[i], table_starts[i + 1]
        base = 0 if starts[i] < len(front) else len(front)
        data = front if starts[i] < len(front) else back
        start, stop = starts[i] - base, stops[i] - base
        prefix = scratch[: 16 + 8 * (last - first)]
        copy_bytes(data, start + header_bytes(data, start), prefix, 0, 16)
        for k in range(first, last):
            store64(prefix, 16 + 8 * (k - first), labels[k])
        end = write_member(data, start, stop, prefix, out, body)
        if len(coords_xyz) > 0:
            store_frame(coords_xyz, i, out, at, end - body)
        at = end


if FAST:

    @kernel(types.UniTuple(types.int64, 2)(u8, u8, i64, i64, i64, i32_2d, u8))
    def pass_stream(front, back, starts, lengths, checksums, coords_xyz, out):
        """Verify stored blocks and write their gzip members, each behind its coordinate and length.

        One pass: what is verified is written while the processor has it at hand.

        Args:
            front: those in the packs, in their order.
            back: the others; their places count on from the end of `front`.
            starts: int64[n], where each begins.
            lengths: int64[n], bytes of each.
            checksums: int64[n], CRC-32C of those in front.
            coords_xyz: int32[n, 3].
            out: written although it is declared read-only: `front` lies in it, where no member is written over
                a later block.

        Returns:
            -1 and the bytes written, or the place of the first block that is not what was stored and, if its
            checksum is right nevertheless, 1.
        """
        scratch = np.empty(1 << 12, np.uint8)
        at = 0
        for i in range(len(starts)):
            packed = starts[i] < len(front)
            data = front if packed else back
            start = starts[i] if packed else starts[i] - len(front)
            stop = start + lengths[i]
            if start < 0 or stop < start or stop > len(data):
                return i, 0 if packed else 1
            if packed and np.uint64(checksums[i]) != crc32c(data, start, stop):
                return i, 0
            if member_length(data, packed, start, stop) < 0:
                return i, 1
            begin = start + header_bytes(data, start)
            size = 16 + 8 * load32(data, begin + 12)
            if size > len(scratch):
                scratch = np.empty(size, np.uint8)
            prefix = scratch[:size]
            copy_bytes(data, begin, prefix, 0, size)
            end = write_member(data, start, stop, prefix, out, at + FRAME)
            store_frame(coords_xyz, i, out, at, end - at - FRAME)
            at = end
        return -1, at
