"""What a log does when it is opened: finds its segments and settles what a crash left."""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from dvid_es.logs.disk import Disk, read_all, write_all
from dvid_es.logs.scan import Tail, check_place, scan_segment
from dvid_es.logs.segment import (
    NOT_SEALED,
    DamagedSegment,
    Segment,
    list_segments,
    new_digest,
    new_segment,
    open_sealed,
    read_header,
)

logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20


class Recovered(NamedTuple):
    """The segments of a log, as far as they are whole."""

    stream_id: str
    segments: list[Segment]
    tail: Tail
    """What follows the last valid append."""


def load_segments(disk: Disk, folder: Path, stream_id: str | None) -> Recovered | None:
    """Return what a folder holds, or None if it holds no segment. Nothing is changed.

    Of sealed segments only header and footer are read; their records are verified when they are.

    Args:
        disk: the operating system.
        folder: of the stream.
        stream_id: the expected name, or None to accept the stored one.

    Raises:
        CorruptLog: damage that is no torn tail.
        SettingsError: the folder belongs to another stream.
    """
    paths = list_segments(folder)
    segments: list[Segment] = []
    expected = chain = 0
    tail = None
    for path in paths:
        header = read_header(disk, path)
        segment = new_segment(path, expected, header.chain)
        stream_id = check_place(header, segment, stream_id, chain)
        if path is paths[-1]:
            tail = scan_segment(disk, segment)
        else:
            segment = open_sealed(disk, path, header) or _missing_footer(disk, segment)
        segments.append(segment)
        expected, chain = segment.end, segment.chain
    if stream_id is None or tail is None:
        return None
    return Recovered(stream_id, segments, tail)


def _missing_footer(disk: Disk, segment: Segment) -> Segment:
    """Raise the error which names the first bad byte of a segment that has no valid footer."""
    tail = scan_segment(disk, segment)
    problem = tail.problem or NOT_SEALED
    raise DamagedSegment(segment.path, segment.size, problem)


def settle_tail(disk: Disk, fd: int, segment: Segment, tail: Tail) -> hashlib.blake2b:
    """Cut off what a crash left, make the rest durable and return its digest.

    What may not have been synced is written once more first: after a failed sync an operating
    system may call pages clean that never reached the disk, and a later sync of them proves
    nothing.

    Raises:
        OSError: of the operating system.
    """
    if tail.problem:
        logger.warning(
            "cut off %d bytes at byte %d of %s, left by a crash before they were durable: %s",
            tail.size - segment.size,
            segment.size,
            segment.path,
            tail.problem,
        )
    if tail.size > segment.size:
        disk.truncate(fd, segment.size)
    doubtful = segment.start_for(tail.synced_upto).position
    digest = new_digest()
    for position in range(0, segment.size, _PIECE_BYTES):
        piece = read_all(disk, fd, min(_PIECE_BYTES, segment.size - position), position)
        digest.update(piece)
        if position + len(piece) > doubtful:
            skip = max(0, doubtful - position)
            write_all(disk, fd, [memoryview(piece)[skip:]], position + skip)
    disk.sync_data(fd)
    return digest
