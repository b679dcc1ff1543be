"""Cutting a region into sub-volumes of whole blocks, the simple and the optimized way.

Both ways walk the spans by z and cut layers, cut each layer into rows along Y, and each row into cells
along X. All numbers are those of DVID, also where they surprise: extents begin at block 0 in x and y;
spans that overlap count twice; and where the region has a gap in z, each span behind it moves on by
one layer only, so that the first ones are counted in layers that do not hold them.

Source: Partition and SimplePartition in datatype/roi/roi.go (janelia-flyem/dvid).
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvid_es.errors import InvalidRequest
from dvid_es.projections.regions import EMPTY_LAYERS, Region, Spans

CELLS_MAX = 1 << 20
"""Most sub-volumes of one answer, which is then about half a gigabyte."""

BATCH_MAX = 1 << 16
"""Most blocks along an axis of a sub-volume: numbers of blocks have to fit into 64 bits."""

CELLS_PER_PIECE = 512

_X0, _Y0, _Z0, _X1, _Y1, _Z1, _TOTAL, _ACTIVE = range(8)

Cells = NDArray[np.int64]
"""int64[n, 8]: first block x, y, z, last block x, y, z, all blocks, active blocks."""


class Layer(NamedTuple):
    """Some spans, and the blocks along Z that they are counted in, both ends inclusive."""

    first: int
    last: int
    spans: Spans


class Partition:
    """What a partition comes to."""

    def __init__(self, layers: tuple[int, int]) -> None:
        """Start without sub-volumes: `layers` are the lowest and highest z of the region."""
        self.total = 0
        self.active = 0
        self.low_xyz = [0, 0, layers[0]]
        self.high_xyz = [0, 0, layers[1]]
        self.count = 0
        self._cells: list[Cells] = []

    def extend(self, axis: int, low: int, high: int) -> None:
        """Widen the extents of an axis: 0 is x, 1 is y."""
        self.low_xyz[axis] = min(self.low_xyz[axis], low)
        self.high_xyz[axis] = max(self.high_xyz[axis], high)

    def make_room(self, more: int) -> None:
        """Say how many sub-volumes come next.

        Raises:
            InvalidRequest: they would be too many.
        """
        self.count += more
        if self.count > CELLS_MAX:
            raise InvalidRequest(
                f"the partition has more than {CELLS_MAX} sub-volumes: ask for a larger batchsize"
            )

    def add(self, cells: Cells) -> None:
        """Add sub-volumes; `total` and `active` are counted apart."""
        self._cells.append(cells)

    def merge_into_last(self, cell: Cells) -> bool:
        """Let the last sub-volume reach to the end of another one; False if there is none."""
        if not self._cells:
            return False
        last = self._cells[-1][-1]
        last[_X1 : _Z1 + 1] = cell[_X1 : _Z1 + 1]
        last[_TOTAL:] += cell[_TOTAL:]
        return True

    def json(self, block_xyz: tuple[int, int, int]) -> Iterator[bytes]:
        """Iterate over the pieces of the answer, indented as DVID does it."""
        low, high = (_triple(point, 8) for point in (self.low_xyz, self.high_xyz))
        yield (
            f'{{\n    "NumTotalBlocks": {self.total},\n    "NumActiveBlocks": {self.active},\n'
            f'    "NumSubvolumes": {self.count},\n    "ROI": {{\n        "MinChunk": {low},\n'
            f'        "MaxChunk": {high}\n    }},\n    "Subvolumes": ['
        ).encode()
        size = np.array(block_xyz, np.int64)
        mark = "\n"
        for cells in self._cells:
            for start in range(0, len(cells), CELLS_PER_PIECE):
                part = cells[start : start + CELLS_PER_PIECE]
                first, last = part[:, :3] * size, (part[:, 3:6] + 1) * size - 1
                rows = np.hstack([first, last, part]).tolist()
                yield (mark + ",\n".join(map(_cell_json, rows))).encode()
                mark = ",\n"
        yield b"\n    ]\n}" if self._cells else b"]\n}"


def _triple(point: list[int], indent: int) -> str:
    inner = ",\n".join(" " * (indent + 4) + str(value) for value in point)
    return f"[\n{inner}\n{' ' * indent}]"


def _cell_json(row: list[int]) -> str:
    points = [_triple(row[place : place + 3], 12) for place in (0, 3, 6, 9)]
    names = ("MinPoint", "MaxPoint", "MinChunk", "MaxChunk")
    lines = [f'            "{name}": {text}' for name, text in zip(names, points, strict=True)]
    lines += [f'            "TotalBlocks": {row[12]}', f'            "ActiveBlocks": {row[13]}']
    return "        {\n" + ",\n".join(lines) + "\n        }"


def partition(region: Region, size: int, optimized: bool) -> Partition:
    """Return the partition of a region into sub-volumes of about `size` blocks along each axis.

    Raises:
        InvalidRequest: it has too many sub-volumes.
    """
    spans = region.spans
    layers = (int(spans[0, 0]), int(spans[-1, 0])) if len(spans) else EMPTY_LAYERS
    made = Partition(layers)
    for layer in _layers(spans, size, optimized):
        for row in _rows(layer, size, optimized, made):
            (_cut_row if optimized else _tile_row)(row, size, made)
    return made


def _layers(spans: Spans, size: int, optimized: bool) -> Iterator[Layer]:
    """Cut spans into layers; the next one begins at the first span that lies behind the last."""
    if not len(spans):
        return
    z = spans[:, 0]
    left = (int(z[-1]) - int(z[0]) + 1) % size
    first = int(z[0]) if optimized else int(z[0]) - left // 2
    last = first + size - 1
    start = place = 0
    while place < len(spans):
        if z[place] > last:
            yield Layer(first, last, spans[start:place])
            first, last, start = last + 1, last + size, place
            if optimized and left:
                last, left = last + 1, left - 1
            place += 1
        place = max(place, int(np.searchsorted(z, last, side="right")))
    yield Layer(first, last, spans[start:])


class Row(NamedTuple):
    """The spans of one row of cells of a layer; `y` and `z` are its first and last blocks."""

    z: tuple[int, int]
    y: tuple[int, int]
    starts: NDArray[np.int64]
    """First block of each span."""

    stops: NDArray[np.int64]
    """The block behind each span."""


def _rows(layer: Layer, size: int, optimized: bool, made: Partition) -> Iterator[Row]:
    """Cut a layer along Y; rows without spans are left out."""
    spans = layer.spans[np.argsort(layer.spans[:, 1], kind="stable")]
    y = spans[:, 1].astype(np.int64)
    low, high = int(y[0]), int(y[-1])
    made.extend(1, low, high)
    left = (high - low + 1) % size
    first = low if optimized else low - left // 2
    thicker = left if optimized else 0
    place = 0
    while place < len(y):
        if not thicker:
            first += (int(y[place]) - first) // size * size
        last = first + size - 1
        if thicker:
            last, thicker = last + 1, thicker - 1
        stop = int(np.searchsorted(y, last, side="right"))
        if stop > place:
            chosen = spans[place:stop].astype(np.int64)
            row = Row((layer.first, layer.last), (first, last), chosen[:, 2], chosen[:, 3] + 1)
            made.extend(0, int(row.starts.min()), int(row.stops.max()) - 1)
            yield row
        place, first = stop, last + 1


class _Counter:
    """Counts the blocks of spans between two places of a row; overlapping spans count twice."""

    def __init__(self, row: Row) -> None:
        self._starts, self._stops = np.sort(row.starts), np.sort(row.stops)
        self._sums = [
            np.concatenate(([0], np.cumsum(ends))) for ends in (self._starts, self._stops)
        ]

    def before(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many blocks of spans lie before each of some places."""
        begun = np.searchsorted(self._starts, x)
        ended = np.searchsorted(self._stops, x)
        return (begun * x - self._sums[0][begun]) - (ended * x - self._sums[1][ended])


