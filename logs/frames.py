"""Frames: how records lie in a segment. FORMAT.md describes every byte.

The checksum of a frame is its last four bytes, and seeds the checksum of the next. So the seed of
any frame is what lies right before it, and a frame can be checked wherever it is found.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dvid_es.logs.base import MAX_FACTS_BYTES, MAX_HEADER_BYTES, Entry, Stored
from dvid_es.logs.checksums import crc32c_extend

MAGIC = 0x1EF5
RECORD, MARK, FOOTER = 1, 2, 3
MORE = 1
"""Flag of a record: the same append goes on in the next frame."""

HEAD = struct.Struct("<HBBIQqQHHI")
"""Magic, type, flags, frame length, sequence, time, synced_upto, kind, schema, header length."""

CHECKSUM = struct.Struct("<I")
OVERHEAD = HEAD.size + CHECKSUM.size
MAX_FRAME_BYTES = OVERHEAD + MAX_HEADER_BYTES + MAX_FACTS_BYTES

_CHUNK_BYTES = 1 << 20


class Frame(NamedTuple):
    """One verified frame."""

    type: int
    flags: int
    sequence: int
    time_ns: int
    synced_upto: int
    kind: int
    schema: int
    header: bytes
    facts: bytes
    stop: int
    """Position after the frame."""
    chain: int
    """Checksum of the frame: the seed of the next."""


class BadFrame(Exception):
    """There is no valid frame at `position`; only this package sees this error."""

    def __init__(
        self, position: int, problem: str, computed: tuple[int, int] | None = None
    ) -> None:
        """Keep where and why.

        Args:
            position: byte offset in the segment.
            problem: what is wrong, without a full stop.
            computed: if only the checksum differs, where the frame ends and what its checksum
                should be: a next frame that is right with that seed proves a damaged checksum.
        """
        super().__init__(problem)
        self.position = position
        self.problem = problem
        self.computed = computed


def encode_records(
    entries: Sequence[Entry], sequence: int, chain: int, synced_upto: int
) -> tuple[bytes, int]:
    """Return the frames of one append and the checksum of the last.

    Args:
        entries: what to store, checked by `check_entries`.
        sequence: offset of the first.
        chain: checksum of the frame before.
        synced_upto: all records below this offset were durable before this append.
    """
    pack, pack_checksum, overhead = HEAD.pack, CHECKSUM.pack, OVERHEAD
    parts = []
    last = sequence + len(entries) - 1
    for kind, schema, time_ns, header, facts in entries:
        frame = (
            pack(
                MAGIC,
                RECORD,
                sequence != last,
                overhead + len(header) + len(facts),
                sequence,
                time_ns,
                synced_upto,
                kind,
                schema,
                len(header),
            )
            + header
            + facts
        )
        chain = crc32c_extend(chain, frame)
        parts.append(frame)
        parts.append(pack_checksum(chain))
        sequence += 1
    return b"".join(parts), chain


def encode_control(
    frame_type: int, sequence: int, chain: int, synced_upto: int, header: bytes, facts: bytes
) -> tuple[bytes, int]:
    """Return one frame that is no record (a mark or a footer) and its checksum."""
    length = OVERHEAD + len(header) + len(facts)
    head = HEAD.pack(MAGIC, frame_type, 0, length, sequence, 0, synced_upto, 0, 0, len(header))
    frame = head + header + facts
    chain = crc32c_extend(chain, frame)
    return frame + CHECKSUM.pack(chain), chain


def walk(
    read: Callable[[int, int], bytes], position: int, stop: int, chain: int, sequence: int
) -> Iterator[Frame]:
    """Return the frames from `position` to `stop`, each one verified.

    Args:
        read: `read(length, offset)` returns bytes of the segment, fewer only where it ends.
        position: where the first frame starts.
        stop: where the last one ends.
        chain: checksum of the frame before the first.
        sequence: offset of the next record.

    Raises:
        BadFrame: the bytes at a position are no frame, or not the one that must follow.
    """
    unpack, unpack_checksum, head_size = HEAD.unpack_from, CHECKSUM.unpack_from, HEAD.size
    new, extend = tuple.__new__, crc32c_extend
    buffer, base = b"", position
    while position < stop:
        at = position - base
        if at + OVERHEAD > len(buffer):
            base, at = position, 0
            buffer = _fill(read, position, OVERHEAD, stop)
        magic, kind_of_frame, flags, length, number, time_ns, synced, kind, schema, split = unpack(
            buffer, at
        )
        if problem := _problem(magic, kind_of_frame, length, split, position, stop):
            raise BadFrame(position, problem)
        if at + length > len(buffer):
            base, at = position, 0
            buffer = _fill(read, position, length, stop)
        tail = at + length - 4
        computed = extend(chain, buffer[at:tail])
        position += length
        if computed != unpack_checksum(buffer, tail)[0]:
            start = position - length
            raise BadFrame(start, "the checksum of a frame is wrong", (position, computed))
        if number != sequence:
            start = position - length
            raise BadFrame(start, f"a frame is numbered {number} where {sequence} must follow")
        chain = computed
        body = at + head_size
        split += body
        yield new(
            Frame,
            (
                kind_of_frame, flags, number, time_ns, synced, kind, schema,
                buffer[body:split], buffer[split:tail], position, chain,
            ),
        )  # fmt: skip
        if kind_of_frame == RECORD:
            sequence += 1


def walk_records(
    read: Callable[[int, int], bytes],
    position: int,
    stop: int,
    chain: int,
    sequence: int,
    first: int,
    last: int | None = None,
) -> Iterator[Stored]:
    """Return the records `first` ... `last` (exclusive), verified as `walk` does, half as fast again.

    Args:
        read: as for `walk`.
        position: where the first frame starts.
        stop: where the last one ends.
        chain: checksum of the frame before the first.
        sequence: offset of the next record.
        first: earlier ones are verified and passed over.
        last: where to end; None for all, with no other frames between them.

    Raises:
        BadFrame: as `walk`; also if there are not so many records, or other frames.
    """
    highest = RECORD if last is None else FOOTER
    unpack, unpack_checksum, head_size = HEAD.unpack_from, CHECKSUM.unpack_from, HEAD.size
    new, extend, overhead = tuple.__new__, crc32c_extend, OVERHEAD
    buffer, base, held = b"", position, 0
    while position < stop:
        at = position - base
        if at + overhead > held:
            base, at = position, 0
            buffer = _fill(read, position, overhead, stop)
            held = len(buffer)
        magic, type_, _, length, number, time_ns, _, kind, schema, split = unpack(buffer, at)
        tail = at + length - 4
        if tail + 4 > held and magic == MAGIC and overhead <= length <= MAX_FRAME_BYTES:
            base, at = position, 0
            buffer = _fill(read, position, length, stop)
            held, tail = len(buffer), length - 4
        if (
            magic != MAGIC
            or not RECORD <= type_ <= highest
            or number != sequence
            or not overhead + split <= length <= MAX_FRAME_BYTES
            or position + length > stop
            or unpack_checksum(buffer, tail) != (extend(chain, buffer[at:tail]),)
        ):
            next(walk(read, position, stop, chain, sequence))  # says what is wrong
            raise BadFrame(position, "a frame is no record")
        (chain,) = unpack_checksum(buffer, tail)
        position += length
        if type_ == RECORD:
            sequence += 1
            if number >= first:
                body = at + head_size
                split += body
                yield new(
                    Stored, (number, kind, schema, time_ns, buffer[body:split], buffer[split:tail])
                )
            if sequence == last:
                return
    if last is not None:
        raise BadFrame(position, f"the segment ends before record {last}")


def _problem(
    magic: int, frame_type: int, length: int, header_length: int, position: int, stop: int
) -> str:
    """Return what is wrong with a head whose checksum is not checked yet, or an empty text."""
    if magic != MAGIC:
        return "no frame starts here"
    if not RECORD <= frame_type <= FOOTER:
        return f"a frame has the unknown type {frame_type}"
    if not OVERHEAD <= length <= MAX_FRAME_BYTES or header_length > length - OVERHEAD:
        return f"a frame has the impossible length {length}"
    if position + length > stop:
        return "a frame is cut short"
    return ""


def _fill(read: Callable[[int, int], bytes], position: int, need: int, stop: int) -> bytes:
    """Return at least `need` bytes from `position`, more if it is cheap."""
    if position + need > stop:
        raise BadFrame(position, "a frame is cut short")
    data = read(min(max(need, _CHUNK_BYTES), stop - position), position)
    if len(data) < need:
        raise BadFrame(position, "the file ends within a frame")
    return data


def find_witness(
    data: bytes, bad: BadFrame, position: int, sequence: int
) -> tuple[int, int] | None:
    """Look behind a bad frame for one which proves that the bad one had been durable.

    A frame says up to which offset all was durable when it was written. If a valid one is found
    that was written after record `sequence` was synced, then that record was damaged later; if
    there is none, the bytes are what an append leaves that was cut off by a crash.

    Args:
        data: the bytes of the segment from `bad.position` minus 4.
        bad: the first bad frame.
        position: where `data` starts in the segment.
        sequence: offset of the first record that is not wholly valid.

    Returns:
        Position of the witness and its `synced_upto`, or None.
    """
    pattern = MAGIC.to_bytes(2, "little")
    stop = len(data)
    at = data.find(pattern, 5)
    while at >= 0 and at + OVERHEAD <= stop:
        _, frame_type, _, length, _, _, synced, _, _, split = HEAD.unpack_from(data, at)
        if synced > sequence and not _problem(MAGIC, frame_type, length, split, at, stop):
            seeds = [CHECKSUM.unpack_from(data, at - 4)[0]]
            if bad.computed and bad.computed[0] == position + at:
                seeds.append(bad.computed[1])
            body, stored = data[at : at + length - 4], data[at + length - 4 : at + length]
            if any(CHECKSUM.pack(crc32c_extend(seed, body)) == stored for seed in seeds):
                return position + at, synced
        at = data.find(pattern, at + 1)
    return None
