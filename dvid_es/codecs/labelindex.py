"""DVID's LabelIndex message as flat arrays, written and read without a Python object per entry.

The usual form (what Go and Python encoders write) is read by a kernel; anything else that is legal
protobuf goes the long way through `messages_pb2`.

Source: label index messages in datatype/common/proto, Index in datatype/common/labels/index.go
(janelia-flyem/dvid).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dvid_es.codecs import labelindex_kernels as kernels
from dvid_es.codecs import messages_pb2
from dvid_es.errors import InvalidRequest

U64 = NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview


def _no_words() -> U64:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class LabelIndex:
    """How many voxels of which supervoxels a body has in each block of scale 0."""

    label: int
    """The body."""

    blocks: U64 = field(default_factory=_no_words)
    """uint64[m]: packed block keys (`izyx.pack_keys`), ascending as numbers."""

    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    """int64[m + 1]: block i has rows starts[i] ... starts[i + 1] of the next two."""

    supervoxels: U64 = field(default_factory=_no_words)
    """uint64[n], ascending within a block."""

    counts: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    """uint32[n]: voxels of each supervoxel in the block."""

    surface_mutids: U64 = field(default_factory=_no_words)
    """uint64[m]: last mutation that changed the body's surface in the block; 0 if none."""

    last_mutid: int = 0
    """Last mutation of the body, 0 if none."""

    last_mod_time: str = ""
    """Its time, RFC 3339."""

    last_mod_user: str = ""
    last_mod_app: str = ""

    @property
    def voxels(self) -> int:
        """Number of voxels of the body."""
        return int(self.counts.sum(dtype=np.uint64))

    @property
    def row_blocks(self) -> U64:
        """uint64[n]: the packed block key of each row."""
        return np.repeat(self.blocks, np.diff(self.starts))


