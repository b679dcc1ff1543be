"""The rows of an annotation instance, byte by byte: see KEYS.md, kinds 116 to 122.

Elements lie in blocks, each in a row of its own, in the order in which they came. Lists of labels and of
tags are rows of copies: a list shows what it was given, until an element is written, moved or deleted,
voxels change under it, or the lists are made again.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.geometry import Triple
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import SIGN, big_endian, make_keys

ELEMENTS = 116
"""Blocks, and the elements in them."""

LABELED = 117
"""Elements by supervoxel."""

TAGGED = 118
"""Elements by tag."""

LINKS = 119
"""Blocks with elements that have relationships to a place in another block."""

SOURCE = 120
"""Which labels the rows of `LABELED` are of."""

ALIASES = 121
"""Supervoxels that are mapped to a body that does not have them among its members."""

JOURNAL = 122
"""Supervoxels whose lists an event has changed."""

PROJECTIONS = {
    ELEMENTS: "elements",
    LABELED: "elements by label",
    TAGGED: "elements by tag",
    LINKS: "links to places",
    SOURCE: "label source",
    ALIASES: "mapped supervoxels",
    JOURNAL: "changed lists of labels",
}

Coords = NDArray[np.int32]

BLOCK_BYTES = 17
"""Instance, kind and block coordinate: what the keys of a block and of its elements begin with."""

_BLOCK, _ELEMENT = b"\0", b"\1"
_POINT = struct.Struct(">3I")
_HEAD = struct.Struct(">QII")
_SOURCE = struct.Struct(">IQ")
TAG_BYTES_MAX = 440
"""Longer tags, escaped, are cut and followed by a hash: LMDB takes keys of 511 bytes."""

LISTED, NULL = 1, 2
"""What the row of a block says: it has a list of elements, or null was posted in place of one."""


class Stored(NamedTuple):
    """An element in its block."""

    order: tuple[int, int]
    """Its place in the block: sequence of the event that made it, and its number in that event."""

    cut: int
    """Bytes of its text before the relationships."""

    text: bytes

    @property
    def plain(self) -> bytes:
        """Its text without relationships."""
        return self.text[: self.cut] + b"}"


def point_bytes(point_zyx: Sequence[int]) -> bytes:
    """Return the bytes of a coordinate, in the order of coordinates."""
    z, y, x = point_zyx
    return _POINT.pack(z + SIGN, y + SIGN, x + SIGN)


def point_of(data: bytes, at: int = 0) -> Triple:
    """Return the coordinate of such bytes, ZYX."""
    z, y, x = _POINT.unpack_from(data, at)
    return z - SIGN, y - SIGN, x - SIGN


# -- blocks and elements ---------------------------------------------------------------------


def block_prefix(instance: int, block_zyx: Sequence[int]) -> bytes:
    """Return what the keys of a block and of its elements begin with."""
    return instance_key(instance, ELEMENTS) + point_bytes(block_zyx)


def block_key(prefix: bytes) -> bytes:
    """Return the key of a block."""
    return prefix + _BLOCK


def element_key(prefix: bytes, point: bytes, copy: int = 0) -> bytes:
    """Return the key of an element; `copy` tells those apart that were posted at one place of a block."""
    return prefix + _ELEMENT + point + copy.to_bytes(2, "big")


def block_keys(instance: int, coords_zyx: Coords) -> list[bytes]:
    """Return the keys of blocks int32[n, 3]."""
    return make_keys(
        instance, ELEMENTS, big_endian(coords_zyx), np.zeros((len(coords_zyx), 1), np.uint8)
    )


def element_keys(instance: int, coords_zyx: Coords, points_zyx: Coords) -> list[bytes]:
    """Return the keys of the first elements at some places of blocks."""
    n = len(points_zyx)
    return make_keys(
        instance,
        ELEMENTS,
        big_endian(coords_zyx),
        np.ones((n, 1), np.uint8),
        big_endian(points_zyx),
        np.zeros((n, 2), np.uint8),
    )


def is_block(key: bytes) -> bool:
    """Say whether a row of this kind is that of a block, and not of an element."""
    return key[BLOCK_BYTES] == 0


def encode_element(order: tuple[int, int], cut: int, text: bytes) -> bytes:
    """Return the value of an element's row."""
    return _HEAD.pack(*order, cut) + text


def decode_element(value: bytes) -> Stored:
    """Return what a row says."""
    sequence, number, cut = _HEAD.unpack_from(value)
    return Stored((sequence, number), cut, value[_HEAD.size :])


# -- lists -----------------------------------------------------------------------------------


def label_prefix(instance: int, supervoxel: int) -> bytes:
    """Return what the keys of the elements on a supervoxel begin with."""
    return instance_key(instance, LABELED) + supervoxel.to_bytes(8, "big")


def tag_prefix(instance: int, tag: str) -> bytes:
    """Return what the keys of the elements with a tag begin with."""
    raw = tag.encode("utf-8", "replace")
    escaped = raw.replace(b"\0", b"\0\xff")
    head = instance_key(instance, TAGGED)
    if len(escaped) <= TAG_BYTES_MAX:
        return head + escaped + b"\0\0"
    cut = TAG_BYTES_MAX - 40
    cut -= escaped[cut - 1] == 0
    return head + escaped[:cut] + b"\0\1" + hashlib.blake2b(raw, digest_size=32).digest()


def link_prefix(instance: int, point: bytes) -> bytes:
    """Return what the rows begin with of blocks that have relationships to a place."""
    return instance_key(instance, LINKS) + point


def alias_prefix(instance: int, body: int) -> bytes:
    """Return what the rows begin with of supervoxels that are mapped to a body."""
    return instance_key(instance, ALIASES) + body.to_bytes(8, "big")


def journal_prefix(instance: int) -> bytes:
    """Return what the rows begin with that say which lists an event has changed."""
    return instance_key(instance, JOURNAL)


def source_key(instance: int) -> bytes:
    """Return the key of the row that says which labels the lists are of."""
    return instance_key(instance, SOURCE)


def encode_source(labels: int, bound: int) -> bytes:
    """Return its value: the instance of labels, and up to which sequence it counts."""
    return _SOURCE.pack(labels, bound)


def decode_source(value: bytes) -> tuple[int, int]:
    """Return instance and sequence."""
    labels, bound = _SOURCE.unpack(value)
    return labels, bound
