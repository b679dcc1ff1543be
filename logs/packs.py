"""Packs in files: bulk values, appended, never changed, each stored once.

A value is durable after `sync`, so `sync` comes before the append of the record that names it. What
a crash leaves of values that no record names is passed over, never cut off: a pack only grows.
FORMAT.md describes every byte.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dvid_es.errors import CorruptPack, DvidError, StorageFull, WritesHalted
from dvid_es.logs.base import Finding, PackRef, check_value
from dvid_es.logs.checksums import content_digest, crc32c
from dvid_es.logs.disk import DISK, NO_SPACE, Disk, lock_folder, read_all, write_all
from dvid_es.logs.packcheck import verify_pack
from dvid_es.logs.packfile import (
    HEAD_BYTES,
    HEADER_BYTES,
    Value,
    check_header,
    encode_head,
    encode_header,
    list_packs,
    walk_pack,
)
from dvid_es.logs.packindex import NEW_SUFFIX, PackIndex, open_index, write_index
from dvid_es.logs.packread import Handle, PackReader

logger = logging.getLogger(__name__)

PACK_BYTES = 1 << 30


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
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._halted = ""
        self._folder_lock = -1
        self._active: Handle | None = None
        self._number = 0
        self._size = 0
        self._refs: dict[bytes, PackRef] = {}
        """Values of the active pack by digest."""
        self._indexes: list[PackIndex] = []
        """Of the sealed packs, newest first."""
        self._unsynced: list[Handle] = []
        try:
            disk.make_folder(self._folder)
            self._folder_lock = lock_folder(disk, self._folder)
            self._open_all()
        except OSError as error:
            self._release()
            kind = StorageFull if error.errno in NO_SPACE else WritesHalted
            raise kind(f"the packs in {self._folder} cannot be opened: {error}") from error
        except BaseException:
            self._release()
            raise

    def _open_all(self) -> None:
        for leftover in self._folder.glob("*" + NEW_SUFFIX):
            self._disk.unlink(leftover)
        numbers = list_packs(self._folder)
        for number in numbers[:-1]:
            self._open_index(number)
        if numbers:
            self._open_active(numbers[-1])
        else:
            self._start_pack(1)

    def _open_index(self, number: int) -> None:
        """Open the index of a sealed pack, after making it if it is missing or wrong."""
        path = self.path(number)
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            size = self._disk.size(fd)
            index = open_index(self._disk, path, number, size)
            if index is None or index.header.covered != size:
                logger.info("making the index of %s", path)
                refs = _heads(self._disk, fd, number, HEADER_BYTES, size)
                write_index(self._disk, path, number, size, refs)
                index = open_index(self._disk, path, number, size)
        finally:
            self._disk.close(fd)
        if index is not None:
            self._indexes.insert(0, index)

    def _open_active(self, number: int) -> None:
        """Open the last pack for appending; its size on disk is where the next value goes."""
        path = self.path(number)
        handle = Handle(self._disk, self._disk.open(path, os.O_RDWR))
        size = self._disk.size(handle.fd)
        check_header(read_all(self._disk, handle.fd, HEADER_BYTES, 0), path, number)
        start, refs = HEADER_BYTES, {}
        index = open_index(self._disk, path, number, size)
        if index is not None and (loaded := index.load()) is not None:
            start, refs = index.header.covered, loaded
        refs.update((r.digest, r) for r in _heads(self._disk, handle.fd, number, start, size))
        self._active, self._number, self._size, self._refs = handle, number, size, refs
        self._handles[number] = handle
        # What an earlier process wrote but did not sync may be found as a copy of a new value.
        self._unsynced = [handle]
        self._disk.sync_folder(self._folder)

    def put(self, data: bytes | memoryview) -> PackRef:
        """Add one value; see `Packs.put`."""
        return self.put_many([data])[0]

    def put_many(self, values: Sequence[bytes | memoryview]) -> list[PackRef]:
        """Add values, all or none; see `Packs.put_many`."""
        plain = [_plain(value) for value in values]
        digests = [content_digest(value) for value in plain]
        known: dict[bytes, PackRef] = {}
        new: dict[bytes, tuple[bytes | memoryview, int]] = {}
        for digest, value in zip(digests, plain, strict=True):
            if digest in known or digest in new:
                continue
            ref = self._find_good(digest, value)
            if ref is None:
                new[digest] = value, crc32c(value)
            else:
                known[digest] = ref
        if new:
            known |= self._append(new, {digest: self._refs.get(digest) for digest in new})
        elif self._halted:
            self._check_usable()
        return [known[digest] for digest in digests]

    def _find_good(self, digest: bytes, value: bytes | memoryview) -> PackRef | None:
        """Return the reference of an equal value that is there and undamaged."""
        for ref in self._candidates(digest):
            try:
                if ref.length == len(value) and self.get(ref) == value:
                    return ref
            except CorruptPack as error:
                logger.warning("a damaged value is stored again: %s", error)
        return None

    def _candidates(self, digest: bytes) -> Iterator[PackRef]:
        if ref := self._refs.get(digest):
            yield ref
        for index in list(self._indexes):
            if ref := index.find(digest):
                yield ref

    def _append(
        self,
        new: dict[bytes, tuple[bytes | memoryview, int]],
        seen: dict[bytes, PackRef | None],
    ) -> dict[bytes, PackRef]:
        """Write values at the end of the active pack.

        Args:
            new: value and checksum by digest.
            seen: what the active pack had under these digests when they were looked up; if it has
                another one now, another thread was faster and its copy is taken.
        """
        with self._lock:
            self._check_usable()
            refs: dict[bytes, PackRef] = {}
            fresh: dict[bytes, PackRef] = {}
            size = sum(HEAD_BYTES + len(value) for value, _ in new.values())
            if self._size + size > self._pack_bytes and self._size > HEADER_BYTES:
                self._roll()
            position = self._size
            buffers: list[bytes | memoryview] = []
            for digest, (value, checksum) in new.items():
                faster = self._refs.get(digest)
                if faster is not None and faster != seen[digest]:
                    refs[digest] = faster
                    continue
                ref = PackRef(self._number, position + HEAD_BYTES, len(value), checksum, digest)
                buffers += [encode_head(ref), value]
                position = ref.offset + ref.length
                fresh[digest] = ref
            self._write(buffers)
            self._size = position
            self._refs.update(fresh)
            if self._active not in self._unsynced:
                self._unsynced.append(self._active)
            return refs | fresh

    def _write(self, buffers: list[bytes | memoryview]) -> None:
        """Write at the end of the active pack; if that fails, leave it as it was."""
        try:
            write_all(self._disk, self._active.fd, buffers, self._size)
        except OSError as error:
            raise self._undo(error) from error

    def _undo(self, error: OSError) -> DvidError:
        """Cut off what a failed write left, which no reference names, and return what to raise."""
        try:
            self._disk.truncate(self._active.fd, self._size)
        except OSError as second:
            return self._halt(f"a write failed ({error}) and could not be undone: {second}")
        if error.errno in NO_SPACE:
            return StorageFull(f"no space for the packs in {self._folder}: {error}")
        return self._halt(f"a write failed: {error}")

    def _roll(self) -> None:
        """Start the next pack and index the one before."""
        number, size, refs = self._number, self._size, self._refs
        self._start_pack(number + 1)
        try:
            write_index(self._disk, self.path(number), number, size, refs.values())
        except OSError as error:
            # Without it values of this pack are stored again, and the next start makes it.
            logger.warning("the index of %s was not written: %s", self.path(number), error)
        index = open_index(self._disk, self.path(number), number, size)
        if index is not None:
            self._indexes.insert(0, index)

    def _start_pack(self, number: int) -> None:
        """Start a pack whose name appears only when its header is durable.

        Raises:
            StorageFull: nothing is changed, and it may be tried again.
            WritesHalted: the operating system failed otherwise.
        """
        path = self.path(number)
        new_path = path.with_name(path.name + NEW_SUFFIX)
        try:
            handle = Handle(
                self._disk, self._disk.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            write_all(self._disk, handle.fd, [encode_header(number)], 0)
            self._disk.sync_data(handle.fd)
            self._disk.rename(new_path, path)
            self._disk.sync_folder(self._folder)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise StorageFull(f"no space for a pack in {self._folder}: {error}") from error
            raise self._halt(f"a new pack could not be started: {error}") from error
        self._active, self._number, self._size, self._refs = handle, number, HEADER_BYTES, {}
        self._handles[number] = handle

    def sync(self) -> None:
        """Make all values put so far durable; see `Packs.sync`."""
        with self._sync_lock:
            with self._lock:
                self._check_usable()
                handles, self._unsynced = self._unsynced, []
            for handle in handles:
                try:
                    self._disk.sync_data(handle.fd)
                except OSError as error:
                    raise self._halt(f"a sync failed and is never tried again: {error}") from error

    def verify(self) -> Iterator[Finding]:
        """Read every byte of every pack and return what is wrong; see `Packs.verify`."""
        with self._lock:
            sizes = {self._number: self._size}
        for number in list_packs(self._folder):
            yield from verify_pack(self._disk, self.path(number), number, sizes.get(number))

    def close(self) -> None:
        """Sync, index the active pack for a quick start, and release; more calls do nothing."""
        with self._sync_lock, self._lock:
            try:
                if self._active is not None and not self._halted:
                    for handle in self._unsynced:
                        self._disk.sync_data(handle.fd)
                    write_index(
                        self._disk,
                        self.path(self._number),
                        self._number,
                        self._size,
                        self._refs.values(),
                    )
            except OSError as error:
                raise self._halt(f"closing failed: {error}") from error
            finally:
                self._halted = self._halted or "they are closed"
                self._release()

    def _check_usable(self) -> None:
        if self._halted:
            raise WritesHalted(f"the packs in {self._folder} take no writes: {self._halted}")

    def _halt(self, reason: str) -> WritesHalted:
        self._halted = reason
        return WritesHalted(f"the packs in {self._folder} take no writes: {reason}")

    def _release(self) -> None:
        super().close()
        self._active, self._unsynced, self._indexes = None, [], []
        if self._folder_lock >= 0:
            self._disk.close(self._folder_lock)
            self._folder_lock = -1


def _heads(disk: Disk, fd: int, number: int, start: int, stop: int) -> Iterable[PackRef]:
    """Return the values between two positions of a pack, by their heads alone."""

    def read(length: int, offset: int) -> bytes:
        return read_all(disk, fd, length, offset)

    return [item.ref for item in walk_pack(read, number, start, stop) if isinstance(item, Value)]


def _plain(value: bytes | memoryview) -> bytes | memoryview:
    """Return a value as bytes one by one, after checking its length."""
    if isinstance(value, bytes):
        check_value(len(value))
        return value
    view = memoryview(value)
    check_value(view.nbytes)
    return view.cast("B") if view.contiguous else view.tobytes()
