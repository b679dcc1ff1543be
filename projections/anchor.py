"""Anchors: the state of the store that is wholly on the disk while later commits are not yet.

LMDB commits here without waiting for the disk. That alone would be a store that a loss of power
leaves in pieces: pages of many commits, some old, some new. Two things make it sound. A read
transaction is kept open at the anchored state, so LMDB writes over none of its pages; and the meta
page that names its roots is kept in a file of its own, because LMDB does write over that. After a
loss of power the meta page is put back, and the log has all that came later: decision 0013.

An anchor moves on in a thread of its own: the pages are synced, then the meta page is written to the
slot that does not hold the anchor before, then that one's pages are let go.

Source: MDB_meta and mdb_env_pick_meta in mdb.c of LMDB 0.9 (format of its data, version 1).
"""

import fcntl
import logging
import os
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from dvid_es.errors import CorruptStore, WritesHalted

logger = logging.getLogger(__name__)

FILE = "anchor"
DATA = "data.mdb"
INTERVAL_S = 1.0
"""An anchor is at most so old when another one is begun: what a loss of power makes a start replay."""

COMMITS_MAX = 512
PAGES_MAX = 8192
"""So many commits, or pages by which the file grew, make an anchor begin sooner: until it has moved
on, pages that became free are not used again."""

PAGES_WAIT = 1 << 17
"""A commit that makes the file grow by more since the last anchor waits for the next one."""

_META = struct.Struct("=QHHI II QQ 48s 48s QQ")
"""Page number, pad, flags, bounds; magic, version; address, map size; two trees; last page, commit."""

_MAGIC, _VERSION, _META_FLAG = 0xBEEFC0DE, 1, 0x08
_SLOT_BYTES = 1024
_SLOT = struct.Struct(f"<8sQ{_META.size}s128s")
_SLOT_MAGIC = b"DVESANC\n"
_CHECKSUM = struct.Struct("<I")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reader(Protocol):
    """A read transaction of LMDB."""

    def id(self) -> int:
        """Return the number of the commit that it sees."""

    def abort(self) -> None:
        """End it."""


class Slot(NamedTuple):
    """What a slot of the file holds."""

    turn: int
    meta: bytes
    identity: bytes
    """Of file and running system, when the anchor was written."""


