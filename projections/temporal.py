"""Many temporal rows at once: keys made and read without work per label in Python."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import UNBOUNDED, View, row_suffix

SIGN = 1 << 31
_FEW = 8
"""For fewer keys than this, numpy takes longer to begin than Python to finish."""

_SUFFIX = struct.Struct(">IQ")


def big_endian(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return signed coordinates int32[n, 3] as the bytes uint8[n, 12] of keys, in their order."""
    shifted = (values.astype(np.int64) + SIGN).astype(">u4")
    return shifted.view(np.uint8).reshape(len(values), 12)


def make_keys(instance_id: int, kind: int, *parts: NDArray[np.uint8]) -> list[bytes]:
    """Return n keys: instance, kind, then the columns of bytes `parts`, each uint8[n, any]."""
    n = len(parts[0])
    if n < _FEW:
        first = instance_key(instance_id, kind)
        return [b"".join((first, *(part[i].tobytes() for part in parts))) for i in range(n)]
    head = np.frombuffer(instance_key(instance_id, kind), np.uint8)
    return cut(np.hstack([np.broadcast_to(head, (n, len(head))), *parts]))


def cut(rows: NDArray[np.uint8]) -> list[bytes]:
    """Return the bytes of each row of uint8[n, width]."""
    rows = np.ascontiguousarray(rows)
    pieces: list[bytes] = rows.view(f"V{rows.shape[1]}")[:, 0].tolist()
    return pieces


def read_many(txn: ReadTxn, keys: Sequence[bytes], view: View) -> list[bytes | None]:
    """Return the values of keys in a view; None where there is none.

    Raises:
        VersionConflict: parents of a version merge hold unequal values.
    """
    if not view.linear:
        return [versioned.read(txn, key, view) for key in keys]
    # Neighbours were often written by the same event: their suffixes are equal.
    seen = _Seen(view)
    found: list[bytes | None] = []
    append = found.append
    for key, pair in zip(keys, txn.seek_many(keys, view.seek_suffix), strict=True):
        if pair is None:
            append(None)
            continue
        row, value = pair
        visible = seen[row[len(key) :]]
        if visible:
            append(value or None)
        elif visible is None:
            append(None)
        else:
            append(versioned.read(txn, key, view))  # leaps over rows of other versions
    return found


class _Seen(dict[bytes, bool | None]):
    """Whether a view sees a row, by what follows in its key; None for what is no suffix."""

    def __init__(self, view: View) -> None:
        self._bounds = view.bounds

    def __missing__(self, suffix: bytes) -> bool | None:
        if len(suffix) != versioned.SUFFIX_BYTES:
            return None
        version, sequence = _SUFFIX.unpack(suffix)
        seen = UNBOUNDED - sequence <= self._bounds.get(0xFFFFFFFF - version, -1)
        self[suffix] = seen
        return seen


def put_many(
    txn: WriteTxn, keys: Sequence[bytes], values: Sequence[bytes], version: int, sequence: int
) -> None:
    """Add rows written by one event; sorted keys are fastest."""
    if keys:
        txn.put_many(zip(keys, values, strict=True), row_suffix(version, sequence))