def _runs(row: Row) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the half-open runs that the spans of a row cover together, ascending, none touching."""
    order = np.argsort(row.starts, kind="stable")
    starts, reach = row.starts[order], np.maximum.accumulate(row.stops[order])
    new = np.ones(len(starts), bool)
    new[1:] = starts[1:] > reach[:-1]
    return starts[new], reach[np.append(np.flatnonzero(new)[1:] - 1, len(reach) - 1)]


def _tile_row(row: Row, size: int, made: Partition) -> None:
    """Cut a row into equal cells that stick out evenly at both ends; list those with active blocks."""
    low, high = int(row.starts.min()), int(row.stops.max()) - 1
    left = (high - low + 1) % size
    first = low - left // 2
    volume = size**3
    made.total += ((high + left - left // 2 - first) // size + 1) * volume
    # Cells that a run reaches; where two runs reach the same cell, only the later one keeps it.
    starts, stops = _runs(row)
    lows, highs = (starts - first) // size, (stops - 1 - first) // size
    lows[1:] = np.maximum(lows[1:], highs[:-1] + 1)
    counts = (highs - lows + 1).clip(min=0)
    listed = int(counts.sum())
    made.make_room(listed)
    places = np.repeat(lows - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    x = first + (places + np.arange(listed)) * size
    counter = _Counter(row)
    cells = np.empty((listed, 8), np.int64)
    cells[:, _X0], cells[:, _X1] = x, x + size - 1
    cells[:, _Y0], cells[:, _Y1] = row.y
    cells[:, _Z0], cells[:, _Z1] = row.z
    cells[:, _TOTAL] = volume
    cells[:, _ACTIVE] = counter.before(x + size) - counter.before(x)
    made.active += int(cells[:, _ACTIVE].sum())
    made.add(cells)


def _cut_row(row: Row, size: int, made: Partition) -> None:
    """Cut a row into cells without padding; what lies before a hole goes to the cell before it."""
    starts, stops = _runs(row)
    runs = starts.tolist(), stops.tolist()
    first, high = runs[0][0], runs[1][-1] - 1
    thicker = (high - first + 1) % size
    counter = _Counter(row)
    while first <= high:
        place = bisect_left(runs[1], first + 1)  # the first run that ends behind `first`
        if not thicker:  # cells in which nothing lies come to nothing
            first += max(0, runs[0][place] - first) // size * size
        last = first + size - 1
        if thicker:
            last, thicker = last + 1, thicker - 1
        hole = _largest_hole(runs, place, first, last)
        if hole is None:
            extent = last - first + 1
            whole = 1 if extent > size else (runs[1][place] - first) // size
            made.make_room(whole)
            edges = first + np.arange(whole + 1) * extent
            made.add(_cells(row, edges, counter, made))
            first = int(edges[-1])
            continue
        if hole[0] > first:
            part = _cells(row, np.array([first, hole[0]]), counter, made)
            if not made.merge_into_last(part[0]):  # where DVID breaks down
                made.make_room(1)
                made.add(part)
        first = hole[1] + 1


def _cells(row: Row, edges: NDArray[np.int64], counter: _Counter, made: Partition) -> Cells:
    """Return the cells of a row between each two of some places along X, and count their blocks."""
    cells = np.empty((len(edges) - 1, 8), np.int64)
    cells[:, _X0], cells[:, _X1] = edges[:-1], edges[1:] - 1
    cells[:, _Y0], cells[:, _Y1] = row.y
    cells[:, _Z0], cells[:, _Z1] = row.z
    cells[:, _TOTAL] = np.diff(edges) * (row.y[1] - row.y[0] + 1) * (row.z[1] - row.z[0] + 1)
    cells[:, _ACTIVE] = np.diff(counter.before(edges))
    made.total += int(cells[:, _TOTAL].sum())
    made.active += int(cells[:, _ACTIVE].sum())
    return cells


def _largest_hole(
    runs: tuple[list[int], list[int]], place: int, first: int, last: int
) -> tuple[int, int] | None:
    """Return first and last block of the first of the largest holes between two blocks, or None.

    Args:
        runs: first blocks of runs, and the blocks behind them.
        place: of the first run that ends behind `first`.
        first: first block of the cell.
        last: its last block.
    """
    best: tuple[int, int] | None = None
    at = first
    while at <= last:
        start = runs[0][place] if place < len(runs[0]) else last + 1
        end = min(start, last + 1)
        if end > at and (best is None or end - at > best[1] - best[0] + 1):
            best = at, end - 1
        if start > last:
            break
        at, place = runs[1][place], place + 1
    return best
