"""Regions of interest: the spans of roi instances, for every datatype that lets a region choose blocks.

A span is z, y, x0, x1 in blocks of the region: x0 to x1 of one line, both inclusive. The datatype roi
writes the rows; volumes, annotations and counts only look at them, so the rows are known here.

Source: datatype/roi/roi.go and iterator.go (janelia-flyem/dvid).
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvid_es.errors import InvalidRequest
from dvid_es.events import Bulk
from dvid_es.geometry import Box, Triple
from dvid_es.projections import bulkrow, versioned
from dvid_es.projections.catalog import Instance, instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.projections.versioned import Row
from dvid_es.versions import UNBOUNDED, View

Spans = NDArray[np.int32]
"""int32[n, 4]: z, y, x0, x1, in this order without two equal ones."""

SPANS = 112
"""Kind of the rows of spans."""

_HEAD = struct.Struct(">ii")
_LOW = 1 << 31

EMPTY_LAYERS = (_LOW - 1, -_LOW)
"""First and last layer of a region without spans, as DVID shows them."""


def sorted_spans(spans: NDArray[np.int64] | Spans) -> Spans:
    """Return spans [n, 4] by z, y, x0 and x1, equal ones once; nothing is merged."""
    ordered = spans[np.lexsort(spans.T[::-1])].astype(np.int32)
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[new]


def to_bytes(spans: Spans) -> bytes:
    """Return spans as events hold them: little endian."""
    return spans.astype("<i4", copy=False).tobytes()


def from_bytes(data: bytes) -> Spans:
    """Return spans of an event."""
    return np.frombuffer(data, "<i4").reshape(-1, 4)


# -- rows ------------------------------------------------------------------------------------


def put(
    txn: WriteTxn,
    instance: int,
    version: int,
    sequence: int,
    spans: Bulk | None,
    layers: tuple[int, int] = EMPTY_LAYERS,
) -> None:
    """Make `spans` the whole region from an event on; None deletes it.

    Args:
        txn: the state to change.
        instance: number of the roi.
        version: ordinal.
        sequence: of the event.
        spans: as `to_bytes` makes them.
        layers: lowest and highest z of them.
    """
    value = versioned.TOMBSTONE if spans is None else _HEAD.pack(*layers) + bulkrow.encode(spans)
    versioned.put(txn, instance_key(instance, SPANS), version, sequence, value)


def read(txn: ReadTxn, instance: int, view: View) -> Spans:
    """Return the spans that a view sees.

    Where parents of a version merge hold different regions, these are the spans of all of them, as in
    DVID, which keeps each span under its own key.
    """
    return _spans(txn, _rows(txn, instance, view))


def layers(txn: ReadTxn, instance: int, view: View) -> tuple[int, int]:
    """Return the lowest and highest z of the spans that a view sees; `EMPTY_LAYERS` without any."""
    found = [_HEAD.unpack_from(row.value) for row in _rows(txn, instance, view)]
    lowest = min((first for first, _ in found), default=EMPTY_LAYERS[0])
    return lowest, max((last for _, last in found), default=EMPTY_LAYERS[1])


def _rows(txn: ReadTxn, instance: int, view: View) -> list[Row]:
    """Return the rows that no other one supersedes, without tombstones."""
    seen = versioned.visible_rows(txn, instance_key(instance, SPANS), view)
    first = next(seen, None)
    if first is None:
        return []
    rows = [first] if first.version >= view.fork else [first, *seen]
    places = view.nearest([(row.version, row.sequence) for row in rows])
    return [rows[place] for place in places if rows[place].value]


def _spans(txn: ReadTxn, rows: list[Row]) -> Spans:
    bulks = [bulkrow.decode(row.value[_HEAD.size :]) for row in rows]
    held = [from_bytes(data) for data in txn.bulk_many(bulks)]
    if len(held) == 1:
        return held[0]
    return sorted_spans(np.concatenate([np.zeros((0, 4), np.int32), *held]))


# -- looking up ------------------------------------------------------------------------------


class Blocks:
    """A set of blocks that can be asked for many blocks at once."""

    def __init__(self, spans: Spans) -> None:
        """Index spans; they may overlap."""
        lines = _line_keys(spans[:, 0], spans[:, 1])
        new = np.ones(len(lines), bool)
        new[1:] = lines[1:] != lines[:-1]
        self._lines = lines[new]
        above = (np.cumsum(new) - 1).astype(np.int64) << 32
        self._starts = above + (spans[:, 2].astype(np.int64) + _LOW)
        # An earlier span may reach further; one of an earlier line is always smaller than this.
        self._ends = np.maximum.accumulate(above + (spans[:, 3].astype(np.int64) + _LOW))

    def holds(self, coords_zyx: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say of blocks [n, 3] of 32 bits whether they are in the set: bool[n]."""
        if not len(self._lines) or not len(coords_zyx):
            return np.zeros(len(coords_zyx), bool)
        lines = _line_keys(coords_zyx[:, 0], coords_zyx[:, 1])
        line = np.searchsorted(self._lines, lines).clip(max=len(self._lines) - 1)
        at = (line.astype(np.int64) << 32) + (coords_zyx[:, 2].astype(np.int64) + _LOW)
        place = np.searchsorted(self._starts, at, side="right") - 1
        found: NDArray[np.bool_] = self._lines[line] == lines
        return found & (place >= 0) & (self._ends[place] >= at)


