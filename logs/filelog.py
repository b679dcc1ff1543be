"""A log in a folder of segments, durable at level D0: a synced record survives loss of power.

One call writes an append, one call syncs; who wants to share a sync among many appends does so
above. FORMAT.md describes every byte.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from dvid_es.errors import DvidError, StorageFull, WritesHalted
from dvid_es.logs.base import Entry, Stored, check_entries
from dvid_es.logs.disk import (
    DISK,
    NO_SPACE,
    Disk,
    create,
    failure,
    lock_folder,
    remove_unfinished,
    write_all,
)
from dvid_es.logs.frames import (
    CHECKSUM,
    MARK,
    OVERHEAD,
    encode_control,
    encode_records,
)
from dvid_es.logs.reader import places, read_part
from dvid_es.logs.recovery import load_segments, settle_tail
from dvid_es.logs.segment import (
    Segment,
    encode_footer,
    encode_header,
    new_digest,
    new_segment,
    segment_name,
)

SEGMENT_BYTES = 64 << 20
"""A start reads the last segment whole: about a second for one of this size."""

ROOM_BYTES = 256 << 10
"""Zeros that are written ahead of the appends: while a file does not grow, a sync takes half as long."""


class FileLog:
    """A `Log` in files; the only opener of its folder."""

    def __init__(
        self,
        folder: Path,
        stream_id: str | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        disk: Disk = DISK,
    ) -> None:
        """Open the stream in `folder`, or start it.

        Args:
            folder: of this stream alone; made, with mode 0700, if it is not there.
            stream_id: name of the stream, 1 to 92 bytes of UTF-8; None accepts the stored one.
            segment_bytes: a segment that would grow over this is sealed and a new one started.
            disk: the operating system.

        Raises:
            CorruptLog: damage that is no torn tail; names segment and byte offset.
            SettingsError: the folder is in use, belongs to another stream, or is new and
                `stream_id` is None or no valid name.
            StorageFull: no space for the first segment.
            WritesHalted: another failure of the operating system.
        """
        self._disk = disk
        self._folder = Path(folder)
        self._segment_bytes = segment_bytes
        self._write_lock = threading.Lock()
        # Held for moments only, so that a reader never waits for the disk of the writer.
        self._state_lock = threading.Lock()
        self._halted = ""
        self._reach = 0  # length of the active segment's file, the room included
        self._fd = -1
        self._folder_lock = -1
        try:
            disk.make_folder(self._folder)
            self._folder_lock = lock_folder(disk, self._folder)
            self._open(stream_id)
        except OSError as error:
            self._release()
            raise failure(error, f"the log in {self._folder} cannot be opened") from error
        except BaseException:
            self._release()
            raise

    def _open(self, stream_id: str | None) -> None:
        remove_unfinished(self._disk, self._folder)
        found = load_segments(self._disk, self._folder, stream_id)
        if found is None:
            self._stream_id, self._segments = stream_id or "", []
            self._synced, self._marked = 0, True
            self._start_segment(0, 0)
            return
        self._stream_id, self._segments = found.stream_id, found.segments
        active = self._segments[-1]
        self._reach = active.size
        self._synced, self._marked = active.end, found.tail.marked
        self._fd = self._disk.open(active.path, os.O_RDWR)
        self._digest = settle_tail(self._disk, self._fd, active, found.tail)
        self._disk.sync_folder(self._folder)

    @property
    def stream_id(self) -> str:
        """The name of the stream."""
        return self._stream_id

    @property
    def end(self) -> int:
        """The offset that the next record will get."""
        return self._segments[-1].end

    def append(self, entries: Sequence[Entry]) -> int:
        """Add records, all or none; see `Log.append`."""
        check_entries(entries)
        with self._write_lock:
            self._check_usable()
            if not entries:
                return self.end
            size = sum(OVERHEAD + len(entry[3]) + len(entry[4]) for entry in entries)
            active = self._segments[-1]
            is_full = active.size + size > self._segment_bytes and active.end > active.first
            if is_full and not active.sealed:
                self._seal(active)
            if active.sealed:
                active = self._start_segment(active.end, active.chain)
            first = active.end
            data, checksum = encode_records(entries, first, active.chain, self._synced)
            self._make_room(active, active.size + len(data))
            self._write(active, data)
            with self._state_lock:
                active.note(first, active.size, active.chain)
                active.chain = checksum
                active.size += len(data)
                active.end = first + len(entries)
            self._marked = False
            return first

    def settle(self, then: Callable[[], None] | None = None) -> int:
        """Return `end`: an append of this log is there or not when it returns."""
        del then
        return self.end

    def sync(self) -> None:
        """Make all appended records durable; see `Log.sync`."""
        with self._write_lock:
            self._check_usable()
            if self._synced < self.end:
                self._sync()

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`, verified; see `Log.read`."""
        with self._state_lock:
            parts = places(self._segments, start, self.end if stop is None else stop)
        # No generator: it would look at the log when it is first asked, not now.
        return chain.from_iterable(read_part(self._disk, part) for part in parts)

    def close(self) -> None:
        """Sync, mark the end so that later damage is told from a torn tail, and release the log."""
        with self._write_lock:
            try:
                if self._fd >= 0 and not self._halted:
                    if self._synced < self.end:
                        self._sync()
                    self._mark()
            finally:
                self._halted = self._halted or "it is closed"
                self._release()

    def _check_usable(self) -> None:
        if self._halted:
            raise WritesHalted(f"the log in {self._folder} takes no writes: {self._halted}")

    def _halt(self, reason: str) -> WritesHalted:
        self._halted = reason
        return WritesHalted(f"the log in {self._folder} takes no writes: {reason}")

    def _sync(self) -> None:
        try:
            self._disk.sync_data(self._fd)
        except OSError as error:
            raise self._halt(f"a sync failed and is never tried again: {error}") from error
        self._synced = self.end

    def _make_room(self, active: Segment, stop: int) -> None:
        """Write zeros after `stop` if the file ends before it; without space it has to go without."""
        if stop <= self._reach:
            return
        try:
            write_all(self._disk, self._fd, [bytes(ROOM_BYTES)], stop)
        except OSError as error:
            problem = self._undo(active, error)
            if not isinstance(problem, StorageFull):
                raise problem from error
        else:
            self._reach = stop + ROOM_BYTES

    def _cut_room(self, active: Segment) -> None:
        """Let the file end with the last frame.

        Raises:
            OSError: of the operating system; nothing has changed.
        """
        if self._reach > active.size:
            self._disk.truncate(self._fd, active.size)
            self._reach = active.size

    def _write(self, active: Segment, data: bytes) -> None:
        """Write after the last frame; if that fails, leave the segment as it was."""
        try:
            write_all(self._disk, self._fd, [data], active.size)
        except OSError as error:
            raise self._undo(active, error) from error
        self._reach = max(self._reach, active.size + len(data))
        self._digest.update(data)

    def _undo(self, active: Segment, error: OSError) -> DvidError:
        """Cut off what a failed write left and return the error to raise."""
        try:
            self._disk.truncate(self._fd, active.size)
        except OSError as second:
            return self._halt(f"a write failed ({error}) and could not be undone: {second}")
        self._reach = active.size
        if error.errno in NO_SPACE:
            return StorageFull(f"no space for the log in {self._folder}: {error}")
        return self._halt(f"a write failed: {error}")

    def _mark(self) -> None:
        """Write a last frame saying that all before it is durable; nothing depends on it."""
        active = self._segments[-1]
        if self._marked or active.sealed:
            return
        data, checksum = encode_control(MARK, active.end, active.chain, self._synced, b"", b"")
        try:
            self._cut_room(active)
            self._write(active, data)
            self._disk.sync_data(self._fd)
        except (OSError, DvidError):
            return
        active.chain, active.size, self._marked = checksum, active.size + len(data), True

    def _seal(self, active: Segment) -> None:
        """Write the footer of the active segment and make all of it durable."""
        footer, checksum = encode_footer(active, self._digest.digest(), self._synced)
        try:
            self._cut_room(active)
        except OSError as error:
            raise self._halt(f"a segment could not be cut to its end: {error}") from error
        self._write(active, footer)
        with self._state_lock:
            active.chain, active.size, active.sealed = checksum, active.size + len(footer), True
        # Always, though the records may be durable: a successor must never outlive this footer.
        self._sync()

    def _start_segment(self, first: int, previous: int) -> Segment:
        """Start a segment whose name appears only when its header is durable.

        Args:
            first: offset of its first record.
            previous: checksum of the last frame of the segment before.

        Raises:
            StorageFull: nothing is changed, and it may be tried again.
            WritesHalted: the operating system failed otherwise.
        """
        header = encode_header(self._stream_id, first, previous)
        path = self._folder / segment_name(first)
        try:
            fd = create(self._disk, path, [header])
        except OSError as error:
            failed = failure(error, f"a new segment could not be started in {self._folder}")
            if not isinstance(failed, StorageFull):
                self._halted = str(failed)
            raise failed from error
        if self._fd >= 0:
            self._disk.close(self._fd)
        checksum = CHECKSUM.unpack(header[-4:])[0]
        self._fd, self._digest, self._reach = fd, new_digest(), len(header)
        self._digest.update(header)
        segment = new_segment(path, first, checksum)
        with self._state_lock:
            self._segments.append(segment)
        return segment

    def _release(self) -> None:
        """Close what is open."""
        fds, self._fd, self._folder_lock = (self._fd, self._folder_lock), -1, -1
        for fd in fds:
            if fd >= 0:
                self._disk.close(fd)
