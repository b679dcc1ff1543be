"""Carrying a log from one backend to another: copied, read again, compared, then put in place.

Three names in the folder of a repository: `log.moving` is being made and means nothing; `log.ready` is
whole and durable and shall become `log`; `log.moved-NNN` is what it replaced, kept until somebody removes it.
Whatever rename a crash falls between, `settle_move` finishes or undoes the move.
"""

import logging
import shutil
import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptLog
from dvid_es.logs.base import Entry, Log, Stored
from dvid_es.logs.disk import DISK, Disk

logger = logging.getLogger(__name__)

EVENTS_PER_APPEND = 5_000
BYTES_PER_APPEND = 4 << 20

_HEAD = struct.Struct("<QHHqII")


class Moved(NamedTuple):
    """What a move did."""

    events: int
    digest: str
    """Of all events, the same in both logs: BLAKE2b, 32 bytes in hexadecimal."""

    kept: Path
    """The folder of the old log."""


class RunningDigest:
    """A digest of events that does not depend on how a log stores them."""

    def __init__(self) -> None:
        """Start with no events."""
        self._state = blake2b(digest_size=32)

    def add(self, events: Iterable[Stored]) -> None:
        """Go on over events in order."""
        parts: list[bytes] = []
        for offset, kind, schema, time_ns, header, facts in events:
            head = _HEAD.pack(offset, kind, schema, time_ns, len(header), len(facts))
            parts += (head, header, facts)
        self._state.update(b"".join(parts))

    def text(self) -> str:
        """Return it in hexadecimal."""
        return self._state.hexdigest()


def digest_of(log: Log, told: Callable[[int], None] = lambda _: None) -> str:
    """Return the digest of all events of a log; `told` hears how many were read."""
    digest = RunningDigest()
    for events in _batches(log.read()):
        digest.add(events)
        told(events[-1].offset + 1)
    return digest.text()


def move(
    folder: Path,
    open_source: Callable[[Path], Log],
    open_target: Callable[[Path], Log],
    progress: Callable[[str, int, int], None] = lambda *_: None,
    disk: Disk = DISK,
) -> Moved:
    """Copy the log in `folder` / `log` and put the copy in its place when it is proved to be equal.

    Args:
        folder: of a repository; nobody else may use it.
        open_source: opens the log that is there.
        open_target: opens the new one, empty, in the folder that it is given.
        progress: hears of what is done, and how far it is.
        disk: the operating system.

    Raises:
        CorruptLog: the source is damaged, or the copy differs; the log is what it was.
        LogUnavailable: a broker does not answer; the log is what it was.
    """
    settle_move(folder, disk)
    moving = folder / "log.moving"
    source = open_source(folder / "log")
    try:
        target = open_target(moving)
        try:
            digest = _copy(source, target, progress)
        finally:
            target.close()
        events = source.end
        again = open_target(moving)
        try:
            found = digest_of(again, lambda done: progress("checking", done, events))
            if (again.end, found) != (events, digest):
                raise CorruptLog(
                    f"the copy of {folder / 'log'} holds {again.end} events of digest {found}, the"
                    f" log {events} of digest {digest}: nothing is changed"
                )
        finally:
            again.close()
    except BaseException:
        _remove(moving)
        raise
    finally:
        source.close()
    disk.sync_folder(moving)
    disk.rename(moving, folder / "log.ready")
    disk.sync_folder(folder)
    return Moved(events, digest, _put_in_place(folder, disk))


def _copy(source: Log, target: Log, progress: Callable[[str, int, int], None]) -> str:
    if target.end:
        raise CorruptLog(f"the new log of {source.stream_id} holds {target.end} events already")
    digest = RunningDigest()
    for events in _batches(source.read()):
        target.append([Entry(*event[1:]) for event in events])
        digest.add(events)
        progress("copying", events[-1].offset + 1, source.end)
    target.sync()
    return digest.text()


def _batches(events: Iterable[Stored]) -> Iterable[list[Stored]]:
    batch: list[Stored] = []
    size = 0
    for event in events:
        batch.append(event)
        size += len(event.header) + len(event.facts)
        if len(batch) >= EVENTS_PER_APPEND or size >= BYTES_PER_APPEND:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def settle_move(folder: Path, disk: Disk = DISK) -> None:
    """Finish or undo a move that a crash interrupted; nothing else may use the folder."""
    if (folder / "log.moving").exists():
        logger.warning("a move of the log in %s was interrupted and is undone", folder)
        _remove(folder / "log.moving")
    if (folder / "log.ready").exists():
        logger.warning("a move of the log in %s was interrupted and is finished", folder)
        _put_in_place(folder, disk)


def _put_in_place(folder: Path, disk: Disk) -> Path:
    number = 1
    while (kept := folder / f"log.moved-{number:03d}").exists():
        number += 1
    if (folder / "log").exists():
        disk.rename(folder / "log", kept)
        disk.sync_folder(folder)
    else:  # a crash fell between the two renames
        kept = folder / f"log.moved-{number - 1:03d}"
    disk.rename(folder / "log.ready", folder / "log")
    disk.sync_folder(folder)
    return kept


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
