"""What a kind of event touches: how a datatype declares it, so that analytics need not know the type.

A datatype gives a function for each kind of event that changes labels. It gets many events of the kind
at once and answers in arrays: the history of years is exported with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.events import Bulk, Event
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]


class Rows(NamedTuple):
    """Labels that events have touched in one role, as columns of n rows."""

    role: str
    """What happened to the label, such as "merged"."""

    events: NDArray[np.int64]
    """int64[n]: place of the event among those asked about."""

    labels: Labels
    """uint64[n]."""

    others: Labels | None = None
    """uint64[n]: the label on the other side, where that is not the target of the event."""


class Touched(NamedTuple):
    """What n events of one kind have touched."""

    targets: Labels | None = None
    """uint64[n]: the body that each is about, 0 for none; None if none of them has one."""

    voxels: NDArray[np.int64] | None = None
    """int64[n]: voxels that changed their body or label; None if the events do not say."""

    rows: tuple[Rows, ...] = ()

    facts: Mapping[int, Mapping[str, Any]] = {}
    """What else is to be said of single events, by their places: plain values."""


Fetch = Callable[[Bulk], bytes]
"""Returns the bytes of a bulk value."""

Describe = Callable[[Sequence[Any], Fetch], Touched]
"""Tells what events of one kind have touched. Pure."""


class Table(NamedTuple):
    """A table of the present state of an instance, which can be read at any version."""

    columns: Mapping[str, str]
    """Names and kinds of its columns: "u64", "i32", "text" or "bytes"."""

    read: Callable[[ReadTxn, Instance, View], Iterator[tuple[Any, ...]]]
    """Iterates over pages: one sequence or array of the same length for each column."""


class Described(NamedTuple):
    """All that the datatypes declare."""

    events: Mapping[type[Event], Describe]
    tables: Mapping[str, Mapping[str, Table]]
    """By datatype, its tables by name."""


def one_each(role: str, labels: Labels, others: Labels | None = None) -> Rows:
    """Return rows of one label for each event."""
    return Rows(role, np.arange(len(labels)), labels, others)


def many_each(role: str, labels: Sequence[bytes]) -> Rows:
    """Return rows of any number of labels for each event: `labels` are u64, little endian."""
    counts = np.fromiter(map(len, labels), np.int64, len(labels)) >> 3
    events = np.repeat(np.arange(len(labels)), counts)
    joined = np.frombuffer(b"".join(labels), "<u8").astype(np.uint64, copy=False)
    return Rows(role, events, joined)


def column(values: Sequence[int]) -> Labels:
    """Return labels as an array."""
    return np.array(values, np.uint64)