def from_rows(
    label: int,
    block_keys: U64,
    supervoxels: U64,
    counts: NDArray[np.uint32],
    surface_mutids: U64 | None = None,
    **last: int | str,
) -> LabelIndex:
    """Return the index of rows in any order, each pair of block and supervoxel once.

    Args:
        label: the body.
        block_keys: uint64[n], packed.
        supervoxels: uint64[n].
        counts: uint32[n].
        surface_mutids: uint64[n], of each row's block: the largest of a block counts; None is 0.
        last: `last_mutid`, `last_mod_time`, `last_mod_user`, `last_mod_app`.
    """
    order = np.lexsort((supervoxels, block_keys))
    keys = block_keys[order]
    begins = np.ones(len(keys), np.bool_)
    begins[1:] = keys[1:] != keys[:-1]
    first = np.flatnonzero(begins)
    mutids = np.zeros(len(first), np.uint64)
    if surface_mutids is not None and len(first):
        mutids = np.maximum.reduceat(surface_mutids[order], first)
    return LabelIndex(
        label,
        keys[first],
        np.append(first, len(keys)),
        supervoxels[order],
        counts[order].astype(np.uint32, copy=False),
        mutids,
        **last,  # type: ignore[arg-type]
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(index: LabelIndex) -> bytes:
    """Return the LabelIndex message; its blocks come in the order of their keys."""
    lengths = np.empty(len(index.blocks), np.int64)
    rows = (index.blocks, index.starts, index.supervoxels, index.counts, index.surface_mutids)
    out = np.empty(kernels.measure_blocks(*rows, lengths), np.uint8)
    kernels.write_blocks(*rows, lengths, out)
    pieces = [out.tobytes()]
    for tag, number in ((b"\x10", index.label), (b"\x18", index.last_mutid)):
        if number:
            pieces += (tag, _varint(number))
    texts = (index.last_mod_time, index.last_mod_user, index.last_mod_app)
    for tag, text in zip((b"\x22", b"\x2a", b"\x32"), texts, strict=True):
        if text:
            data = text.encode()
            pieces += (tag, _varint(len(data)), data)
    return b"".join(pieces)


def encode_all(messages: Iterable[bytes]) -> bytes:
    """Return the LabelIndices message of encoded LabelIndex messages."""
    pieces: list[bytes] = []
    for message in messages:
        pieces += (b"\x0a", _varint(len(message)), message)
    return b"".join(pieces)


def decode(data: Buffer) -> LabelIndex:
    """Return the index of a LabelIndex message.

    Raises:
        InvalidRequest: the bytes are not such a message.
    """
    index = _decode_usual(data)
    return _decode_any(data) if index is None else index


def decode_all(data: Buffer) -> list[LabelIndex]:
    """Return the indices of a LabelIndices message, in its order.

    Raises:
        InvalidRequest: the bytes are not such a message.
    """
    pieces = _split(data)
    if pieces is not None:
        return [decode(piece) for piece in pieces]
    try:
        message = messages_pb2.LabelIndices.FromString(bytes(data))
    except DecodeError as error:
        raise InvalidRequest(f"not a LabelIndices message: {error}") from None
    return [decode(index.SerializeToString()) for index in message.indices]


def _split(data: Buffer) -> list[memoryview] | None:
    """Return the LabelIndex messages of LabelIndices, None if there is anything else."""
    view = memoryview(data)
    pieces: list[memoryview] = []
    at = 0
    while at < len(view):
        if view[at] != 0x0A:
            return None
        length = shift = 0
        while True:
            at += 1
            if at == len(view) or shift > 28:
                return None
            length |= (view[at] & 127) << shift
            shift += 7
            if view[at] < 128:
                break
        at += 1
        if length > len(view) - at:
            return None
        pieces.append(view[at : at + length])
        at += length
    return pieces


def _decode_usual(data: Buffer) -> LabelIndex | None:
    """Return the index of a message without oddities, None for any other."""
    if not len(data):
        return LabelIndex(0)
    flat = np.frombuffer(data, np.uint8)
    numbers = np.zeros(2, np.uint64)
    texts = np.zeros(8, np.int64)
    none, no_starts, no_counts = _no_words(), np.empty(0, np.int64), np.empty(0, np.uint32)
    if kernels.read_index(
        flat, False, none, no_starts, none.copy(), no_counts, none.copy(), numbers, texts
    ):
        return None
    m, n = texts[6:].tolist()
    keys, mutids, supervoxels = (np.empty(k, np.uint64) for k in (m, m, n))
    starts, counts = np.empty(m + 1, np.int64), np.empty(n, np.uint32)
    kernels.read_index(flat, True, keys, starts, supervoxels, counts, mutids, numbers, texts)
    try:
        time, user, app = (
            bytes(data[texts[i] : texts[i + 1]]).decode() if texts[i + 1] else "" for i in (0, 2, 4)
        )
    except UnicodeDecodeError:
        return None
    label, last = numbers.tolist()
    index = LabelIndex(label, keys, starts, supervoxels, counts, mutids, last, time, user, app)
    return index if kernels.is_sorted(keys, starts, supervoxels) else _sort(index)


def _sort(index: LabelIndex) -> LabelIndex | None:
    """Return the index with blocks and supervoxels in order, None if any of them repeats."""
    order = np.argsort(index.blocks)
    row_order = np.lexsort((index.supervoxels, index.row_blocks))
    blocks = index.blocks[order]
    sizes = np.diff(index.starts)[order]
    starts = np.zeros(len(blocks) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    supervoxels = index.supervoxels[row_order]
    if not kernels.is_sorted(blocks, starts, supervoxels):
        return None
    return LabelIndex(
        index.label,
        blocks,
        starts,
        supervoxels,
        index.counts[row_order],
        index.surface_mutids[order],
        index.last_mutid,
        index.last_mod_time,
        index.last_mod_user,
        index.last_mod_app,
    )


def _decode_any(data: Buffer) -> LabelIndex:
    """Return the index of any legal message, by way of protobuf's own classes."""
    try:
        message = messages_pb2.LabelIndex.FromString(bytes(data))
    except DecodeError as error:
        raise InvalidRequest(f"not a LabelIndex message: {error}") from None
    keys = sorted(message.blocks)
    starts = [0]
    supervoxels: list[int] = []
    counts: list[int] = []
    for key in keys:
        rows = message.blocks[key].counts
        ordered = sorted(rows)
        supervoxels += ordered
        counts += [rows[supervoxel] for supervoxel in ordered]
        starts.append(len(supervoxels))
    return LabelIndex(
        message.label,
        np.array(keys, np.uint64),
        np.array(starts, np.int64),
        np.array(supervoxels, np.uint64),
        np.array(counts, np.uint32),
        np.array([message.blocks[key].surface_mutid for key in keys], np.uint64),
        message.last_mutid,
        message.last_mod_time,
        message.last_mod_user,
        message.last_mod_app,
    )
