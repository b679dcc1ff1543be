"""The contract of logs and packs and nothing else: for tests, never for data."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice

from dvid_es.errors import CorruptPack, WritesHalted
from dvid_es.logs.base import (
    Entry,
    FindDamage,
    Finding,
    PackRef,
    Places,
    Stored,
    Take,
    check_entries,
    check_value,
    fresh_memory,
)
from dvid_es.logs.checksums import content_digest, crc32c, first_damaged


class MemoryLog:
    """A `Log` in a list: gone with the process."""

    def __init__(self, stream_id: str = "memory") -> None:
        """Start empty."""
        self._stream_id = stream_id
        self._records: list[Stored] = []
        self._closed = False

    @property
    def stream_id(self) -> str:
        """The name of the stream."""
        return self._stream_id

    @property
    def end(self) -> int:
        """The offset that the next record will get."""
        return len(self._records)

    def append(self, entries: Sequence[Entry]) -> int:
        """Add records; see `Log.append`."""
        if self._closed:
            raise WritesHalted(f"the log of {self._stream_id} is closed")
        check_entries(entries)
        first = len(self._records)
        self._records += [
            Stored(first + place, kind, schema, time_ns, bytes(header), bytes(facts))
            for place, (kind, schema, time_ns, header, facts) in enumerate(entries)
        ]
        return first

    def settle(self, then: Callable[[], None] | None = None) -> int:
        """Return `end`: an append of this log is there or not when it returns."""
        del then
        return self.end

    def sync(self) -> None:
        """Do nothing: memory survives no crash of the machine."""
        if self._closed:
            raise WritesHalted(f"the log of {self._stream_id} is closed")

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`; see `Log.read`."""
        end = self.end
        return islice(self._records, max(start, 0), end if stop is None else max(0, min(stop, end)))

    def close(self) -> None:
        """Refuse further appends."""
        self._closed = True


class MemoryPacks:
    """`Packs` in a list: gone with the process."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._values: list[bytes] = []
        self._refs: dict[bytes, PackRef] = {}
        self._closed = False

    def put(self, data: bytes | memoryview) -> PackRef:
        """Add one value; see `Packs.put`."""
        return self.put_many([data])[0]

    def put_many(self, values: Sequence[bytes | memoryview]) -> list[PackRef]:
        """Add values; see `Packs.put_many`."""
        copies = [_copy(value) for value in values]
        with self._lock:
            if self._closed:
                raise WritesHalted("the packs are closed")
            return [self._add(value) for value in copies]

    def _add(self, value: bytes) -> PackRef:
        digest = content_digest(value)
        ref = self._refs.get(digest)
        if ref is None:
            ref = PackRef(1, len(self._values), len(value), crc32c(value), digest)
            self._values.append(value)
            self._refs[digest] = ref
        return ref

    def get(self, ref: PackRef) -> bytes:
        """Return a value; see `Packs.get`."""
        if ref.pack != 1 or not 0 <= ref.offset < len(self._values):
            raise CorruptPack(f"pack {ref.pack} in memory has no value at offset {ref.offset}")
        value = self._values[ref.offset]
        if len(value) != ref.length or crc32c(value) != ref.checksum:
            raise CorruptPack(f"pack {ref.pack} in memory: wrong value at offset {ref.offset}")
        return value

    def view(self, ref: PackRef) -> memoryview:
        """Return a value; see `Packs.view`."""
        return memoryview(self.get(ref))

    def get_many(self, refs: Sequence[PackRef]) -> list[bytes]:
        """Return values in the order of `refs`."""
        return [self.get(ref) for ref in refs]

    def get_joined(
        self, places: Places, find_damage: FindDamage = first_damaged, take: Take = fresh_memory
    ) -> tuple[memoryview, list[int]]:
        """Return values in one buffer; see `Packs.get_joined`."""
        refs = [PackRef(*columns, b"") for columns in zip(*places, strict=True)]
        values = self.get_many(refs)
        starts = [0, *accumulate(places.lengths)]
        data = take(starts[-1])
        data[:] = b"".join(values)
        # `get` has verified them; the caller may do more with them.
        assert find_damage(data, starts[:-1], places.lengths, places.checksums) < 0
        return data, starts[:-1]

    def sync(self) -> None:
        """Do nothing: memory survives no crash of the machine."""
        if self._closed:
            raise WritesHalted("the packs are closed")

    def verify(self) -> Iterator[Finding]:
        """Return no findings: memory is trusted."""
        return iter(())

    def close(self) -> None:
        """Refuse further puts."""
        self._closed = True


def _copy(value: bytes | memoryview) -> bytes:
    check_value(value.nbytes if isinstance(value, memoryview) else len(value))
    return bytes(value)
