"""What a log finds when it is opened: its segments, and what a crash left at their end."""

import hashlib
import logging
import os
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs.disk import Disk, read_all
from dvid_es.logs.frames import FOOTER, MORE, RECORD, BadFrame, Frame, find_witness, walk
from dvid_es.logs.segment import (
    HEADER_BYTES,
    IndexEntry,
    Segment,
    damage,
    decode_header,
    list_segments,
    new_digest,
    open_sealed,
)

logger = logging.getLogger(__name__)

_HASH_PIECE_BYTES = 1 << 20


class Recovered(NamedTuple):
    """The segments of a log, as far as they are whole."""

    stream_id: str
    segments: list[Segment]
    torn: "Torn"
    """What follows the last valid append."""


class Torn(NamedTuple):
    """Bytes after the last whole append, which nobody was told is durable."""

    size: int
    """Length of the file with them."""
    problem: str
    """Why they are invalid; empty if there are none."""
    synced_upto: int
    """All records below this offset are known to have been durable."""
    marked: bool
    """The last valid frame is a mark or a footer."""


def load_segments(disk: Disk, folder: Path, stream_id: str | None) -> Recovered | None:
    """Return what a folder holds, or None if it holds no segment. Nothing is changed.

    Args:
        disk: the operating system.
        folder: of the stream.
        stream_id: the expected name, or None to accept the stored one.

    Raises:
        CorruptLog: damage that is no torn tail.
        SettingsError: the folder belongs to another stream.
    """
    paths = list_segments(folder)
    if not paths:
        return None
    segments: list[Segment] = []
    expected, chain = 0, 0
    for path in paths[:-1]:
        header, segment = open_sealed(disk, path)
        stream_id = _check_place(path, header, stream_id, expected, chain)
        segments.append(segment)
        expected, chain = segment.end, segment.chain
    fd = disk.open(paths[-1], os.O_RDONLY)
    try:
        header = decode_header(read_all(disk, fd, HEADER_BYTES, 0), paths[-1])
        stream_id = _check_place(paths[-1], header, stream_id, expected, chain)
        segment = Segment(
            paths[-1], expected, expected, HEADER_BYTES, header.chain,
            index=[IndexEntry(expected, HEADER_BYTES, header.chain)],
        )  # fmt: skip
        torn = _scan_last(disk, fd, segment)
    finally:
        disk.close(fd)
    segments.append(segment)
    return Recovered(stream_id, segments, torn)


def _check_place(
    path: Path, header: tuple, stream_id: str | None, expected: int, chain: int
) -> str:
    """Return the stream's name after checking that a segment continues the one before."""
    name, first, previous, _ = header
    if stream_id is not None and name != stream_id:
        raise SettingsError(f"{path} belongs to the stream {name!r}, not to {stream_id!r}")
    if first != expected:
        raise damage(path, 0, f"the segment starts with record {first}, but {expected} must follow")
    if previous != chain:
        raise damage(path, 0, "the segment does not continue the one before it")
    return name


def _scan_last(disk: Disk, fd: int, segment: Segment) -> Torn:
    """Advance `segment` over its valid appends and return what follows them."""
    size = disk.size(fd)
    synced = segment.first
    pending: Frame | None = None
    marked, problem = False, ""

    def read(length: int, offset: int) -> bytes:
        return read_all(disk, fd, length, offset)

    try:
        for frame in walk(read, HEADER_BYTES, size, segment.chain, segment.first):
            if segment.sealed:
                raise damage(segment.path, segment.size, "bytes follow the end of the segment")
            synced = max(synced, frame.synced_upto)
            if frame.type == RECORD and frame.flags & MORE:
                pending = frame
                continue
            if frame.type != RECORD and pending is not None:
                raise damage(segment.path, segment.size, "an append has no end")
            pending, marked = None, frame.type != RECORD
            _advance(segment, frame)
    except BadFrame as bad:
        problem = bad.problem
        if segment.sealed:
            raise damage(
                segment.path, segment.size, "bytes follow the end of the segment"
            ) from None
        start = bad.position - 4
        data = read(size - start, start)
        if witness := find_witness(data, bad, start, segment.end):
            at, upto = witness
            raise damage(
                segment.path,
                bad.position,
                f"{problem}, though byte {at} says that all before record {upto} was durable",
            ) from None
    except OSError as error:
        raise damage(segment.path, segment.size, f"cannot be read: {error}") from error
    if pending is not None and not problem:
        problem = "an append is cut short"
    return Torn(size, problem, synced, marked)


def _advance(segment: Segment, frame: Frame) -> None:
    """Take one frame, and what was pending before it, as part of a segment."""
    segment.size, segment.chain = frame.stop, frame.chain
    if frame.type == RECORD:
        segment.end = frame.sequence + 1
    segment.sealed = frame.type == FOOTER
    if not segment.sealed:
        segment.note(segment.end, segment.size, segment.chain)


def settle_tail(disk: Disk, fd: int, segment: Segment, torn: Torn) -> "hashlib.blake2b":
    """Cut off what a crash left, make the rest durable and return its digest so far.

    What may not have been synced is written once more first: after a failed sync an operating
    system may call pages clean that never reached the disk, and a later sync of them proves
    nothing.

    Raises:
        OSError: of the operating system.
    """
    if torn.size > segment.size:
        logger.warning(
            "cut off %d bytes at byte %d of %s, left by a crash before they were durable: %s",
            torn.size - segment.size,
            segment.size,
            segment.path,
            torn.problem,
        )
        disk.truncate(fd, segment.size)
    place = segment.start_for(torn.synced_upto)
    digest = new_digest()
    position = 0
    while position < segment.size:
        piece = read_all(disk, fd, min(_HASH_PIECE_BYTES, segment.size - position), position)
        if not piece:
            raise CorruptLog(f"{segment.path} became shorter while it was opened")
        digest.update(piece)
        if position + len(piece) > place.position:
            skip = max(0, place.position - position)
            disk.pwritev(fd, [memoryview(piece)[skip:]], position + skip)
        position += len(piece)
    disk.sync_data(fd)
    return digest
