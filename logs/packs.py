"""Packs in files: bulk values, appended, never changed, each stored once.

A value is durable after `sync`, so `sync` comes before the append of the record that names it. What
a crash leaves of values that no record names is passed over, never cut off: a pack only grows.
FORMAT.md describes every byte.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptPack, StorageFull, WritesHalted
from dvid_es.logs.base import Finding, PackRef, check_value
from dvid_es.logs.checksums import content_digest, crc32c
from dvid_es.logs.disk import DISK, Disk, failure, lock_folder, remove_unfinished
from dvid_es.logs.packcheck import verify_pack
from dvid_es.logs.packfile import HEAD_BYTES, HEADER_BYTES, list_packs
from dvid_es.logs.packindex import PackIndex, open_index, write_index
from dvid_es.logs.packread import Handle, PackReader
from dvid_es.logs.packwrite import ActivePack, list_values

logger = logging.getLogger(__name__)

PACK_BYTES = 1 << 30


class _Found(NamedTuple):
    ref: PackRef | None
    """Of an equal, undamaged value."""
    is_inherited: bool
    """It is of an earlier process and may never have been synced."""
    met_damage: bool
    """There is an equal value that is damaged."""


class FilePacks(PackReader):
    """`Packs` in files; the only writer of its folder."""

    def __init__(self, folder: Path, *, pack_bytes: int = PACK_BYTES, disk: Disk = DISK) -> None:
        """Open the packs in `folder`, or start them.

        Args:
            folder: of these packs alone; made, with mode 0700, if it is not there.
            pack_bytes: a pack that would grow over this is sealed and a new one started.
            disk: the operating system.

        Raises:
            CorruptPack: the header of the last pack is damaged.
            SettingsError: the folder is in use.
            StorageFull: no space for the first pack.
            WritesHalted: another failure of the operating system.
        """
        super().__init__(folder, disk)
        self._pack_bytes = pack_bytes
        # Guards appending; never held while the disk syncs what others put.
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._halted = ""
        self._folder_lock = -1
        self._indexes: list[PackIndex] = []
        """Of the sealed packs, newest first."""
        self._unsynced: list[Handle] = []
        try:
            disk.make_folder(self._folder)
            self._folder_lock = lock_folder(disk, self._folder)
            self._active = self._open_all()
        except OSError as error:
            self._release()
            raise failure(error, f"the packs in {self._folder} cannot be opened") from error
        except BaseException:
            self._release()
            raise

    def _open_all(self) -> ActivePack:
        remove_unfinished(self._disk, self._folder)
        numbers = list_packs(self._folder)
        for number in numbers[:-1]:
            self._open_index(number)
        if not numbers:
            return self._adopt(ActivePack.start(self._disk, self.path(1), 1))
        active = ActivePack.reopen(self._disk, self.path(numbers[-1]), numbers[-1])
        # What an earlier process wrote but did not sync may be found equal to a new value.
        self._unsynced = [active.handle]
        self._disk.sync_folder(self._folder)
        return self._adopt(active)

    def _adopt(self, active: ActivePack) -> ActivePack:
        """Let reading use the file that is open for writing."""
        self._handles[active.number] = active.handle
        return active

    def _open_index(self, number: int) -> None:
        """Open the index of a sealed pack, after making it if it is missing or wrong."""
        path = self.path(number)
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            size = self._disk.size(fd)
            index = open_index(self._disk, path, number, size)
            if index is None or index.header.covered != size:
                logger.info("making the index of %s", path)
                refs = list_values(self._disk, fd, number, HEADER_BYTES, size)
                write_index(self._disk, path, number, size, refs)
                index = open_index(self._disk, path, number, size)
        finally:
            self._disk.close(fd)
        if index is not None:
            self._indexes.insert(0, index)

    def put(self, data: bytes | memoryview) -> PackRef:
        """Add one value; see `Packs.put`."""
        return self.put_many([data])[0]

    def put_many(self, values: Sequence[bytes | memoryview]) -> list[PackRef]:
        """Add values, all or none; see `Packs.put_many`."""
        plain = [_plain(value) for value in values]
        digests = [content_digest(value) for value in plain]
        known: dict[bytes, PackRef] = {}
        new: dict[bytes, tuple[bytes | memoryview, int]] = {}
        again: dict[bytes, tuple[PackRef, bytes | memoryview]] = {}
        damaged = set()
        for digest, value in zip(digests, plain, strict=True):
            if digest in known or digest in new:
                continue
            found = self._find(digest, value)
            if found.ref is None:
                new[digest] = value, crc32c(value)
            else:
                known[digest] = found.ref
            if found.ref is not None and found.is_inherited:
                again[digest] = found.ref, value
            if found.met_damage:
                damaged.add(digest)
        with self._lock:
            self._check_usable()
            for digest, (ref, value) in again.items():
                if ref.pack == self._active.number:
                    self._renew(ref, value)
                else:
                    new[digest] = value, ref.checksum
            if new:
                known |= self._append(new, damaged)
        return [known[digest] for digest in digests]

    def _find(self, digest: bytes, value: bytes | memoryview) -> _Found:
        """Look for an equal, undamaged value."""
        met_damage = False
        for ref, is_inherited in self._candidates(digest):
            try:
                if ref.length == len(value) and self.get(ref) == value:
                    return _Found(ref, is_inherited, met_damage)
            except CorruptPack as error:
                logger.warning("a damaged value is stored again: %s", error)
            met_damage = True
        return _Found(None, False, met_damage)

    def _candidates(self, digest: bytes) -> Iterator[tuple[PackRef, bool]]:
        """Return where a value may lie, newest first, and whether it is inherited."""
        active = self._active
        if ref := active.refs.get(digest):
            yield ref, False
        if ref := active.inherited.get(digest):
            yield ref, True
        for index in list(self._indexes):
            if ref := index.find(digest):
                yield ref, False

    def _renew(self, ref: PackRef, value: bytes | memoryview) -> None:
        """Make sure, under the lock, that the next sync covers a value of an earlier process."""
        try:
            self._active.renew(ref, value)
        except WritesHalted as error:
            self._halted = str(error)
            raise
        self._note_unsynced()

    def _note_unsynced(self) -> None:
        if self._active.handle not in self._unsynced:
            self._unsynced.append(self._active.handle)

    def _append(
        self, new: dict[bytes, tuple[bytes | memoryview, int]], damaged: set[bytes]
    ) -> dict[bytes, PackRef]:
        """Write values at the end of the active pack, under the lock.

        Args:
            new: value and checksum by digest.
            damaged: digests under which there is only a damaged value.
        """
        active = self._active
        # Another thread may have put an equal value since it was looked for.
        faster = {
            digest: active.refs[digest]
            for digest in new
            if digest in active.refs and digest not in damaged
        }
        fresh = {digest: item for digest, item in new.items() if digest not in faster}
        if not fresh:
            return faster
        size = sum(HEAD_BYTES + len(value) for value, _ in fresh.values())
        if active.size + size > self._pack_bytes and active.size > HEADER_BYTES:
            active = self._roll(active)
        try:
            refs = active.append(fresh)
        except WritesHalted as error:
            self._halted = str(error)
            raise
        self._note_unsynced()
        return faster | refs

    def _roll(self, full: ActivePack) -> ActivePack:
        """Start the next pack after making the one before durable; nothing syncs it later."""
        if full.handle in self._unsynced:
            self._sync([full.handle])
            self._unsynced.remove(full.handle)
        number = full.number + 1
        try:
            active = ActivePack.start(self._disk, self.path(number), number)
        except OSError as error:
            failed = failure(error, f"a new pack could not be started in {self._folder}")
            if not isinstance(failed, StorageFull):
                self._halted = str(failed)
            raise failed from error
        try:
            full.write_index()
        except OSError as error:
            # Without it values of this pack are stored again, and the next start makes it.
            logger.warning("the index of %s was not written: %s", full.path, error)
        index = open_index(self._disk, full.path, full.number, full.size)
        if index is not None:
            self._indexes.insert(0, index)
        self._active = self._adopt(active)
        return active

    def sync(self) -> None:
        """Make all values put so far durable; see `Packs.sync`."""
        with self._sync_lock:
            with self._lock:
                self._check_usable()
                handles, self._unsynced = self._unsynced, []
            self._sync(handles)

    def _sync(self, handles: list[Handle]) -> None:
        for handle in handles:
            try:
                self._disk.sync_data(handle.fd)
            except OSError as error:
                self._halted = f"a sync failed and is never tried again: {error}"
                raise WritesHalted(f"the packs in {self._folder}: {self._halted}") from error

    def verify(self) -> Iterator[Finding]:
        """Read every byte of every pack and return what is wrong; see `Packs.verify`."""
        with self._lock:
            number, size = self._active.number, self._active.size
        for pack in list_packs(self._folder):
            if pack <= number:
                yield from verify_pack(
                    self._disk, self.path(pack), pack, size if pack == number else None
                )

    def close(self) -> None:
        """Sync, index the active pack for a quick start, and release; more calls do nothing."""
        with self._sync_lock, self._lock:
            try:
                if not self._halted:
                    self._sync(self._unsynced)
                    self._active.write_index()
            except OSError as error:
                logger.warning("the index of %s was not written: %s", self._active.path, error)
            finally:
                self._halted = self._halted or "they are closed"
                self._active.release()
                self._release()

    def _check_usable(self) -> None:
        if self._halted:
            raise WritesHalted(f"the packs in {self._folder} take no writes: {self._halted}")

    def _release(self) -> None:
        super().close()
        self._unsynced, self._indexes = [], []
        if self._folder_lock >= 0:
            self._disk.close(self._folder_lock)
            self._folder_lock = -1


def _plain(value: bytes | memoryview) -> bytes | memoryview:
    """Return a value as bytes one by one, after checking its length."""
    if isinstance(value, bytes):
        check_value(len(value))
        return value
    view = memoryview(value)
    check_value(view.nbytes)
    return view.cast("B") if view.c_contiguous else view.tobytes()
