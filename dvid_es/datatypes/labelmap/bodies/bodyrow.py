"""The row of a body: how large it is, who changed it last, and of which supervoxels it consists.

The set is a few immutable *bases* (rows of their own, shared by all later rows of the body), for each
of them the supervoxels that have left it, and a small array of supervoxels added since. So a row is
short, and a merge or a cleave writes what it moves and not what the body holds.
"""

import math
import struct
from collections.abc import Sequence, Set
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint64]

NO_LABELS: Labels = np.empty(0, np.uint64)
NO_LABELS.flags.writeable = False

_HEAD = struct.Struct("<BBHIIQ")
_HEADS = np.dtype([("other", "V8"), ("members", "<u4"), ("voxels", "<u8")])
"""Heads of rows, one behind the other."""

_SINGLE = np.dtype(
    [
        ("kind", "<u4"),  # flags, bases: none
        ("added", "<u4"),
        ("members", "<u4"),
        ("voxels", "<u8"),
        ("supervoxel", "<u8"),
    ]
)
"""A row of `encode_single`: without bases, its length says that it has one supervoxel."""

_BASE = struct.Struct("<QQBxxxII")
_LAST = struct.Struct("<QHHH")
_ROW_LABELS = 192
"""A row holds at least so many added or removed supervoxels before a base is written."""

_HAS_LAST = 1
_HAS_OVERRIDES = 2


class Last(NamedTuple):
    """The last mutation of a body, as its index shows it."""

    mutation_id: int = 0
    time: str = ""
    """RFC 3339, or what a posted index said."""

    user: str = ""
    app: str = ""


class Base(NamedTuple):
    """An immutable part of a set, and what has left it."""

    body: int
    sequence: int
    part: int
    """Body, event and number within it that wrote the base: its key."""

    size: int
    """Supervoxels in the base, those that have left included."""

    removed: Labels
    """Those that have left, ascending."""


class Body(NamedTuple):
    """One body at one version."""

    voxels: int = 0
    members: int = 0
    """Number of supervoxels."""

    last: Last = Last()
    bases: tuple[Base, ...] = ()
    added: Labels = NO_LABELS
    """Supervoxels in no base, ascending."""

    overridden: bool = False
    """Whether posted counts take the place of those of the voxels for some of its supervoxels."""


def encode(body: Body) -> bytes:
    """Return the value of a row."""
    flags = (_HAS_LAST if body.last != _NO_LAST else 0) | (_HAS_OVERRIDES if body.overridden else 0)
    pieces = [
        _HEAD.pack(flags, len(body.bases), 0, len(body.added), body.members, body.voxels),
    ]
    if flags & _HAS_LAST:
        pieces.append(_encode_last(body.last))
    for base in body.bases:
        pieces += (
            _BASE.pack(base.body, base.sequence, base.part, base.size, len(base.removed)),
            base.removed.tobytes(),
        )
    pieces.append(body.added.tobytes())
    return b"".join(pieces)


def _encode_last(last: Last) -> bytes:
    mutation_id, time, user, app = last
    texts = time.encode()[:65535], user.encode()[:65535], app.encode()[:65535]
    return b"".join((_LAST.pack(mutation_id, *map(len, texts)), *texts))


def encode_few(svs: Sequence[int], voxels: int, last: Last) -> bytes:
    """Return the value of a body of few supervoxels (ascending) that an event has made."""
    head = _HEAD.pack(_HAS_LAST, 0, 0, len(svs), len(svs), voxels)
    return b"".join((head, _encode_last(last), pack_labels(svs)))


def grown(value: bytes, svs: Sequence[int], voxels: int, last: Last) -> bytes | None:
    """Return the value of a body that has gained few supervoxels, and so many voxels, by an event.

    None if its row becomes too long.
    """
    flags, bases, _, added, count, before = _HEAD.unpack_from(value)
    members = count + len(svs)
    if added + len(svs) > row_labels(members):
        return None
    start, stop = _last_end(value, flags), len(value) - 8 * added
    labels = sorted((*unpack_labels(value[stop:]), *svs))
    head = _HEAD.pack(flags | _HAS_LAST, bases, 0, len(labels), members, before + voxels)
    return b"".join((head, _encode_last(last), value[start:stop], pack_labels(labels)))


