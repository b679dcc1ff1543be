"""Reading records of segments, also beside the process that appends to them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import SettingsError
from dvid_es.logs.base import Stored
from dvid_es.logs.disk import DISK, Disk, read_all
from dvid_es.logs.frames import BadFrame, walk_records
from dvid_es.logs.recovery import load_segments
from dvid_es.logs.segment import DamagedSegment, IndexEntry, Segment


class Part(NamedTuple):
    """What to read of one segment."""

    path: Path
    place: IndexEntry
    """Where to begin: at or before the first record wanted."""

    size: int
    """Bytes to read at most, so that later appends are not seen."""

    start: int
    stop: int
    """The records wanted; `stop` is exclusive."""


class LogReader:
    """A log as it is when this is made; nothing is locked or changed."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        """Read what `folder` says of its segments.

        Raises:
            CorruptLog: damage that is no torn tail.
            SettingsError: there is no log.
        """
        found = load_segments(disk, folder, None) if folder.is_dir() else None
        if found is None:
            raise SettingsError(f"{folder} holds no log")
        self._disk = disk
        self._segments = found.segments
        self.stream_id = found.stream_id

    @property
    def end(self) -> int:
        """The number of records."""
        return self._segments[-1].end

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`, verified; see `Log.read`."""
        for part in places(self._segments, start, self.end if stop is None else stop):
            yield from read_part(self._disk, part)


def places(segments: Sequence[Segment], start: int, stop: int) -> list[Part]:
    """Return where the records `start` ... `stop` (exclusive) lie, as far as they are there."""
    start, stop = max(start, 0), min(stop, segments[-1].end)
    return [
        Part(segment.path, segment.start_for(start), segment.size, start, min(stop, segment.end))
        for segment in segments
        if segment.first < stop and segment.end > start
    ]


def read_part(disk: Disk, part: Part) -> Iterator[Stored]:
    """Return the records of one segment, verified.

    Raises:
        DamagedSegment: stored bytes are not what was written.
    """
    path, place, size, start, stop = part
    try:
        fd = disk.open(path, os.O_RDONLY)
    except OSError as error:
        raise DamagedSegment(path, 0, f"cannot be opened: {error}") from error
    position = place.position

    def read(length: int, offset: int) -> bytes:
        nonlocal position
        position = offset
        return read_all(disk, fd, length, offset)

    try:
        yield from walk_records(
            read, place.position, size, place.chain, place.sequence, start, stop
        )
    except BadFrame as bad:
        raise DamagedSegment(path, bad.position, bad.problem) from None
    except OSError as error:
        raise DamagedSegment(path, position, f"cannot be read: {error}") from error
    finally:
        disk.close(fd)
