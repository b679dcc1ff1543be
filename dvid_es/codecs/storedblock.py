"""How blocks are stored: the label table in the open, the rest deflated once and for all.

The gzip of a block whose labels are mapped is assembled and not compressed: the mapped table goes
into a *stored* deflate block, the kept deflate stream behind it, and the CRCs of both parts are
combined. The result is an ordinary single-member gzip.

A solid block is 28 bytes: form u8 = 1, kind u8 = 1, check u16, the block. Any other block is

    form u8 = 1 | kind u8 = 2 | check u16 | length of the rest u32 | CRC of the rest u32
    operator u32 | gx gy gz N u32 | labels u64[N] | the rest (all behind the table) as raw deflate

where multiplying a CRC by the operator (modulo the CRC's polynomial) appends the length of the
rest, and the check covers everything from byte 4 to the end of the table. `STORED_BLOCK.md` beside
this file is the byte table.
"""

import ctypes
import struct
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import storedblock_kernels as kernels
from dvid_es.codecs.compression import crc32, deflate_raw, inflate_raw
from dvid_es.errors import CorruptStore, InvalidRequest

Labels = NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview

_HEAD = struct.Struct("<BBH")
_REST = struct.Struct("<III")
_FRAME_BYTES = kernels.FRAME

FAST = kernels.FAST
"""Whether `pass_stream` can be called."""

PLAIN_BYTES = kernels.SPLIT_HEADER + kernels.STORED_LIMIT
"""The table of a stored block of so many bytes fits one stored block of deflate."""

_SPLIT_MORE = kernels.GZIP_HEADER + 5 + 8 - kernels.SPLIT_HEADER + _FRAME_BYTES
_SOLID_MORE = kernels.GZIP_HEADER + 5 + 8 - kernels.SOLID_HEADER + _FRAME_BYTES
"""By how many bytes a block in a stream is longer than what is stored of it."""

# bytes(n) would fill them with zeros.
_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_bytes.restype = ctypes.py_object

_NO_COORDS = np.empty((0, 3), np.int32)


def store(block: Buffer) -> bytes:
    """Return the stored form of a validated block without bytes behind its end."""
    labels = int.from_bytes(block[12:16], "little")
    if labels == 1:
        solid = bytes(block[:24])
        return _HEAD.pack(kernels.FORM, kernels.SOLID, crc32(solid) & 0xFFFF) + solid
    prefix = 16 + 8 * labels
    view = memoryview(block)
    rest = view[prefix:]
    numbers = _REST.pack(len(rest), crc32(rest), kernels.shift_operator(len(rest)))
    check = crc32(view[:prefix], crc32(numbers)) & 0xFFFF
    head = _HEAD.pack(kernels.FORM, kernels.SPLIT, check)
    return b"".join((head, numbers, view[:prefix], deflate_raw(rest)))


def count_solid(data: Buffer, starts: NDArray[np.int64]) -> int:
    """Return how many of the stored blocks that begin at `starts` hold one label only."""
    return int((np.frombuffer(data, np.uint8)[starts + 1] == kernels.SOLID).sum())


def gzip_stream_length(stored_bytes: int, blocks: int, solid: int) -> int:
    """Return the length of a `gzip_stream` with coordinates.

    Args:
        stored_bytes: of all stored blocks, each of at most PLAIN_BYTES.
        blocks: how many there are.
        solid: how many of them are solid.
    """
    return stored_bytes + blocks * _SPLIT_MORE + solid * (_SOLID_MORE - _SPLIT_MORE)


def _damage(what: str) -> CorruptStore:
    return CorruptStore(f"a stored label block is damaged: {what}. Rebuild the store from the log.")


def _bounds(stored: Buffer) -> tuple[int, int]:
    """Return where the block's own header begins and its table ends, having checked both."""
    if len(stored) < kernels.SOLID_HEADER + 24 or stored[0] != kernels.FORM:
        raise _damage(f"{len(stored)} bytes of an unknown form")
    if stored[1] not in (kernels.SOLID, kernels.SPLIT):
        raise _damage(f"kind {stored[1]}")
    header = kernels.SOLID_HEADER if stored[1] == kernels.SOLID else kernels.SPLIT_HEADER
    labels = int.from_bytes(stored[header + 12 : header + 16], "little")
    stop = header + 16 + 8 * labels
    if stop > len(stored) or (stored[1] == kernels.SOLID and labels != 1):
        raise _damage(f"{len(stored)} bytes claim {labels} labels")
    if crc32(memoryview(stored)[4:stop]) & 0xFFFF != int.from_bytes(stored[2:4], "little"):
        raise _damage("the check of its table does not match")
    return header, stop


