"""Streams of blocks: each with its coordinate and length, or one behind the other in a row."""

import struct
from collections.abc import Iterator
from functools import partial

import numpy as np

from dvid_es.datatypes.imageblk.reads import Found
from dvid_es.errors import InvalidRequest
from dvid_es.http.answers import Part, spans

COMPRESSIONS = ("", "jpeg", "uncompressed")

PART_BYTES = 4 << 20
"""Bytes of one part of a stream."""

_FRAME = struct.Struct("<3iI")
"""In front of each block: its coordinate, X first, and its length."""


class BlockStream:
    """The answer to subvolblocks and specificblocks."""

    def __init__(self, found: Found, compression: str) -> None:
        """Send blocks as they are stored, or decoded.

        Raises:
            InvalidRequest: JPEG is asked for and they are not stored so.
        """
        form = found.layout.form
        if compression == "jpeg" and form != "jpeg" and len(found):
            raise InvalidRequest(
                f"blocks cannot be sent as JPEG, because they are stored as {form}:"
                " leave out the compression or ask for uncompressed blocks"
            )
        self._found = found
        self._decoded = compression == "uncompressed"

    @property
    def length(self) -> int:
        """Bytes of the whole stream."""
        sizes = len(self._found) * self._found.layout.block_bytes
        return _FRAME.size * len(self._found) + (
            sizes if self._decoded else sum(self._found.lengths)
        )

    def parts(self) -> Iterator[Part]:
        """Return what makes the stream part by part."""
        found = self._found
        if self._decoded:
            step = max(1, PART_BYTES // found.layout.block_bytes)
            for start, stop in spans(len(found), step):
                yield partial(_pieces, found.part(start, stop), True)
            return
        start, size = 0, 0
        for place, length in enumerate(found.lengths):
            size += length
            if size >= PART_BYTES or place == len(found) - 1:
                yield partial(_pieces, found.part(start, place + 1), False)
                start, size = place + 1, 0

    def whole(self) -> bytes:
        """Return all of it."""
        return b"".join(piece for part in self.parts() for piece in part())


def _pieces(found: Found, decoded: bool) -> tuple[bytes]:
    """Return some records."""
    payloads = (block.tobytes() for block in found.decoded()) if decoded else found.stored()
    out: list[bytes] = []
    for (z, y, x), payload in zip(found.coords_zyx.tolist(), payloads, strict=True):
        out += (_FRAME.pack(x, y, z, len(payload)), payload)
    return (b"".join(out),)


class BlockRow:
    """The answer to GET blocks: the voxels of a row of blocks, with background where none is stored."""

    def __init__(self, found: Found, first_x: int, span: int) -> None:
        """Send `span` blocks from `first_x` on; `found` are those of them that are there."""
        self._found = found
        self._first = first_x
        self._span = span

    @property
    def length(self) -> int:
        """Bytes of the whole answer."""
        return self._span * self._found.layout.block_bytes

    def parts(self) -> Iterator[Part]:
        """Return what makes the answer part by part."""
        step = max(1, PART_BYTES // self._found.layout.block_bytes)
        xs = self._found.coords_zyx[:, 2]
        for start, stop in spans(self._span, step):
            limits = (self._first + start, self._first + stop)
            a, b = np.searchsorted(xs, limits).tolist()
            yield partial(_filled, self._found.part(a, b), limits[0], stop - start)

    def whole(self) -> bytes:
        """Return all of it."""
        return b"".join(piece for part in self.parts() for piece in part())


def _filled(found: Found, first_x: int, span: int) -> tuple[memoryview]:
    out = np.full((span, *found.layout.shape_zyx), found.layout.background, found.layout.dtype)
    for x, voxels in zip(found.coords_zyx[:, 2].tolist(), found.decoded(), strict=True):
        out[x - first_x] = voxels
    return (memoryview(out.reshape(-1).view(np.uint8)),)