class Anchors:
    """Moves the anchor of one open store."""

    def __init__(self, folder: Path, begin: Callable[[], Reader]) -> None:
        """Anchor the store as it is now; all of it is durable when this returns.

        Args:
            folder: of the store, which is settled and open.
            begin: begins a read transaction.

        Raises:
            OSError: of the operating system.
            CorruptStore: the store is none that can be anchored.
        """
        self.failed = ""
        """Why no anchor can be written any more; then nothing may be committed."""
        self.commit_lock = threading.Lock()
        """Held by whoever commits: a meta page is read between two commits."""
        self._begin = begin
        self._held: Reader | None = None
        self._moving = threading.Lock()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._commits = self._page = self._anchored_page = 0
        self._fds = (os.open(folder / DATA, os.O_RDWR | os.O_CLOEXEC), _open_slots(folder))
        try:
            self._turn = max((slot.turn for slot in _slots(self._fds[1])), default=0)
            self._identity = identity(self._fds[0])
            self.move()
        except BaseException:
            self.close()
            raise

    def move(self) -> None:
        """Make the last commit the anchor: it is durable when this returns.

        Raises:
            WritesHalted: a sync failed, now or earlier; the anchor stays where it was.
        """
        with self._moving:
            if self.failed:
                raise WritesHalted(self.failed)
            with self.commit_lock:
                reader = self._begin()
                meta = _meta_of(self._fds[0], reader.id())
            with self._changed:
                self._commits, page = 0, self._page
            try:
                if meta is None:
                    raise CorruptStore("the store's meta page is not as this program knows it")
                _sync(self._fds[0])
                self._write(meta, self._identity)
            except BaseException as problem:
                reader.abort()
                self._fail(problem)
                raise
            held, self._held = self._held, reader
            if held is not None:
                held.abort()
            with self._changed:
                self._anchored_page = page
                self._changed.notify_all()

    def committed(self, last_page: int) -> None:
        """Note a commit after which the file ends with a page; wait if far too much is unsynced."""
        with self._changed:
            self._commits += 1
            self._page = last_page
            grown = last_page - self._anchored_page
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="anchor", daemon=True)
                self._thread.start()
            if self._commits == 1 or self._is_due():
                self._changed.notify_all()
            while grown > PAGES_WAIT and not self.failed and not self._stopping:
                self._changed.wait()
                grown = last_page - self._anchored_page

    def close(self) -> None:
        """Stop; the anchor stays as it is."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._moving:
            held, self._held = self._held, None
            if held is not None:
                held.abort()
            fds, self._fds = self._fds, (-1, -1)
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._commits)
                self._changed.wait_for(lambda: self._stopping or self._is_due(), INTERVAL_S)
                if self._stopping:
                    return
            try:
                self.move()
            except Exception:
                logger.exception("the projections cannot be made durable: no more is written")
                return

    def _is_due(self) -> bool:
        return self._commits >= COMMITS_MAX or self._page - self._anchored_page >= PAGES_MAX

    def _fail(self, problem: BaseException) -> None:
        """Halt, and have the next start go back to the anchor: nobody knows what the disk holds."""
        with self._changed:
            self.failed = f"the projections cannot be made durable: {problem}"
            self._changed.notify_all()
        try:
            anchored = max(_slots(self._fds[1]), default=None)
            if anchored is not None:
                self._write(anchored.meta, b"")
        except OSError as second:
            logger.error("the next start cannot be told to go back to the last anchor: %s", second)

    def _write(self, meta: bytes, known_as: bytes) -> None:
        """Write the slot that the anchor is not in."""
        self._turn += 1
        data = _SLOT.pack(_SLOT_MAGIC, self._turn, meta, known_as)
        place = self._turn % 2 * _SLOT_BYTES
        os.pwrite(self._fds[1], data + _CHECKSUM.pack(zlib.crc32(data)), place)
        _sync(self._fds[1])


def is_supported(folder: Path) -> bool:
    """Say whether the meta pages of a store are as this module knows them."""
    try:
        return bool(_metas_in(folder))
    except OSError:
        return False


def forget(folder: Path) -> None:
    """Remove the anchor of a store that is going to be written without one."""
    (folder / FILE).unlink(missing_ok=True)


def is_torn(folder: Path) -> bool:
    """Say whether commits behind the anchor of a store that nobody has open may be in pieces.

    They are whole while the system runs that they were made in: it has them in memory.

    Raises:
        CorruptStore: the anchor cannot be read.
    """
    return _lost(folder) is not None and not _is_open_elsewhere(folder)


def settle(folder: Path) -> bool:
    """Put a store that is in no use back to its anchor, if it must be; say whether it was.

    Raises:
        WritesHalted: another process has it open.
        CorruptStore: the anchor cannot be read.
        OSError: of the operating system; to be tried again.
    """
    meta = _lost(folder)
    if meta is None:
        return False
    if _is_open_elsewhere(folder):
        raise WritesHalted(f"{folder} is open in another process: end it first")
    _, pad, flags, *rest = _META.unpack(meta)
    commit = rest[-1]
    fd = os.open(folder / DATA, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = _page_size(meta)
        # LMDB takes the later one; the other one names the same roots.
        for page, number in ((commit & 1, commit), (~commit & 1, max(0, commit - 1))):
            os.pwrite(fd, _META.pack(page, pad, flags, *rest[:-1], number), page * size)
        _sync(fd)
    finally:
        os.close(fd)
    logger.warning(
        "%s was not closed in order: back to the last state known to be on the disk", folder
    )
    return True


def identity(fd: int) -> bytes:
    """Return what tells whether the system still has in memory what was written to a file.

    Boot, mount, device and file. It is empty where that cannot be told; then nothing is trusted.
    """
    try:
        boot = _BOOT_ID.read_bytes().strip()
        lines = Path(f"/proc/self/fdinfo/{fd}").read_bytes().splitlines()
    except OSError:
        return b""
    mount = b"".join(line.split()[1] for line in lines if line.startswith(b"mnt_id:"))
    status = os.fstat(fd)
    return b"%s %s %d %d" % (boot, mount, status.st_dev, status.st_ino) if mount else b""


def _lost(folder: Path) -> bytes | None:
    """Return the anchored meta page if what was committed after it may not be there."""
    try:
        fd = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        anchored = max(_slots(fd), default=None)
        if anchored is None and any(os.pread(fd, 2 * _SLOT_BYTES, 0)):
            raise CorruptStore(f"{folder / FILE} is damaged; rebuild: dvid-es rebuild")
    finally:
        os.close(fd)
    if anchored is None:
        return None  # it was never written, so nothing was committed
    metas = _metas_in(folder)
    if metas and metas[-1] == anchored.meta:
        return None
    fd = os.open(folder / DATA, os.O_RDONLY | os.O_CLOEXEC)
    try:
        now = identity(fd)
    finally:
        os.close(fd)
    return None if now and anchored.identity.rstrip(b"\0") == now else anchored.meta


def _open_slots(folder: Path) -> int:
    fd = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(fd).st_size < 2 * _SLOT_BYTES:
        # Written over in place from now on, which needs no space.
        os.pwrite(fd, bytes(2 * _SLOT_BYTES), 0)
        os.fsync(fd)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    return fd


def _slots(fd: int) -> list[Slot]:
    """Return the slots that are whole."""
    found = []
    for place in (0, _SLOT_BYTES):
        data = os.pread(fd, _SLOT.size + _CHECKSUM.size, place)
        if len(data) == _SLOT.size + _CHECKSUM.size:
            magic, turn, meta, known_as = _SLOT.unpack_from(data)
            whole = _CHECKSUM.unpack_from(data, _SLOT.size)[0] == zlib.crc32(data[: _SLOT.size])
            if magic == _SLOT_MAGIC and whole:
                found.append(Slot(turn, meta, known_as))
    return found


def _metas_in(folder: Path) -> list[bytes]:
    """Return the meta pages of a store, the earlier one first; none if they are unknown."""
    fd = os.open(folder / DATA, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _metas(fd)
    finally:
        os.close(fd)


def _metas(fd: int) -> list[bytes]:
    first = os.pread(fd, _META.size, 0)
    if not _is_meta(first):
        return []
    pages = [first, os.pread(fd, _META.size, _page_size(first))]
    return sorted(filter(_is_meta, pages), key=_commit)


def _meta_of(fd: int, commit: int) -> bytes | None:
    return next((meta for meta in _metas(fd) if _commit(meta) == commit), None)


def _is_meta(page: bytes) -> bool:
    if len(page) < _META.size:
        return False
    _, _, flags, _, magic, version, *_ = _META.unpack(page)
    return flags & _META_FLAG != 0 and magic == _MAGIC and version == _VERSION


def _commit(meta: bytes) -> int:
    return int(_META.unpack(meta)[-1])


def _page_size(meta: bytes) -> int:
    """Return the bytes of a page: the first word of the first tree."""
    return int.from_bytes(_META.unpack(meta)[8][:4], sys.byteorder)


def _is_open_elsewhere(folder: Path) -> bool:
    """Say whether another process has the store open: LMDB locks the first byte of its lock file."""
    try:
        fd = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if sys.platform == "darwin":  # pragma: no cover
            asked = struct.pack("qqihh", 0, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
            kind = struct.unpack("qqihh", fcntl.fcntl(fd, fcntl.F_GETLK, asked))[3]
        else:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            kind = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))[0]
        return bool(kind != fcntl.F_UNLCK)
    finally:
        os.close(fd)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":  # pragma: no cover - fsync alone does not flush the drive there
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)
