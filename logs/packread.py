"""Reading values from packs: safe beside the thread that appends, and from any process."""

import mmap
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from operator import add, sub
from pathlib import Path
from typing import NoReturn

from dvid_es.errors import CorruptPack
from dvid_es.logs.base import MAX_VALUE_BYTES, FindDamage, PackRef, Places, Take, fresh_memory
from dvid_es.logs.checksums import crc32c, first_damaged
from dvid_es.logs.disk import DISK, Disk, read_all, read_into
from dvid_es.logs.packfile import HEAD_BYTES, HEADER_BYTES, check_header, pack_name

_OPEN_FILES = 128
_FIRST_OFFSET = HEADER_BYTES + HEAD_BYTES
_LAST_OFFSET = 1 << 48
_JOINED_BYTES = 8 << 20
_JOINED_GAP_BYTES = 32 << 10
_BETWEEN_BYTES = 4 << 10
"""So many bytes are rather read for nothing than passed over by another call."""


class Handle:
    """An open file that closes when nobody uses it any more, so that no thread loses it."""

    __slots__ = ("_disk", "fd")

    def __init__(self, disk: Disk, fd: int) -> None:
        """Take over `fd`."""
        self._disk = disk
        self.fd = fd

    def __del__(self) -> None:
        """Close the file."""
        self._disk.close(self.fd)


