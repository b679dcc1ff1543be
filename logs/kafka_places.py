"""What a log on Kafka keeps on this machine: which topic it is, and places from which to read.

The topic is the truth. The marker says that a repository's events are there and nowhere else, so that a
topic which is gone is not mistaken for a new one; the index is a hint that can be made anew.
"""

import bisect
import json
import os
import struct
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptLog
from dvid_es.logs.checksums import crc32c
from dvid_es.logs.disk import Disk, create, read_all, write_all
from dvid_es.logs.kafka_fold import Position

MARKER = "kafka.json"
INDEX = "kafka.index"
INDEX_STEP_BYTES = 256 << 10
"""About so many bytes of messages lie between two places: what a start reads again."""

_ENTRY = struct.Struct("<QQQQII")
"""Kafka's offset, sequence, epoch, serial, chain, checksum."""


class Marker(NamedTuple):
    """Which topic holds the events of a stream."""

    stream: str
    topic: str
    log: str
    """Digest of its first message, in hexadecimal: a topic made anew has another."""


def read_marker(folder: Path) -> Marker | None:
    """Return what the folder of a log says, or None if its events are not on Kafka.

    Raises:
        CorruptLog: the marker cannot be read.
    """
    path = folder / MARKER
    try:
        found = json.loads(path.read_text("utf-8"))
        return Marker(found["stream"], found["topic"], found["log"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as problem:
        raise CorruptLog(f"{path} cannot be read ({problem!r}): restore it from a copy") from None


def write_marker(disk: Disk, folder: Path, marker: Marker) -> None:
    """Say durably that the events of a stream are in a topic."""
    text = json.dumps({"format": 1, **marker._asdict()}, indent=1) + "\n"
    disk.close(create(disk, folder / MARKER, [text.encode()]))


class Index:
    """Places between appends from which reading may start, in order."""

    def __init__(self, disk: Disk, folder: Path, first: Position, *, writing: bool) -> None:
        """Read the index of a folder as far as it is good; `first` is the beginning."""
        self._disk = disk
        self._places = [first]
        self._sequences = [first.sequence]
        self._fd = -1
        path = folder / INDEX
        if not writing and not path.exists():
            return
        fd = disk.open(path, os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY)
        try:
            data = read_all(disk, fd, disk.size(fd), 0)
            for at in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
                kafka, sequence, epoch, serial, chain, checksum = _ENTRY.unpack_from(data, at)
                last = self._places[-1]
                if crc32c(data[at : at + _ENTRY.size - 4]) != checksum or kafka <= last.kafka:
                    break
                self._keep(Position(kafka, sequence, chain, epoch, serial))
            if writing:
                disk.truncate(fd, (len(self._places) - 1) * _ENTRY.size)
        except BaseException:
            disk.close(fd)
            raise
        if writing:
            self._fd = fd
        else:
            disk.close(fd)

    @property
    def last(self) -> Position:
        """The last place."""
        return self._places[-1]

    def find(self, sequence: int) -> Position:
        """Return the last place that is not behind an event."""
        return self._places[max(0, bisect.bisect_right(self._sequences, sequence) - 1)]

    def add(self, place: Position) -> None:
        """Keep a place; what cannot be written is only kept in memory, and read again at a start."""
        if place.kafka <= self.last.kafka:
            return
        if self._fd >= 0:
            kafka, sequence, chain, epoch, serial = place
            data = _ENTRY.pack(kafka, sequence, epoch, serial, chain, 0)[:-4]
            data += crc32c(data).to_bytes(4, "little")
            try:
                write_all(self._disk, self._fd, [data], (len(self._places) - 1) * _ENTRY.size)
            except OSError:
                self.close()
        self._keep(place)

    def _keep(self, place: Position) -> None:
        self._places.append(place)
        self._sequences.append(place.sequence)

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._disk.close(fd)
