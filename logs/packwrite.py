"""The pack that grows: the last one of a folder."""

import os
from pathlib import Path

from dvid_es.errors import DvidError, StorageFull, WritesHalted
from dvid_es.logs.base import PackRef
from dvid_es.logs.disk import NO_SPACE, Disk, create, failure, read_all, write_all
from dvid_es.logs.packfile import (
    HEAD_BYTES,
    HEADER_BYTES,
    Value,
    check_header,
    encode_head,
    encode_header,
    walk_pack,
)
from dvid_es.logs.packindex import open_index, write_index
from dvid_es.logs.packread import Handle


class ActivePack:
    """A pack to which values are appended by one thread at a time."""

    def __init__(
        self, disk: Disk, path: Path, number: int, handle: Handle, size: int,
        refs: dict[bytes, PackRef],
    ) -> None:  # fmt: skip
        """Use `start` or `reopen`."""
        self._disk = disk
        self.path = path
        self.number = number
        self._handle: Handle | None = handle
        self.size = size
        self.refs = refs
        """Its values by digest."""
        self.inherited: dict[bytes, PackRef] = {}
        """Values of an earlier process that may never have been synced; see `renew`."""

    @property
    def handle(self) -> Handle:
        """The open file."""
        if self._handle is None:
            raise WritesHalted(f"{self.path} is closed")
        return self._handle

    def release(self) -> None:
        """Let go of the file; it closes when no reader uses it."""
        self._handle = None

    @classmethod
    def start(cls, disk: Disk, path: Path, number: int) -> "ActivePack":
        """Make a new pack, whose name appears only when it is durable.

        Raises:
            OSError: of the operating system; nothing is changed.
        """
        handle = Handle(disk, create(disk, path, [encode_header(number)]))
        return cls(disk, path, number, handle, HEADER_BYTES, {})

    @classmethod
    def reopen(cls, disk: Disk, path: Path, number: int) -> "ActivePack":
        """Open a pack that is there; the next value goes behind all that it holds.

        Raises:
            CorruptPack: its header is damaged.
            OSError: of the operating system.
        """
        handle = Handle(disk, disk.open(path, os.O_RDWR))
        size = disk.size(handle.fd)
        check_header(read_all(disk, handle.fd, HEADER_BYTES, 0), path, number)
        covered: int = HEADER_BYTES
        refs: dict[bytes, PackRef] = {}
        index = open_index(disk, path, number, size)
        if index is not None and (loaded := index.load()) is not None:
            covered, refs = index.header.covered, loaded
        pack = cls(disk, path, number, handle, size, refs)
        for ref in list_values(disk, handle.fd, number, covered, size):
            pack.inherited[ref.digest] = ref
        return pack

    def append(self, values: dict[bytes, tuple[bytes | memoryview, int]]) -> dict[bytes, PackRef]:
        """Write values, by one call unless they are many, and return their references by digest.

        Args:
            values: value and checksum by digest.

        Raises:
            StorageFull: nothing was added.
            WritesHalted: another failure; nothing was added, and nothing may be any more.
        """
        position = self.size
        buffers: list[bytes | memoryview] = []
        refs = {}
        for digest, (value, checksum) in values.items():
            ref = PackRef(self.number, position + HEAD_BYTES, len(value), checksum, digest)
            buffers += [encode_head(ref), value]
            position = ref.offset + ref.length
            refs[digest] = ref
        try:
            write_all(self._disk, self.handle.fd, buffers, self.size)
        except OSError as error:
            raise self._undo(error) from error
        self.size = position
        self.refs.update(refs)
        return refs

    def renew(self, ref: PackRef, value: bytes | memoryview) -> None:
        """Write an inherited value once more, at its place, so that the next sync covers it.

        After a failed sync an operating system may call pages clean that never reached the disk; a
        later sync of them proves nothing, also in another process.

        Raises:
            StorageFull: nothing is changed.
            WritesHalted: another failure.
        """
        try:
            position = ref.offset - HEAD_BYTES
            write_all(self._disk, self.handle.fd, [encode_head(ref), value], position)
        except OSError as error:
            raise failure(error, f"a value of {self.path} cannot be written again") from error
        self.refs[ref.digest] = ref
        self.inherited.pop(ref.digest, None)

    def _undo(self, error: OSError) -> DvidError:
        """Cut off what a failed write left, which no reference names, and return what to raise."""
        try:
            self._disk.truncate(self.handle.fd, self.size)
        except OSError as second:
            return WritesHalted(f"a write failed ({error}) and could not be undone: {second}")
        if error.errno in NO_SPACE:
            return StorageFull(f"no space for {self.path}: {error}")
        return WritesHalted(f"a write failed: {error}")

    def write_index(self) -> None:
        """Write the index of all values so far.

        Raises:
            OSError: of the operating system; the old index, if any, is still there.
        """
        write_index(self._disk, self.path, self.number, self.size, self.refs.values())


def list_values(disk: Disk, fd: int, number: int, start: int, stop: int) -> list[PackRef]:
    """Return the values between two positions of a pack, by their heads alone."""

    def read(length: int, offset: int) -> bytes:
        return read_all(disk, fd, length, offset)

    return [item.ref for item in walk_pack(read, number, start, stop) if isinstance(item, Value)]
