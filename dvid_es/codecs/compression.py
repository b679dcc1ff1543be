"""gzip, raw deflate and LZ4 as DVID uses them: the one home of isal and lz4.

Everything that inflates is bounded by the caller: no answer is longer than was allowed for.
"""

import struct
from collections.abc import Iterable, Iterator

import lz4.block
from isal import igzip_lib, isal_zlib

from dvid_es.errors import InvalidRequest

LEVEL = 1
"""ISA-L's level for everything: 0 to 2 differ little, 3 is five times slower."""

LZ4_MAX_INPUT = 0x7E000000
"""Most bytes that one LZ4 block can hold."""

WRAPPED_LZ4 = 0x80
"""Descriptor byte of a stored value: compression 4 (LZ4) << 5 | checksum 0 << 3."""

Buffer = bytes | bytearray | memoryview


def gzip_compress(data: Buffer, level: int = LEVEL) -> bytes:
    """Return one gzip member without name or time, so that equal data give equal bytes."""
    return igzip_lib.compress(data, level, igzip_lib.COMP_GZIP)


def gzip_decompress(data: Buffer, max_bytes: int) -> bytes:
    """Return the content of a gzip stream of one or more members.

    Args:
        data: the whole stream; CRC and length of each member are verified.
        max_bytes: most bytes that the content may have.

    Raises:
        InvalidRequest: not gzip, damaged, cut off, followed by other bytes, or longer than allowed.
    """
    pieces: list[bytes] = []
    left = max_bytes
    rest: Buffer = data
    while True:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        try:
            # One byte more than allowed tells "exactly full" from "too long".
            piece = member.decompress(rest, left + 1)
        except igzip_lib.error as error:
            raise InvalidRequest(f"gzip data are damaged: {error}") from None
        left -= len(piece)
        if left < 0:
            raise InvalidRequest(f"gzip data inflate to more than the {max_bytes} bytes allowed")
        if not member.eof:
            raise InvalidRequest("gzip data are cut off")
        pieces.append(piece)
        rest = member.unused_data
        if not rest:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def deflate_raw(data: Buffer, level: int = LEVEL) -> bytes:
    """Return a raw deflate stream (no header, no checksum)."""
    return igzip_lib.compress(data, level, igzip_lib.COMP_DEFLATE)


def gzip_join(pieces: Iterable[Buffer], level: int = LEVEL) -> list[bytes]:
    """Return one gzip member of pieces that follow each other, in pieces."""
    stream = isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)
    return [*(stream.compress(piece) for piece in pieces), stream.flush()]


def gzip_pieces(pieces: Iterable[Buffer], level: int = LEVEL) -> Iterator[bytes]:
    """Iterate over one gzip member of pieces that follow each other, made as they come."""
    stream = isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)
    for piece in pieces:
        if made := stream.compress(piece):
            yield made
    yield stream.flush()


def zlib_join(pieces: Iterable[Buffer], level: int = LEVEL) -> bytes:
    """Return one zlib stream of pieces that follow each other."""
    stream = isal_zlib.compressobj(level)
    parts = [stream.compress(piece) for piece in pieces]
    return b"".join((*parts, stream.flush()))


def inflate_raw(data: Buffer, max_bytes: int) -> bytes:
    """Return the content of one raw deflate stream of at most `max_bytes`.

    Raises:
        InvalidRequest: damaged, cut off, or longer than allowed.
    """
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    try:
        content = stream.decompress(data, max_bytes + 1)
    except igzip_lib.error as error:
        raise InvalidRequest(f"deflate data are damaged: {error}") from None
    if len(content) > max_bytes:
        raise InvalidRequest(f"deflate data inflate to more than the {max_bytes} bytes allowed")
    if not stream.eof:
        raise InvalidRequest("deflate data are cut off")
    return content


def lz4_block_compress(data: Buffer) -> bytes:
    """Return a raw LZ4 block: no frame, no length prefix.

    Raises:
        InvalidRequest: more than LZ4_MAX_INPUT bytes.
    """
    if len(data) > LZ4_MAX_INPUT:
        raise InvalidRequest(f"{len(data)} bytes do not fit one LZ4 block: ask for a smaller box")
    return lz4.block.compress(data, store_size=False)


def lz4_block_decompress(data: Buffer, size: int) -> bytes:
    """Return the content of a raw LZ4 block, which may be shorter than `size` but not longer.

    Raises:
        InvalidRequest: damaged, or longer than `size` bytes.
    """
    if not 0 <= size <= LZ4_MAX_INPUT:
        raise InvalidRequest(f"{size} bytes do not fit one LZ4 block")
    try:
        # LZ4 refuses a zero-sized target even for the empty block.
        content: bytes = lz4.block.decompress(data, uncompressed_size=max(size, 1))
    except (lz4.block.LZ4BlockError, ValueError, OverflowError):
        raise InvalidRequest(
            f"LZ4 data are damaged or inflate to more than the {size} bytes expected"
        ) from None
    if len(content) > size:
        raise InvalidRequest(f"LZ4 data inflate to more than the {size} bytes expected")
    return content


def crc32(data: Buffer, start: int = 0) -> int:
    """Return the CRC-32 of gzip and zip of `data`, going on from `start`."""
    return isal_zlib.crc32(data, start)


def encode_stored_value(data: Buffer) -> bytes:
    """Wrap bytes as DVID stores label indices: byte 0x80, u32 size, LZ4 block.

    Source: SerializeData in dvid/serialize.go (janelia-flyem/dvid).
    """
    return struct.pack("<BI", WRAPPED_LZ4, len(data)) + lz4_block_compress(data)


def decode_stored_value(data: Buffer, max_bytes: int) -> bytes:
    """Unwrap a value of DVID's store: uncompressed, gzip or LZ4, with or without a checksum.

    Raises:
        InvalidRequest: unknown compression, wrong checksum, damaged, or longer than allowed.

    Source: DeserializeData in dvid/serialize.go (janelia-flyem/dvid).
    """
    view = memoryview(data)
    if not view:
        raise InvalidRequest("a stored value is empty: it lacks even its descriptor byte")
    compression, checksum = view[0] >> 5, view[0] >> 3 & 3
    body = view[1:]
    if checksum and compression != 2:
        if checksum != 1 or len(body) < 4:
            raise InvalidRequest(f"a stored value has an unusable checksum of kind {checksum}")
        if int.from_bytes(body[:4], "little") != crc32(body[4:]):
            raise InvalidRequest("a stored value does not match its CRC-32")
        body = body[4:]
    if compression == 2:
        return gzip_decompress(body, max_bytes)
    if compression == 4 and len(body) >= 4:
        size = int.from_bytes(body[:4], "little")
        if size > max_bytes:
            raise InvalidRequest(f"a stored value has {size} bytes, {max_bytes} are allowed")
        content = lz4_block_decompress(body[4:], size)
        if len(content) != size:
            raise InvalidRequest(f"a stored value has {len(content)} bytes and not {size}")
        return content
    if compression == 0:
        if len(body) > max_bytes:
            raise InvalidRequest(f"a stored value has {len(body)} bytes, {max_bytes} are allowed")
        return bytes(body)
    raise InvalidRequest(f"a stored value has compression {compression}, which is not read here")
