"""Disks for tests: one that a crash closes, one that fails, one that remembers for a loss of power."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

from dvid_es.logs.disk import Disk

SECTOR = 512


class CrashDisk(Disk):
    """The real disk, until `crash` ends the process as far as files are concerned."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}
        self.dead = False

    def open(self, path, flags):
        assert not self.dead
        fd = super().open(path, flags)
        self.paths[fd] = Path(path)
        return fd

    def close(self, fd):
        # After a crash the numbers belong to others.
        if self.paths.pop(fd, None) is not None:
            super().close(fd)

    def crash(self) -> None:
        self.dead = True
        for fd in list(self.paths):
            self.close(fd)


class FaultyDisk(CrashDisk):
    """Fails the n-th call of some kinds."""

    KINDS = ("open", "pread", "pwritev", "truncate", "sync_data", "sync_folder", "rename", "unlink")

    def __init__(self, kinds=(), nth=0, error=errno.EIO, short=False, lasting=False) -> None:
        """Fail a call.

        Args:
            kinds: which calls count; empty counts none.
            nth: which of them fails, from 1.
            error: its error number.
            short: a write that fails writes half of its bytes first.
            lasting: all counted calls after it fail too, until `mend`.
        """
        super().__init__()
        self.kinds, self.nth, self.error = frozenset(kinds), nth, error
        self.short, self.lasting = short, lasting
        self.calls = 0
        self.failed = 0

    def mend(self) -> None:
        self.kinds = frozenset()

    def _fails(self, kind: str) -> bool:
        if kind not in self.kinds:
            return False
        self.calls += 1
        fails = self.calls == self.nth or (self.lasting and self.calls > self.nth)
        self.failed += fails
        return fails

    def _check(self, kind: str) -> None:
        if self._fails(kind):
            raise OSError(self.error, f"injected failure of {kind}")

    def open(self, path, flags):
        self._check("open")
        return super().open(path, flags)

    def pread(self, fd, length, offset):
        self._check("pread")
        return super().pread(fd, length, offset)

    def pread_into(self, fd, buffer, offset):
        self._check("pread")
        return super().pread_into(fd, buffer, offset)

    def pwritev(self, fd, buffers, offset):
        if self._fails("pwritev"):
            if self.short:
                data = b"".join(buffers)
                super().pwritev(fd, [data[: len(data) // 2]], offset)
            raise OSError(self.error, "injected failure of pwritev")
        return super().pwritev(fd, buffers, offset)

    def truncate(self, fd, length):
        self._check("truncate")
        super().truncate(fd, length)

    def sync_data(self, fd):
        self._check("sync_data")
        super().sync_data(fd)

    def sync_folder(self, folder):
        self._check("sync_folder")
        super().sync_folder(folder)

    def rename(self, old, new):
        self._check("rename")
        super().rename(old, new)

    def unlink(self, path):
        self._check("unlink")
        super().unlink(path)


class World:
    """What is surely on a disk, and what is only in the memory of the operating system.

    Nothing orders what is not synced: any of it may reach the disk, in pieces of a sector.
    """

    def __init__(self) -> None:
        self.names: dict[Path, int] = {}
        self.files: dict[int, bytearray] = {}
        self.pending_names: list[tuple[str, Path, Path | int]] = []
        self.pending: dict[int, list[tuple[int, bytes | None]]] = {}

    def apply(self, op: tuple) -> None:
        kind, *rest = op
        if kind == "create":
            path, inode = rest
            self.files[inode], self.pending[inode] = bytearray(), []
            self.pending_names.append(("create", path, inode))
        elif kind == "write":
            inode, offset, data = rest
            self.pending[inode].append((offset, data))
        elif kind == "truncate":
            inode, length = rest
            self.pending[inode].append((length, None))
        elif kind == "sync":
            for change in self.pending[rest[0]]:
                _change(self.files[rest[0]], *change)
            self.pending[rest[0]] = []
        elif kind == "failed sync":
            # Linux marks the pages clean: no later sync writes them.
            self.pending[rest[0]] = []
        elif kind == "sync folder":
            kept = []
            for change in self.pending_names:
                if change[1].parent == rest[0]:
                    _rename(self.names, *change)
                else:
                    kept.append(change)
            self.pending_names = kept
        else:
            self.pending_names.append(op)

    def images(self, chance: random.Random, count: int) -> Iterator[dict[Path, bytes]]:
        """Return contents of the disk after a loss of power now: the least, the most, and others."""
        yield self._image(lambda: False, chance)
        if any(self.pending.values()) or self.pending_names:
            yield self._image(lambda: True, chance)
            for _ in range(count):
                share = chance.random()
                yield self._image(lambda share=share: chance.random() < share, chance)

    def _image(self, keeps, chance: random.Random) -> dict[Path, bytes]:
        names = dict(self.names)
        for change in self.pending_names:
            if keeps():
                _rename(names, *change)
        image = {}
        for path, inode in names.items():
            data = bytearray(self.files[inode])
            for offset, written in self.pending[inode]:
                if written is None:
                    if keeps():
                        _change(data, offset, None)
                    continue
                start = 0
                while start < len(written):
                    stop = min(len(written), start + SECTOR - (offset + start) % SECTOR)
                    if keeps():
                        _change(data, offset + start, written[start:stop])
                    elif keeps() and offset + stop > len(data):
                        data.extend(bytes(offset + stop - len(data)))
                    start = stop
            image[path] = bytes(data)
        return image


def _change(data: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del data[offset:]
        return
    if len(data) < offset + len(written):
        data.extend(bytes(offset + len(written) - len(data)))
    data[offset : offset + len(written)] = written


def _rename(names: dict[Path, int], kind: str, old: Path, new: Path | int) -> None:
    if kind == "create":
        names[old] = new
    elif old in names:
        inode = names.pop(old)
        if kind == "rename":
            names[new] = inode


class RecordingDisk(CrashDisk):
    """The real disk, with a trace of all changes and syncs in order."""

    def __init__(self, trace: list[tuple] | None = None, inodes: dict[Path, int] | None = None):
        super().__init__()
        self.trace = [] if trace is None else trace
        self.inodes: dict[Path, int] = {} if inodes is None else inodes
        self.by_fd: dict[int, int] = {}
        self.fail_next_sync = False

    def after_crash(self) -> "RecordingDisk":
        """Return the disk as the next process on the same machine has it."""
        self.crash()
        return RecordingDisk(self.trace, self.inodes)

    def open(self, path, flags):
        path = Path(path)
        existed = path.exists()
        fd = super().open(path, flags)
        if not existed:
            self.inodes[path] = sum(op[0] == "create" for op in self.trace)
            self.trace.append(("create", path, self.inodes[path]))
        elif flags & os.O_TRUNC:
            self.trace.append(("truncate", self.inodes[path], 0))
        self.by_fd[fd] = self.inodes[path]
        return fd

    def pwritev(self, fd, buffers, offset):
        written = super().pwritev(fd, buffers, offset)
        self.trace.append(("write", self.by_fd[fd], offset, b"".join(buffers)[:written]))
        return written

    def truncate(self, fd, length):
        super().truncate(fd, length)
        self.trace.append(("truncate", self.by_fd[fd], length))

    def sync_data(self, fd):
        if self.fail_next_sync:
            self.fail_next_sync = False
            self.trace.append(("failed sync", self.by_fd[fd]))
            raise OSError(errno.EIO, "injected failure of sync_data")
        self.trace.append(("sync", self.by_fd[fd]))

    def sync_folder(self, folder):
        self.trace.append(("sync folder", Path(folder)))

    def rename(self, old, new):
        super().rename(old, new)
        self.inodes[new] = self.inodes.pop(old)
        self.trace.append(("rename", Path(old), Path(new)))

    def unlink(self, path):
        super().unlink(path)
        del self.inodes[path]
        self.trace.append(("unlink", Path(path), Path(path)))
