"""Sets of labels as ascending uint64 arrays."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint64]

_FEW = 16
"""For fewer labels, numpy takes longer to begin than Python to finish."""

_SHORT = 1024
"""Sets up to this size are sorted anew sooner than one is inserted into the other."""


def member(labels: Labels, of: Labels) -> NDArray[np.bool_]:
    """Say of each of `labels` whether it is in the ascending array `of`."""
    if not len(of):
        return np.zeros(len(labels), bool)
    if len(labels) < _FEW and len(of) < _FEW:
        known = set(of.tolist())
        return np.array([label in known for label in labels.tolist()], bool)
    places = np.searchsorted(of, labels)
    places[places == len(of)] = 0
    return of[places] == labels


def distinct(labels: Labels) -> Labels:
    """Return the distinct labels, ascending."""
    if len(labels) < _FEW:
        return np.array(sorted(set(labels.tolist())), np.uint64)
    ordered = np.sort(labels)
    changes = ordered[1:] != ordered[:-1]
    return ordered if changes.all() else ordered[np.append(True, changes)]


def union(first: Labels, second: Labels) -> Labels:
    """Return the labels of two disjoint ascending arrays, ascending."""
    if not len(first):
        return second
    if not len(second):
        return first
    if len(first) + len(second) <= _SHORT:
        return np.sort(np.concatenate((first, second)))
    places = np.searchsorted(first, second)
    return np.insert(first, places, second)


def without(labels: Labels, gone: Labels) -> Labels:
    """Return the ascending `labels` that are not in the ascending array `gone`."""
    if not len(gone) or not len(labels):
        return labels
    return labels[~member(labels, gone)]


def from_bytes(data: bytes) -> Labels:
    """Return the labels of little-endian bytes, in their order (read-only)."""
    return np.frombuffer(data, "<u8").astype(np.uint64, copy=False)


def to_bytes(labels: Labels) -> bytes:
    """Return labels as little-endian bytes."""
    return labels.astype("<u8", copy=False).tobytes()