def shrunk(value: bytes, gone: Set[int], voxels: int, last: Last) -> bytes | None:
    """Return the value of a body that has lost few of its supervoxels, and has so many voxels now.

    None if it has bases or posted counts, which may change as well.
    """
    flags, bases, _, added, _, _ = _HEAD.unpack_from(value)
    if bases or flags & _HAS_OVERRIDES:
        return None
    labels = unpack_labels(value[len(value) - 8 * added :])
    return encode_few([label for label in labels if label not in gone], voxels, last)


def _last_end(value: bytes, flags: int) -> int:
    if not flags & _HAS_LAST:
        return _HEAD.size
    return _HEAD.size + _LAST.size + sum(_LAST.unpack_from(value, _HEAD.size)[1:])


def row_labels(count: int) -> int:
    """Return how many labels a row lists, of a body or a base of so many, before a base is written."""
    return max(_ROW_LABELS, math.isqrt(count))


def pack_labels(labels: Sequence[int]) -> bytes:
    """Return few labels as little-endian u64."""
    return struct.pack(f"<{len(labels)}Q", *labels)


def unpack_labels(data: bytes) -> tuple[int, ...]:
    """Return few labels of little-endian bytes."""
    return struct.unpack(f"<{len(data) >> 3}Q", data)


def encode_single(supervoxel: int, voxels: int) -> bytes:
    """Return the value of a body of one supervoxel that was never changed."""
    return _HEAD.pack(0, 0, 0, 1, 1, voxels) + supervoxel.to_bytes(8, "little")


def decode(value: bytes) -> Body:
    """Return the body of a row's value; its arrays are read-only."""
    return _decode_short(value) if len(value) <= _SHORT_BYTES else _decode(value)


def _decode(value: bytes) -> Body:
    flags, bases, _, added, count, voxels = _HEAD.unpack_from(value)
    at = _HEAD.size
    last = _NO_LAST
    if flags & _HAS_LAST:
        mutation_id, *lengths = _LAST.unpack_from(value, at)
        at += _LAST.size
        texts = []
        for length in lengths:
            texts.append(value[at : at + length].decode("utf-8", "replace"))
            at += length
        last = Last(mutation_id, *texts)
    parts = []
    for _ in range(bases):
        body, sequence, part, size, removed = _BASE.unpack_from(value, at)
        at += _BASE.size
        gone = _labels(value, at, removed)
        parts.append(Base(body, sequence, part, size, gone))
        at += 8 * removed
    return Body(
        voxels,
        count,
        last,
        tuple(parts),
        _labels(value, at, added),
        bool(flags & _HAS_OVERRIDES),
    )


def peek_singles(values: Sequence[bytes]) -> tuple[Labels, int] | None:
    """Return supervoxels and voxels of bodies that have one supervoxel each and were never changed.

    None if any of them is another one. A merge of thousands of bodies reads them so.
    """
    if set(map(len, values)) != {_SINGLE.itemsize}:
        return None
    rows = np.frombuffer(b"".join(values), _SINGLE)
    if rows["kind"].any() or not rows["voxels"].all():
        return None
    return np.ascontiguousarray(rows["supervoxel"]), int(rows["voxels"].sum(dtype=np.uint64))


def peek_many(values: Sequence[bytes]) -> tuple[Labels, Labels]:
    """Return voxels and counts of supervoxels of rows, uint64[n] each."""
    heads = np.frombuffer(b"".join([value[: _HEAD.size] for value in values]), _HEADS)
    return heads["voxels"].astype(np.uint64), heads["members"].astype(np.uint64)


def peek(value: bytes) -> tuple[int, int, bytes | None, bool]:
    """Return voxels, count, supervoxels (u64, if all of them are in the row) and `overridden`.

    A merge of many small bodies reads each of them so, without making an object of it.
    """
    flags, bases, _, added, count, voxels = _HEAD.unpack_from(value)
    whole = None if bases else value[len(value) - 8 * added :]
    return voxels, count, whole, bool(flags & _HAS_OVERRIDES)


def _labels(value: bytes, at: int, count: int) -> Labels:
    if not count:
        return NO_LABELS
    # A copy: a view at an odd address is of no use to kernels.
    labels = np.frombuffer(value, np.uint64, count, at).copy()
    labels.flags.writeable = False
    return labels


_NO_LAST = Last()

# Nearly always a row is decoded twice: by the command that reads it, and by the fold that changes it.
_SHORT_BYTES = 1024
_decode_short = lru_cache(256)(_decode)
