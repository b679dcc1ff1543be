"""What a log and a store of packs promise; bytes only, no event is known here.

A log keeps small records in one order; packs keep bulk values that the records name. A value is
synced before the record that names it is appended, so a record never names bytes that a crash of
the machine could take away.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from dvid_es.errors import InvalidRequest
from dvid_es.ids import PackRef as PackRef
from dvid_es.ids import Places as Places

MAX_HEADER_BYTES = 1 << 20
"""Largest header of a record: 1 MiB."""

MAX_FACTS_BYTES = 64 << 20
"""Largest facts of a record: 64 MiB; more belongs into a pack."""

MAX_APPEND_BYTES = 1 << 30
"""Largest sum of headers and facts in one append: 1 GiB."""

MAX_VALUE_BYTES = 1 << 30
"""Largest value in a pack: 1 GiB."""

DIGEST_BYTES = 16
"""Length of the BLAKE2b digest that names a value by its content."""


class Entry(NamedTuple):
    """One record, before it has an offset."""

    kind: int
    """Number of the event's name, 0 ... 65535."""

    schema: int
    """Number of the event's shape, 0 ... 65535."""

    time_ns: int
    """Wall time of the decision, nanoseconds since 1970 UTC, signed 64-bit."""

    header: bytes
    """Who, where and which version; at most `MAX_HEADER_BYTES`."""

    facts: bytes
    """What happened; at most `MAX_FACTS_BYTES`."""


class Stored(NamedTuple):
    """One record of a log, with its place."""

    offset: int
    """Position in the stream, dense from 0."""

    kind: int
    """Number of the event's name, 0 ... 65535."""

    schema: int
    """Number of the event's shape, 0 ... 65535."""

    time_ns: int
    """Wall time of the decision, nanoseconds since 1970 UTC."""

    header: bytes
    """Who, where and which version."""

    facts: bytes
    """What happened."""


class Finding(NamedTuple):
    """Something that a check found wrong in a file."""

    path: str
    """The file."""

    offset: int
    """Byte position in the file."""

    problem: str
    """What is wrong there, as a sentence without a full stop."""