def _line_keys(z: NDArray[np.integer], y: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return a number for each line of blocks along X, in the order of z and y."""
    high = (z.astype(np.int64) + _LOW).astype(np.uint64)
    return (high << np.uint64(32)) | (y.astype(np.int64) + _LOW).astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Region:
    """A region of interest as one version sees it."""

    name: str
    block_zyx: Triple
    """Shape of its blocks in voxels."""

    spans: Spans
    version: int = 0
    """Ordinal of the version that was asked."""

    written: tuple[int, ...] = ()
    """Number of its instance and the sequences of the events that it comes from."""

    def check(self, txn: ReadTxn) -> None:
        """Make sure that the region is still what it was when a command was prepared.

        Raises:
            InvalidRequest: it was changed since, or has gone.
        """
        instance = _instance(txn, self.name)
        view = txn.view(self.version if instance.versioned else 1)
        if _written(instance.id, _rows(txn, instance.id, view)) != self.written:
            raise InvalidRequest(
                f'the ROI "{self.name}" has just been changed: send the request again'
            )

    def between(self, first: int, last: int) -> Spans:
        """Return the spans of the layers of blocks `first` to `last`, both inclusive."""
        start = np.searchsorted(self.spans[:, 0], first, side="left")
        return self.spans[start : np.searchsorted(self.spans[:, 0], last, side="right")]

    def holds_points(self, points_zyx: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of voxels int64[n, 3] of 32 bits whether they are inside: bool[n]."""
        return Blocks(self.spans).holds(points_zyx // np.array(self.block_zyx))

    def mask(self, box: Box) -> Blocks:
        """Return the blocks of a volume that the region chooses for a request over a box of voxels.

        The blocks of the volume are compared with those of the region by their coordinates, whatever
        their sizes: a region is meant for volumes with blocks like its own. Of a region with other
        blocks, only the layers count that the box reaches as the region counts them, as in DVID.

        Source: NewIterator and InsideFast in datatype/roi/iterator.go (janelia-flyem/dvid).
        """
        depth = self.block_zyx[0]
        first, last = box.start_zyx[0] // depth, (box.stop_zyx[0] - 1) // depth
        return Blocks(self.between(first, last))


def block_shape(instance: Instance) -> Triple:
    """Return the shape of the blocks of an roi instance, ZYX."""
    x, y, z = instance.settings["BlockSize"]
    return z, y, x


def find(txn: ReadTxn, name: str, version: int, at: int = UNBOUNDED) -> Region:
    """Return the region of a data instance at a version, by the instance's name alone.

    Args:
        txn: the state to read; the region of `?at=` is the one of that moment.
        name: of a data instance of the repository.
        version: ordinal; an unversioned region is the same at all.
        at: sequence as of which the region is meant.

    Raises:
        InvalidRequest: there is no such instance, or it is no roi.
    """
    instance = _instance(txn, name)
    view = txn.view(version if instance.versioned else 1)
    rows = _rows(txn, instance.id, view if at == UNBOUNDED else view.at(at))
    written = _written(instance.id, rows)
    return Region(name, block_shape(instance), _spans(txn, rows), version, written)


def _instance(txn: ReadTxn, name: str) -> Instance:
    instance = txn.repo.names.get(name)
    if instance is None:
        raise InvalidRequest(f'no ROI "{name}": invalid data instance name')
    if instance.typename != "roi":
        raise InvalidRequest(f'data "{name}" is a {instance.typename}: a ROI is needed here')
    return instance


def _written(instance: int, rows: list[Row]) -> tuple[int, ...]:
    return (instance, *(row.sequence for row in rows))
