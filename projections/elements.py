"""Elements in lists of labels, as other datatypes see them: where they are, on what, and of which kind.

Datatypes know each other by their events alone. What counts elements needs to read them too, and this is
where they meet: a type that keeps elements says here how its instances are looked into.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import View

Labels = NDArray[np.uint64]

KINDS = ("Unknown", "PostSyn", "PreSyn", "Gap", "Note")
"""Kinds of elements; arrays hold their places in this list."""


class Page(NamedTuple):
    """Some elements in lists of labels."""

    supervoxels: Labels
    """uint64[n]: under which they are listed."""

    points_zyx: NDArray[np.int64]
    """int64[n, 3]: voxels."""

    kinds: NDArray[np.uint8]
    """uint8[n]: places in `KINDS`."""

    written: NDArray[np.int64]
    """int64[n]: sequence of the event that wrote each entry last."""

    following: bytes
    """Where the next page begins; empty behind the last one."""


class Moment(NamedTuple):
    """A version as it was at some time."""

    version: int
    """Ordinal."""

    sequence: int
    """Of the last event that is seen."""


class Changed(NamedTuple):
    """What may differ between two moments."""

    entries: Labels
    """uint64[n], ascending: supervoxels that other elements are listed on."""

    remapped: Labels
    """uint64[n], ascending: supervoxels that belong to other labels."""


class Lists(Protocol):
    """Which supervoxels belong to which labels, for lists at one version and moment."""

    def members(self, label: int) -> Labels:
        """Return the supervoxels of a label, ascending."""

    def bodies(self, svs: Labels) -> Labels:
        """Return the labels of supervoxels uint64[n]; 0 for those that have none."""


class ElementSource(NamedTuple):
    """How the instances of one type are looked into; all of it pure, at any view."""

    page: Callable[[ReadTxn, Instance, View, bytes, int], Page]
    """Reads so many entries of all lists, from where a page before said, b"" being the first one. Entries
    that parents of a version merge disagree about are left out."""

    on_supervoxels: Callable[[ReadTxn, Instance, View, Labels], Iterable[Page]]
    """Reads the entries on some supervoxels uint64[n], ascending."""

    lists: Callable[[ReadTxn, Instance, int, int], Lists]
    """Says for a version (ordinal), as of a sequence, what the supervoxels of its lists are."""

    changed: Callable[[ReadTxn, Instance, Moment, Moment], Changed | None]
    """Tells what may differ between a moment and a later one that sees all that the first one saw; None if
    that cannot be said, or if it is very much."""


SOURCES: dict[str, ElementSource] = {}
"""By the name of the datatype."""
