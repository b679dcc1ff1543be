"""Reading a whole segment: where its valid appends end, and what follows them."""

import os
from collections.abc import Callable
from typing import NamedTuple

from dvid_es.errors import SettingsError
from dvid_es.logs.disk import Disk, read_all
from dvid_es.logs.frames import FOOTER, MORE, RECORD, BadFrame, Frame, find_witness, walk
from dvid_es.logs.segment import DamagedSegment, Header, Segment

_PIECE_BYTES = 1 << 20


class Tail(NamedTuple):
    """What follows the last valid append of a segment: nothing, or bytes of an unsynced one."""

    size: int
    """Length of the file with them, and with the room after the last append."""

    problem: str
    """Why they are invalid; empty if there are none."""

    synced_upto: int
    """All records below this offset are known to have been durable."""

    marked: bool
    """The last valid frame is a mark or a footer."""


def check_place(header: Header, segment: Segment, stream_id: str | None, chain: int) -> str:
    """Return the stream's name after checking that a segment continues the one before.

    Args:
        header: of the segment.
        segment: which starts with the record that must follow.
        stream_id: the expected name, or None to accept the stored one.
        chain: checksum of the last frame of the segment before.

    Raises:
        SettingsError: the segment belongs to another stream.
        DamagedSegment: segments are missing between, or this is not the original.
    """
    path, first = segment.path, segment.first
    if stream_id is not None and header.stream_id != stream_id:
        raise SettingsError(
            f"{path} belongs to the stream {header.stream_id!r}, not to {stream_id!r}"
        )
    if header.first != first:
        raise DamagedSegment(
            path, 0, f"the segment starts with record {header.first}, but {first} must follow"
        )
    if header.previous != chain:
        raise DamagedSegment(path, 0, "the segment does not continue the one before it")
    return header.stream_id


def scan_segment(disk: Disk, segment: Segment) -> Tail:
    """Advance a segment, new from its header, over its valid appends; say what follows them.

    Raises:
        DamagedSegment: what follows is no torn tail; `segment` ends before it.
    """
    try:
        fd = disk.open(segment.path, os.O_RDONLY)
    except OSError as error:
        raise DamagedSegment(segment.path, 0, f"cannot be opened: {error}") from error
    try:
        return _scan(disk, fd, segment)
    except OSError as error:
        raise DamagedSegment(segment.path, segment.size, f"cannot be read: {error}") from error
    finally:
        disk.close(fd)


def _scan(disk: Disk, fd: int, segment: Segment) -> Tail:
    size = disk.size(fd)
    synced = segment.first
    in_append = marked = False
    problem = ""

    def read(length: int, offset: int) -> bytes:
        return read_all(disk, fd, length, offset)

    try:
        for frame in walk(read, segment.size, size, segment.chain, segment.first):
            if segment.sealed:
                raise BadFrame(segment.size, "bytes follow the end of the segment")
            synced = max(synced, frame.synced_upto)
            if frame.type == RECORD and frame.flags & MORE:
                in_append = True
                continue
            if frame.type != RECORD and in_append:
                raise DamagedSegment(segment.path, segment.size, "an append has no end")
            in_append, marked = False, frame.type != RECORD
            _advance(segment, frame)
    except BadFrame as bad:
        if not in_append and _is_room(read, segment.size, size):
            return Tail(size, "", synced, marked)
        problem = bad.problem
        if segment.sealed:
            # The room was cut off before the footer was written, and nothing else happened before
            # that was synced, so a crash can leave zeros there at most.
            raise DamagedSegment(segment.path, bad.position, problem) from None
        start = bad.position - 4
        witness = find_witness(read(size - start, start), bad, start, segment.end)
        if witness is not None:
            raise DamagedSegment(
                segment.path,
                bad.position,
                f"{problem}, though byte {witness[0]} says that everything before record"
                f" {witness[1]} was durable",
            ) from None
    if in_append and not problem:
        problem = "an append is cut short"
    return Tail(size, problem, synced, marked)


def _is_room(read: Callable[[int, int], bytes], position: int, size: int) -> bool:
    """Say whether a file ends in nothing but zeros: room for appends, never written."""
    while position < size:
        piece = read(min(_PIECE_BYTES, size - position), position)
        if not piece or piece.strip(b"\0"):
            return False
        position += len(piece)
    return True


def _advance(segment: Segment, frame: Frame) -> None:
    """Take one frame, and the frames of its append before it, as part of a segment."""
    segment.size, segment.chain = frame.stop, frame.chain
    if frame.type == RECORD:
        segment.end = frame.sequence + 1
    segment.sealed = frame.type == FOOTER
    if not segment.sealed:
        segment.note(segment.end, segment.size, segment.chain)
