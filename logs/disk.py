"""Every call that a log or a pack makes to the operating system, in one replaceable object.

Tests replace it to fail the n-th call, to record a run, and to build what a loss of power leaves.
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dvid_es.errors import DvidError, SettingsError, StorageFull, WritesHalted

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers that mean: the bytes do not fit now, and may fit later."""

NEW_SUFFIX = ".new"
"""End of the name of a file that is not finished."""

_BUFFERS_PER_CALL = 512


class Disk:
    """The operating system's files, as this package uses them."""

    def open(self, path: Path, flags: int) -> int:
        """Return a file descriptor; a new file gets mode 0600."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        """Release a file descriptor."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """Return the length of a file in bytes."""
        return os.fstat(fd).st_size

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`."""
        return os.pread(fd, length, offset)

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Read from `offset` into `buffer`; return how many bytes were read."""
        return os.preadv(fd, [buffer], offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write buffers one after the other from `offset`; return how many bytes were written."""
        return os.pwritev(fd, buffers, offset)

    def truncate(self, fd: int, length: int) -> None:
        """Cut a file to `length` bytes."""
        os.ftruncate(fd, length)

    def sync_data(self, fd: int) -> None:
        """Return when the file's bytes and its length are on stable storage."""
        if (
            sys.platform == "darwin"
        ):  # pragma: no cover - fsync alone does not flush the drive there
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in a folder are on stable storage."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what has that name."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def make_folder(self, folder: Path) -> None:
        """Make a folder of mode 0700 unless it exists, and its name durable."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(folder.parent)


DISK = Disk()
"""The disk of this machine."""


def write_all(disk: Disk, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """Write all of `buffers` from `offset`: one call unless they are many or it is cut short.

    Returns:
        The position after the last byte.

    Raises:
        OSError: of the operating system; then some of the bytes may be written.
    """
    for start in range(0, len(buffers), _BUFFERS_PER_CALL):
        some = list(buffers[start : start + _BUFFERS_PER_CALL])
        while some:
            written = disk.pwritev(fd, some, offset)
            if written <= 0 and any(map(len, some)):
                raise OSError(errno.ENOSPC, "nothing was written")
            offset += written
            while some and written >= len(some[0]):
                written -= len(some.pop(0))
            if some and written:
                some[0] = memoryview(some[0])[written:]
    return offset


def read_all(disk: Disk, fd: int, length: int, offset: int) -> bytes:
    """Return `length` bytes from `offset`, fewer only where the file ends."""
    data = disk.pread(fd, length, offset)
    while len(data) < length:
        more = disk.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def read_into(disk: Disk, fd: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from `offset`; return how many bytes were there."""
    filled = disk.pread_into(fd, buffer, offset)
    while filled < len(buffer):
        more = disk.pread_into(fd, buffer[filled:], offset + filled)
        if not more:
            break
        filled += more
    return filled


def create(disk: Disk, path: Path, buffers: Sequence[bytes | memoryview]) -> int:
    """Make a file that appears under its name whole and durable, or not at all.

    Returns:
        Its file descriptor, open for reading and writing.

    Raises:
        OSError: of the operating system; nothing has that name, unless it had before.
    """
    new_path = path.with_name(path.name + NEW_SUFFIX)
    fd = disk.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(disk, fd, buffers, 0)
        disk.sync_data(fd)
        disk.rename(new_path, path)
        disk.sync_folder(path.parent)
    except OSError:
        disk.close(fd)
        # What cannot be removed is overwritten by the next attempt or removed at the next start.
        with contextlib.suppress(OSError):
            disk.unlink(new_path)
        raise
    return fd


def remove_unfinished(disk: Disk, folder: Path) -> None:
    """Remove the files that a crash left unfinished."""
    for path in folder.glob("*" + NEW_SUFFIX):
        disk.unlink(path)


def failure(error: OSError, what: str) -> DvidError:
    """Return the error of this project for one of the operating system.

    Args:
        error: of the operating system.
        what: what could not be done, as the start of a sentence.
    """
    if error.errno in NO_SPACE:
        return StorageFull(f"no space: {what}: {error}")
    return WritesHalted(f"{what}: {error}")


def lock_folder(disk: Disk, folder: Path) -> int:
    """Claim a folder for this process until the returned file descriptor is closed.

    Raises:
        SettingsError: another process, or this one, holds it.
    """
    fd = disk.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        disk.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise SettingsError(
            f"{folder} is in use by another server: stop it first, or give this one another folder"
        ) from None
    return fd