class Log(Protocol):
    """An append-only store of one stream.

    One thread appends and syncs; any number of threads read meanwhile.
    """

    @property
    def stream_id(self) -> str:
        """The name of the stream, fixed when the log was made."""

    @property
    def end(self) -> int:
        """The offset that the next record will get; also the number of records."""

    def append(self, entries: Sequence[Entry]) -> int:
        """Add records, all or none, also across a crash; they are not durable before `sync`.

        Returns:
            The offset of the first of them; the others follow without a gap. For no entries: `end`.

        Raises:
            InvalidRequest: an entry is over a limit or out of range; nothing was added.
            StorageFull: no space; nothing was added, and a later append may succeed.
            LogUnavailable: the log cannot be reached. Whether the records are in it is unknown until
                `settle` returns; until then every append raises this.
            WritesHalted: writing failed for another reason, now or earlier; nothing was added, and
                this object appends no more.
        """

    def settle(self, then: Callable[[], None] | None = None) -> int:
        """Return `end` once it is known what became of every append; never waits.

        After `LogUnavailable`, records of that append are in the log, all of them, if `end` has grown.

        Args:
            then: called once, from another thread, as soon as it is worth asking again.

        Raises:
            LogUnavailable: it is not known yet.
            WritesHalted: this object appends no more.
        """

    def sync(self) -> None:
        """Make all appended records durable: when it returns, they survive a crash of the machine.

        Raises:
            WritesHalted: it failed, now or earlier. It is never tried again: after a failed sync
                nobody knows which bytes the disk holds.
        """

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop` (exclusive) in order, each one verified.

        What is appended after the call is not part of the answer; `stop` beyond `end` means `end`.

        Raises:
            CorruptLog: stored bytes are not what was written; names segment and byte offset. All
                records given before are good.
        """

    def close(self) -> None:
        """Sync what was appended and release the log; more calls do nothing."""


Take = Callable[[int], memoryview]
"""`take(length)` returns so many bytes of memory to write to."""


def fresh_memory(length: int) -> memoryview:
    """Return zeros."""
    return memoryview(bytearray(length))


FindDamage = Callable[[bytes | memoryview, Sequence[int], Sequence[int], Sequence[int]], int]
"""`find_damage(data, starts, lengths, checksums)` returns the place of the first value, at starts[i] of
`data`, whose CRC-32C is not checksums[i]; -1 if all are what was written."""


class Packs(Protocol):
    """Append-only store of bulk values, each named by its place and its content.

    Any number of threads put and get at the same time.
    """

    def put(self, data: bytes | memoryview) -> PackRef:
        """Add one value; as `put_many`."""

    def put_many(self, values: Sequence[bytes | memoryview]) -> list[PackRef]:
        """Add values, all or none of them; a value that is there already is not stored again.

        They are not durable before `sync`.

        Raises:
            InvalidRequest: a value is larger than `MAX_VALUE_BYTES`.
            StorageFull: no space; nothing was added, and a later put may succeed.
            WritesHalted: writing failed for another reason, now or earlier.
        """

    def get(self, ref: PackRef) -> bytes:
        """Return a value, verified against the checksum in its reference.

        Raises:
            CorruptPack: the bytes are not those that the reference names, or are not there; says
                file and byte offset.
        """

    def view(self, ref: PackRef) -> memoryview:
        """Return a value where it lies, read-only, verified as `get` does.

        For large values that are kept and looked into: nothing of it need stay in memory.
        """

    def get_many(self, refs: Sequence[PackRef]) -> list[bytes]:
        """Return values in the order of `refs`; neighbours in a pack are read together."""

    def get_joined(
        self, places: Places, find_damage: FindDamage = ..., take: Take = ...
    ) -> tuple[memoryview, list[int]]:
        """Return values in one buffer, verified, and where each begins in it.

        They lie there one behind the other, and other bytes may lie between them. For many values that are
        looked at together: neighbours are not copied apart.

        Args:
            places: of the values.
            find_damage: verifies them; any that does what it must. Called once, with all values in the buffer.
            take: where the buffer comes from, all of which is returned.

        Raises:
            CorruptPack: as `get`.
        """

    def sync(self) -> None:
        """Make all values put so far durable.

        Raises:
            WritesHalted: it failed, now or earlier; never tried again.
        """

    def verify(self) -> Iterator[Finding]:
        """Read every byte and return what is wrong; nothing is changed."""

    def close(self) -> None:
        """Sync and release; more calls do nothing."""


def check_entries(entries: Sequence[Entry]) -> None:
    """Refuse entries that no log can hold, before anything is allocated for them.

    Raises:
        InvalidRequest: naming the entry by its place in `entries`, and the limit.
    """
    total = 0
    for place, entry in enumerate(entries):
        kind, schema, time_ns, header, facts = entry
        if not (0 <= kind <= 0xFFFF and 0 <= schema <= 0xFFFF and -(1 << 63) <= time_ns < 1 << 63):
            raise InvalidRequest(
                f"entry {place} of an append: kind {kind}, schema {schema} or time {time_ns} is out"
                " of range"
            )
        header_bytes, facts_bytes = len(header), len(facts)
        if header_bytes > MAX_HEADER_BYTES or facts_bytes > MAX_FACTS_BYTES:
            raise InvalidRequest(
                f"entry {place} of an append has a header of {header_bytes} bytes (limit"
                f" {MAX_HEADER_BYTES}) and facts of {facts_bytes} bytes (limit {MAX_FACTS_BYTES}):"
                " put bulk bytes into a pack"
            )
        total += header_bytes + facts_bytes
    if total > MAX_APPEND_BYTES:
        raise InvalidRequest(
            f"one append of {total} bytes is over the limit of {MAX_APPEND_BYTES}: append in parts"
        )


def check_value(length: int) -> None:
    """Refuse a bulk value that no pack can hold.

    Raises:
        InvalidRequest: `length` is over the limit.
    """
    if length > MAX_VALUE_BYTES:
        raise InvalidRequest(
            f"a value of {length} bytes is over the limit of {MAX_VALUE_BYTES}: send it in parts"
        )
