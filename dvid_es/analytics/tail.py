"""The live tail: events that are in the log and not exported yet, as Arrow files that workers map.

It is brought up to date by each query, from the log, so it is never stale; what it holds already is not
read again.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from dvid_es.analytics.columns import EMPTY, Columns, batches, joined
from dvid_es.analytics.export import Readable
from dvid_es.analytics.touched import Described, Fetch

PIECE_EVENTS = 100_000
FILES_MAX = 16
"""More pieces are joined to one."""


class Piece(NamedTuple):
    """Some events of the tail."""

    start: int
    stop: int
    events: Path
    labels: Path


class Tail:
    """The tail of one repository."""

    def __init__(self, folder: Path, described: Described) -> None:
        """Keep files in `folder`, which is this process's own."""
        self._folder = folder
        self._described = described
        self._lock = threading.Lock()
        self._pieces: list[Piece] = []
        self._number = 0
        self._dropped: list[Path] = []
        self._empty: Piece | None = None
        self.stop = 0
        """Behind the last event that it holds."""

    def upto(self, log: Readable, start: int, stop: int, fetch: Fetch) -> list[Piece]:
        """Return files that hold the events `start` ... `stop`, and perhaps others around them.

        Raises:
            CorruptLog: the log cannot be read.
        """
        with self._lock:
            if not self._pieces or self._pieces[0].start > start or self.stop < start:
                self._drop(self._pieces)
                self._pieces, self.stop = [], start
            gone = [piece for piece in self._pieces if piece.stop <= start]
            self._drop(gone)
            self._pieces = self._pieces[len(gone) :]
            while self.stop < stop:
                behind = min(stop, self.stop + PIECE_EVENTS)
                records = log.read(self.stop, behind)
                found = joined(list(batches(records, self._described.events, fetch)))
                self._pieces.append(self._write(self.stop, behind, found))
                self.stop = behind
            self._join_small()
            if self._pieces:
                return list(self._pieces)
            if self._empty is None:
                self._empty = self._write(0, 0, EMPTY)
            return [self._empty]

    def _join_small(self) -> None:
        """Join pieces that many queries have added, each of them small."""
        small = [piece for piece in self._pieces if piece.stop - piece.start < PIECE_EVENTS // 2]
        if len(small) > FILES_MAX:
            first = self._pieces.index(small[0])
            pieces, self._pieces = self._pieces[first:], self._pieces[:first]
            whole = joined([_read(piece) for piece in pieces])
            self._drop(pieces)
            self._pieces.append(self._write(pieces[0].start, pieces[-1].stop, whole))

    def _drop(self, pieces: Iterable[Piece]) -> None:
        self._dropped += [path for piece in pieces for path in (piece.events, piece.labels)]

    def tidy(self) -> None:
        """Remove files that are not used any more; no query may be running."""
        with self._lock:
            for path in self._dropped:
                path.unlink(missing_ok=True)
            self._dropped = []

    def _write(self, start: int, stop: int, columns: Columns) -> Piece:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        events = self._folder / f"{self._number}.events.arrow"
        labels = self._folder / f"{self._number}.labels.arrow"
        write_arrow(events, columns.events)
        write_arrow(labels, columns.labels)
        return Piece(start, stop, events, labels)


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table so that another process can use it where it lies."""
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def _read(piece: Piece) -> Columns:
    return Columns(*(pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in piece[2:]))
