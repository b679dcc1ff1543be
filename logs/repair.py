"""Checking a whole log, and keeping the valid part of a damaged one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs.base import Finding
from dvid_es.logs.disk import DISK, Disk, create, lock_folder, read_all
from dvid_es.logs.scan import check_place, scan_segment
from dvid_es.logs.segment import (
    NOT_SEALED,
    DamagedSegment,
    Segment,
    footer_digest,
    list_segments,
    new_digest,
    new_segment,
    read_header,
)

_PIECE_BYTES = 1 << 20


class Report(NamedTuple):
    """What a repair found and did."""

    kept: int
    """Records that are valid, from offset 0."""

    damage: str
    """What is wrong with the first damaged segment; empty if nothing is."""

    aside: Path | None
    """Folder to which damaged files were moved or copied; None if nothing was changed."""

    moved: tuple[str, ...]
    """Names of those files, or of those that a repair would move."""


class _Checked(NamedTuple):
    path: Path
    segment: Segment | None
    """As far as it is valid; None if its header is not."""
    damage: CorruptLog | None


def verify_log(folder: Path, disk: Disk = DISK) -> Iterator[Finding]:
    """Read every byte of a log and return what is wrong; safe beside the process that appends.

    A torn tail of the last segment is no finding: opening the log cuts it off.

    Raises:
        SettingsError: segments of several streams are in the folder.
    """
    for path, _, damage in _check_all(Path(folder), disk):
        if damage is not None:
            if isinstance(damage, DamagedSegment):
                yield Finding(str(path), damage.position, damage.problem)
            else:
                yield Finding(str(path), 0, str(damage))


def repair(folder: Path, accept_loss: bool = False, disk: Disk = DISK) -> Report:
    """Keep the longest valid prefix of a damaged log; what is not in it is set aside.

    Nothing is deleted: the first damaged segment is copied to a new folder `damaged-NNN` before it
    is cut, those after it are moved there. Views that had applied records which are lost are ahead
    of the log afterwards and must be rebuilt.

    Args:
        folder: of the stream; no server may use it.
        accept_loss: False only reports.
        disk: the operating system.

    Raises:
        SettingsError: the folder is in use, or is none.
        OSError: of the operating system; the log is damaged as before, or repaired already.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder: name the folder of one stream")
    lock = lock_folder(disk, folder)
    try:
        kept, valid, damage, rest = 0, None, None, []
        for checked in _check_all(folder, disk):
            if damage is None:
                damage, valid = checked.damage, checked.segment
                kept = valid.end if valid else kept
            if damage is not None:
                rest.append(checked.path)
        if damage is None:
            return Report(kept, "", None, ())
        names = tuple(path.name for path in rest)
        if not accept_loss:
            return Report(kept, str(damage), None, names)
        return Report(kept, str(damage), _set_aside(disk, folder, rest, valid), names)
    finally:
        disk.close(lock)


def _check_all(folder: Path, disk: Disk) -> Iterator[_Checked]:
    """Return each segment as far as it is valid; after damage the next is judged by its header."""
    paths = list_segments(folder)
    stream_id = None
    expected: int | None = 0
    chain = 0
    for path in paths:
        segment = None
        try:
            header = read_header(disk, path)
            if expected is None:
                expected, chain = header.first, header.previous
            begun = new_segment(path, expected, header.chain)
            stream_id = check_place(header, begun, stream_id, chain)
            segment = begun
            tail = scan_segment(disk, segment)
            if path != paths[-1] and (not segment.sealed or tail.size > segment.size):
                raise DamagedSegment(path, segment.size, tail.problem or NOT_SEALED)
            if segment.sealed:
                # If only the digest is wrong, nobody can say which of the records is.
                segment = None
                _check_digest(disk, begun)
                segment = begun
        except CorruptLog as error:
            yield _Checked(path, segment, error)
            expected = None
        else:
            yield _Checked(path, begun, None)
            expected, chain = begun.end, begun.chain


def _check_digest(disk: Disk, segment: Segment) -> None:
    """Compare a sealed segment, whose checksums are right, with the digest in its footer."""
    fd = disk.open(segment.path, os.O_RDONLY)
    try:
        position, expected = footer_digest(
            lambda length, offset: read_all(disk, fd, length, offset), segment.size
        )
        digest = new_digest()
        for start in range(0, position, _PIECE_BYTES):
            digest.update(read_all(disk, fd, min(_PIECE_BYTES, position - start), start))
    finally:
        disk.close(fd)
    if digest.digest() != expected:
        raise DamagedSegment(segment.path, position, "the digest of the segment is wrong")


def _set_aside(disk: Disk, folder: Path, rest: list[Path], valid: Segment | None) -> Path:
    """Move damaged segments to a new folder, and cut the first where its valid part ends.

    The last one goes first: if this is interrupted, the log is damaged at the same place as before.
    """
    number = 1
    while (aside := folder / f"damaged-{number:03d}").exists():
        number += 1
    disk.make_folder(aside)
    for path in reversed(rest[1:]):
        disk.rename(path, aside / path.name)
    disk.sync_folder(aside)
    disk.sync_folder(folder)
    first = rest[0]
    if valid is None:
        disk.rename(first, aside / first.name)
    else:
        _copy(disk, first, aside / first.name)
        fd = disk.open(first, os.O_RDWR)
        try:
            disk.truncate(fd, valid.size)
            disk.sync_data(fd)
        finally:
            disk.close(fd)
    disk.sync_folder(aside)
    disk.sync_folder(folder)
    return aside


def _copy(disk: Disk, source: Path, target: Path) -> None:
    """Copy a file durably; it is at most a segment long."""
    fd = disk.open(source, os.O_RDONLY)
    try:
        data = read_all(disk, fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    disk.close(create(disk, target, [data]))