class PackReader:
    """Gets values by their references; opens packs when they are asked for."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        """Read the packs in `folder`."""
        self._folder = Path(folder)
        self._disk = disk
        self._handles: dict[int, Handle] = {}
        self._handles_lock = threading.Lock()

    def path(self, pack: int) -> Path:
        """Return the file of a pack."""
        return self._folder / pack_name(pack)

    def get(self, ref: PackRef) -> bytes:
        """Return a value, verified; see `Packs.get`."""
        handle = self._handle(ref)
        data = self._read(handle, ref, ref.length, ref.offset)
        self._check(ref, data)
        return data

    def view(self, ref: PackRef) -> memoryview:
        """Return a value where it lies, mapped into memory, after verifying it as `get` does.

        For large values that are looked into for as long as the repository is open. The mapping
        lives as long as the view of it.
        """
        if not ref.length:
            return memoryview(self.get(ref))
        handle = self._handle(ref)
        start = ref.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        skip = ref.offset - start
        try:
            if ref.offset + ref.length > self._disk.size(handle.fd):
                self._check(ref, b"")
            mapped = mmap.mmap(handle.fd, skip + ref.length, access=mmap.ACCESS_READ, offset=start)
        except OSError as error:
            raise CorruptPack(
                f"{self.path(ref.pack)}, byte {ref.offset}: cannot be mapped: {error}"
            ) from error
        value = memoryview(mapped)[skip:]
        self._check(ref, value)
        return value

    def get_many(self, refs: Sequence[PackRef]) -> list[bytes]:
        """Return values in the order of `refs`.

        Neighbours are read by one call, because each call lets another thread take the interpreter.
        """
        values: list[bytes] = [b""] * len(refs)
        order = sorted(range(len(refs)), key=lambda place: refs[place][:2])
        run: list[int] = []
        start = stop = 0
        for place in order:
            ref = refs[place]
            end = ref.offset + ref.length
            if run and (
                ref.pack != refs[run[0]].pack
                or ref.offset - stop > _JOINED_GAP_BYTES
                or end - start > _JOINED_BYTES
            ):
                self._get_run(refs, run, start, stop, values)
                run = []
            if not run:
                start = stop = ref.offset
            run.append(place)
            stop = max(stop, end)
        if run:
            self._get_run(refs, run, start, stop, values)
        return values

    def get_joined(
        self, places: Places, find_damage: FindDamage = first_damaged, take: Take = fresh_memory
    ) -> tuple[memoryview, list[int]]:
        """Return values in one buffer, and where each begins; see `Packs.get_joined`.

        Neighbours are read by one call, and with them what little lies between them.
        """
        packs, offsets, lengths, checksums = places
        if packs and not (min(lengths) >= 0 and max(lengths) <= MAX_VALUE_BYTES):
            self._refuse(places, range(len(packs)))
        runs, starts, size = _runs(places)
        for first, end, begin, stop in runs:
            large = stop - begin > _JOINED_BYTES
            if large and not self._is_there(packs[first], offsets[first] + stop - begin):
                self._refuse(places, range(first, end))
        data = take(size)
        for first, end, begin, stop in runs:
            run = PackRef(packs[first], offsets[first], 0, 0, b"")
            # What the memory held before may be the same values: nothing that was not read may pass.
            if self._fill(run, data[begin:stop]) != stop - begin:
                self._refuse(places, range(first, end))
        wrong = find_damage(data, starts, lengths, checksums)
        if wrong >= 0:
            self._refuse(places, range(wrong, wrong + 1))
        return data, starts

    def _refuse(self, places: Places, some: range) -> NoReturn:
        """Read values again, each alone, to say which one is damaged and how."""
        for columns in list(zip(*places, strict=True))[some.start : some.stop]:
            self.get(PackRef(*columns, b""))
        where = f"{self.path(places.packs[some.start])}, byte {places.offsets[some.start]}"
        raise CorruptPack(f"{where}: bytes of a value were wrong when read first, and right then")

    def _get_run(
        self, refs: Sequence[PackRef], run: list[int], start: int, stop: int, values: list[bytes]
    ) -> None:
        if len(run) == 1:
            values[run[0]] = self.get(refs[run[0]])
            return
        for place in run:
            handle = self._handle(refs[place])
        data = self._read(handle, refs[run[0]], stop - start, start)
        for place in run:
            ref = refs[place]
            value = data[ref.offset - start : ref.offset - start + ref.length]
            self._check(ref, value)
            values[place] = value

    def _handle(self, ref: PackRef) -> Handle:
        """Return the open pack of a reference, whose bounds are checked before any allocation."""
        pack, offset, length, _, _ = ref
        if not (_FIRST_OFFSET <= offset <= _LAST_OFFSET and 0 <= length <= MAX_VALUE_BYTES):
            raise CorruptPack(
                f"a reference names {length} bytes at byte {offset} of {self.path(pack)}: no value"
                " can lie there"
            )
        handle = self._handles.get(pack)
        return handle if handle is not None else self._open(pack)

    def _open(self, pack: int) -> Handle:
        path = self.path(pack)
        try:
            handle = Handle(self._disk, self._disk.open(path, os.O_RDONLY))
            header = read_all(self._disk, handle.fd, HEADER_BYTES, 0)
        except OSError as error:
            raise CorruptPack(
                f"{path} cannot be opened: {error}. Restore the file from a copy"
            ) from error
        check_header(header, path, pack)
        with self._handles_lock:
            while len(self._handles) >= _OPEN_FILES:
                # The oldest; threads that use it hold it open until they are done.
                del self._handles[next(iter(self._handles))]
            return self._handles.setdefault(pack, handle)

    def _read(self, handle: Handle, ref: PackRef, length: int, offset: int) -> bytes:
        try:
            if length > _JOINED_BYTES and offset + length > self._disk.size(handle.fd):
                return b""
            return read_all(self._disk, handle.fd, length, offset)
        except OSError as error:
            raise self._unreadable(ref.pack, offset, error) from error

    def _is_there(self, pack: int, end: int) -> bool:
        """Say whether a pack has so many bytes."""
        handle = self._handle(PackRef(pack, _FIRST_OFFSET, 0, 0, b""))
        return end <= self._disk.size(handle.fd)

    def _fill(self, ref: PackRef, buffer: memoryview) -> int:
        """Read bytes of a pack into memory, and return how many there are."""
        handle = self._handle(ref)
        try:
            return read_into(self._disk, handle.fd, buffer, ref.offset)
        except OSError as error:
            raise self._unreadable(ref.pack, ref.offset, error) from error

    def _unreadable(self, pack: int, offset: int, error: OSError) -> CorruptPack:
        return CorruptPack(
            f"{self.path(pack)}, byte {offset}: cannot be read: {error}. Restore the file from a copy"
        )

    def _check(self, ref: PackRef, data: bytes | memoryview) -> None:
        if len(data) == ref.length and crc32c(data) == ref.checksum:
            return
        problem = (
            "are not what was written"
            if len(data) == ref.length
            else "are not there: the file is shorter"
        )
        raise CorruptPack(
            f"{self.path(ref.pack)}, byte {ref.offset}: the {ref.length} bytes of a value"
            f" {problem}. Restore the file from a copy"
        )

    def close(self) -> None:
        """Let go of all files."""
        with self._handles_lock:
            self._handles.clear()


def _runs(places: Places) -> tuple[list[tuple[int, int, int, int]], list[int], int]:
    """Return which values are read together, where each then begins, and how many bytes that are.

    Of each run: its first value and the one behind its last, and its first byte and the one behind its last.
    """
    packs, offsets, lengths, _ = places
    if not packs:
        return [], [], 0
    stops = list(map(add, offsets, lengths))
    gaps = map(sub, offsets[1:], stops)
    cuts = {place for place, gap in enumerate(gaps, 1) if not 0 <= gap <= _BETWEEN_BYTES}
    if min(packs) != max(packs):
        cuts.update(place for place in range(1, len(packs)) if packs[place] != packs[place - 1])
    runs, starts, size = list[tuple[int, int, int, int]](), list[int](), 0
    for first, end in pairwise([0, *sorted(cuts), len(packs)]):
        moved = size - offsets[first]
        starts += [offset + moved for offset in offsets[first:end]]
        runs.append((first, end, size, stops[end - 1] + moved))
        size = stops[end - 1] + moved
    return runs, starts, size