def read_table(stored: Buffer) -> Labels:
    """Return the label table uint64[N] of a stored block; it may be a view of `stored`."""
    header, stop = _bounds(stored)
    table = np.frombuffer(stored, np.uint64, (stop - header - 16) // 8, header + 16)
    return table if table.flags.aligned else table.copy()


def load(stored: Buffer, table: Labels | None = None) -> bytes:
    """Return the block of a stored form.

    Args:
        stored: what `store` returned.
        table: labels in place of the block's own, of the same length.

    Raises:
        CorruptStore: the bytes are not what was stored.
    """
    header, stop = _bounds(stored)
    view = memoryview(stored)
    prefix = view[header:stop]
    rest = b""
    if stored[1] == kernels.SPLIT:
        length, crc, _ = _REST.unpack_from(stored, 4)
        try:
            rest = inflate_raw(view[stop:], length)
        except InvalidRequest as error:
            raise _damage(str(error)) from None
        if len(rest) != length or crc32(rest) != crc:
            raise _damage("its CRC does not match")
    if table is None:
        return b"".join((prefix, rest))
    assert table.nbytes == len(prefix) - 16, "a table is replaced by one of the same length"
    return b"".join((prefix[:16], table.astype(np.uint64, copy=False).tobytes(), rest))


def content(stored: Buffer) -> bytes:
    """Return bytes that are equal for equal blocks: the stored form with its rest inflated.

    Raises:
        CorruptStore: the bytes are not what was stored.
    """
    header, _ = _bounds(stored)
    return b"".join((memoryview(stored)[:header], load(stored)))


class StoredBatch:
    """Stored blocks, joined so that kernels handle all of them in one call."""

    def __init__(
        self,
        data: Buffer,
        starts: Sequence[int] | NDArray[np.int64],
        lengths: Sequence[int] | NDArray[np.int64],
        more: Buffer = b"",
        *,
        verified: bool = False,
    ) -> None:
        """Look at blocks in two buffers, without joining them.

        Args:
            data: holds block i at starts[i] : starts[i] + lengths[i].
            starts: where each begins; from len(data) on, in `more`.
            lengths: bytes of each.
            more: the second buffer.
            verified: the bytes of the first buffer are known to be what was stored.

        Raises:
            CorruptStore: a header or table is not that of a stored block.
        """
        n = len(starts)
        self._starts = np.array(starts, np.int64)
        self._stops = self._starts + np.array(lengths, np.int64)
        front = len(data)
        assert not n or (self._starts.min() >= 0 and self._stops.max() <= front + len(more))
        across = (self._starts < front) & (self._stops > front)
        assert not across.any(), "a block lies in one buffer"
        self._data = np.frombuffer(data, np.uint8), np.frombuffer(more, np.uint8)
        self.table_starts = np.empty(n + 1, np.int64)
        """int64[n + 1]: the labels of block i are tables[table_starts[i] : table_starts[i + 1]]."""
        self._lengths = np.empty(n, np.int64)
        damaged = kernels.measure(
            *self._data, verified, self._starts, self._stops, self.table_starts, self._lengths
        )
        if damaged >= 0:
            raise _damage(f"value {damaged} of {n} has an unknown form or a wrong check")
        self.tables = np.empty(self.table_starts[-1], np.uint64)
        """uint64[sum of N]: the label tables of all blocks behind each other."""
        kernels.gather_tables(*self._data, self._starts, self.table_starts, self.tables)

    @classmethod
    def of(cls, stored_values: Sequence[Buffer]) -> "StoredBatch":
        """Join stored blocks.

        Raises:
            CorruptStore: a header or table is not that of a stored block.
        """
        lengths = [len(value) for value in stored_values]
        return cls(b"".join(stored_values), [0, *accumulate(lengths)][:-1], lengths)

    def gzip_stream(
        self,
        tables: Labels | None = None,
        coords_xyz: NDArray[np.int32] | None = None,
        memory: memoryview | None = None,
    ) -> bytes | memoryview:
        """Return the gzip members of all blocks behind each other.

        Args:
            tables: labels in place of `self.tables`, of the same length.
            coords_xyz: int32[n, 3] block coordinates: DVID's block stream, where each member is
                preceded by i32 x, y, z and its length u32. Without them: bare members.
            memory: ends with the first buffer of the batch. If there is room enough before that, the stream
                is written here, over the blocks, and a part of it returned.
        """
        if tables is None:
            tables = self.tables
        assert len(tables) == len(self.tables), "tables are replaced by ones of the same length"
        coords = _NO_COORDS if coords_xyz is None else np.ascontiguousarray(coords_xyz, np.int32)
        assert coords_xyz is None or coords.shape == (len(self._lengths), 3)
        frame = 0 if coords_xyz is None else _FRAME_BYTES
        if not len(self._lengths):
            return b""
        ends = np.cumsum(self._lengths + frame)
        size = int(ends[-1])
        if memory is not None and self._fits(memory, ends):
            target, out = np.frombuffer(memory, np.uint8), memory[:size]
        else:
            # The kernel fills this object before anybody else sees it: large answers are not copied.
            out = _new_bytes(None, size)
            target = np.frombuffer(out, np.uint8)
        kernels.write_stream(
            *self._data, self._starts, self._stops, tables, self.table_starts, coords, target
        )
        return out

    def _fits(self, memory: memoryview, ends: NDArray[np.int64]) -> bool:
        """Say whether no member that ends at `ends` of memory is written over a block still to be read."""
        room = len(memory) - len(self._data[0])
        if ends[-1] > len(memory):
            return False
        inside = self._starts < len(self._data[0])
        inside[0] = False
        return bool((ends[:-1][inside[1:]] <= self._starts[inside] + room).all())


def pass_stream(
    memory: memoryview,
    front: memoryview,
    back: Buffer,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    checksums: NDArray[np.int64],
    coords_xyz: NDArray[np.int32],
) -> tuple[int, memoryview]:
    """Verify stored blocks and turn them into DVID's stream of gzipped blocks with their own labels.

    Args:
        memory: where the stream is written, from its beginning.
        front: blocks of the packs, in their order: the end of `memory`, behind `more_than_stored` bytes.
        back: other blocks.
        starts: int64[n], where each begins; from len(front) on, in `back`.
        lengths: int64[n], bytes of each.
        checksums: int64[n], CRC-32C of those in front.
        coords_xyz: int32[n, 3] block coordinates.

    Returns:
        -1 and the stream, or the place of the first block whose checksum is another one, and nothing.

    Raises:
        CorruptStore: one that is what was written is no stored block.
    """
    room = more_than_stored(lengths, starts < len(front))
    assert len(memory) - len(front) >= room, "no block is overwritten before it is read"
    found, size = kernels.pass_stream(
        np.frombuffer(front, np.uint8), np.frombuffer(back, np.uint8), starts, lengths, checksums,
        np.ascontiguousarray(coords_xyz, np.int32), np.frombuffer(memory, np.uint8),
    )  # fmt: skip
    if found >= 0 and size:
        raise _damage(f"value {found} of {len(starts)} has an unknown form or a wrong check")
    return found, memory[: size if found < 0 else 0]


def more_than_stored(lengths: NDArray[np.int64], packed: NDArray[np.bool_]) -> int:
    """Return by how many bytes, at most, a stream of blocks is longer than those of them in the packs."""
    return 64 * len(lengths) + int(lengths[~packed].sum() + lengths.sum() // 8192)


def gzip_member(stored: Buffer, table: Labels | None = None) -> bytes:
    """Return the gzip of a stored block, with `table` in place of its own if given.

    Raises:
        CorruptStore: the header is not that of a stored block.
    """
    return bytes(StoredBatch.of([stored]).gzip_stream(table))


def gzip_stream(
    stored_values: Sequence[Buffer],
    tables: Labels | Sequence[Labels] | None,
    coords_xyz: NDArray[np.int32],
) -> bytes:
    """Return DVID's stream of gzipped blocks.

    Args:
        stored_values: n stored blocks.
        tables: None (own labels), or the mapped label tables: as a list of n, or all behind each
            other as `StoredBatch.tables`.
        coords_xyz: int32[n, 3] block coordinates.

    Returns:
        For each block i32 x, y, z, u32 length, gzip of the block.

    Source: sendBlock in datatype/labelmap/blocks.go (janelia-flyem/dvid).
    """
    if tables is not None and not isinstance(tables, np.ndarray):
        tables = np.concatenate(tables) if len(tables) else np.empty(0, np.uint64)
    return bytes(StoredBatch.of(stored_values).gzip_stream(tables, coords_xyz))
