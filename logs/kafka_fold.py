"""Which messages of a topic count, decided by every reader alike.

Kafka acknowledges what is stored, not what counts: a writer that was replaced may still get a message
in, and a message may be stored twice. So each writer begins with a *takeover* of a higher epoch, and
numbers its messages. What a reader passes over:

- data of an epoch that a takeover has ended: *stale*;
- a message whose number was seen in this epoch already: *repeated*;
- an append whose last part did not come before the next takeover: *torn*;
- what does not begin as our messages do: *foreign*.

Anything else that does not fit is damage.
"""

from collections.abc import Iterable
from typing import NamedTuple

from dvid_es.errors import CorruptLog
from dvid_es.logs.base import Stored
from dvid_es.logs.checksums import crc32c
from dvid_es.logs.frames import CHECKSUM, BadFrame, walk_records
from dvid_es.logs.kafka_message import MORE, NONCE_BYTES, TAKEOVER, BadMessage, Message, decode

Fetched = tuple[int, bytes | None]
"""Kafka's offset of a message, and its value."""


class DamagedTopic(CorruptLog):
    """A topic is not what was written; says where, and what an operator can do."""

    def __init__(self, topic: str, offset: int, problem: str) -> None:
        """Keep the place and the problem."""
        super().__init__(
            f"topic {topic}, Kafka offset {offset}: {problem}. Nothing is changed: restore the topic"
            " (and the data folder that belongs to it) from a copy or a mirror"
        )
        self.topic = topic
        self.offset = offset
        self.problem = problem


class Position(NamedTuple):
    """A place between two appends from which reading may start."""

    kafka: int
    """Kafka's offset of the next message."""

    sequence: int
    """Offset of the next event."""

    chain: int
    """Checksum of the frame before."""

    epoch: int
    serial: int
    """What the next message of this writer is numbered."""


def beginning(stream_id: str) -> Position:
    """Return the place before the first message: the chain begins with the name of the stream."""
    return Position(0, 0, crc32c(stream_id.encode()), 0, 0)


class Fold:
    """What the messages up to here have come to."""

    def __init__(self, topic: str, position: Position) -> None:
        """Begin at a place."""
        self.topic = topic
        self.kafka, self.sequence, self.chain, self.epoch, self.serial = position
        self.owner = b""
        """Nonce of the writer that took over last; empty if that was before the beginning."""
        self.stream_id = ""
        """As that takeover says."""
        self.passed: list[tuple[int, str]] = []
        """Kafka's offsets of messages that do not count, and why; not those of torn appends."""
        self._parts: list[bytes] = []

    @property
    def position(self) -> Position | None:
        """Where this is, or None within an append."""
        if self._parts:
            return None
        return Position(self.kafka, self.sequence, self.chain, self.epoch, self.serial)

    def skip_to(self, position: Position) -> None:
        """Go on behind an append that this process has made itself."""
        self.kafka, self.sequence, self.chain, self.epoch, self.serial = position

    def take(self, messages: Iterable[Fetched]) -> list[Stored]:
        """Go on over messages in order; return the events of the appends that they complete.

        Raises:
            DamagedTopic: a message is damaged, or one is missing.
        """
        whole: list[tuple[int, Message, bytes]] = []
        for offset, value in messages:
            try:
                message = decode(value)
                if message is not None and message.type == TAKEOVER:
                    self._taken_over(offset, message)
                elif message is not None:
                    self._data(offset, message, whole)
            except BadMessage as bad:
                raise DamagedTopic(self.topic, offset, str(bad)) from None
            if message is None:
                self.passed.append((offset, "a message that dvid-es did not write"))
            self.kafka = offset + 1
        return self._events(whole)

    def _taken_over(self, offset: int, message: Message) -> None:
        nonce, name = message.payload[:NONCE_BYTES], message.payload[NONCE_BYTES:].decode()
        if self.stream_id and name != self.stream_id:
            raise BadMessage(
                f"a writer of the stream {name!r} wrote into that of {self.stream_id!r}"
            )
        if message.epoch > self.epoch:
            self._parts.clear()
            self.epoch, self.serial, self.owner, self.stream_id = message.epoch, 1, nonce, name
        else:
            self.passed.append((offset, f"a takeover of epoch {message.epoch}, too late"))

    def _data(self, offset: int, message: Message, whole: list[tuple[int, Message, bytes]]) -> None:
        if message.epoch < self.epoch:
            self.passed.append((offset, f"written by epoch {message.epoch} after its end"))
        elif message.epoch > self.epoch or message.serial > self.serial:
            raise BadMessage(
                f"message {message.serial} of epoch {message.epoch} stands where message"
                f" {self.serial} of epoch {self.epoch} must follow: messages are missing"
            )
        elif message.serial < self.serial:
            self.passed.append((offset, f"message {message.serial} of its epoch again"))
        else:
            self.serial += 1
            self._parts.append(message.payload)
            if not message.flags & MORE:
                whole.append((offset, message, b"".join(self._parts)))
                self._parts.clear()

    def _events(self, whole: list[tuple[int, Message, bytes]]) -> list[Stored]:
        """Verify the frames of appends; all together, because that is quicker."""
        if not whole:
            return []
        before = self.sequence, self.chain
        try:
            return self._walk(b"".join(frames for _, _, frames in whole))
        except BadFrame:
            self.sequence, self.chain = before
        for offset, message, frames in whole:
            if (message.sequence, message.chain) != (self.sequence, self.chain):
                problem = f"event {message.sequence} stands where {self.sequence} must follow"
                if message.sequence == self.sequence:
                    problem = f"event {self.sequence} does not continue what is before it"
                raise DamagedTopic(self.topic, offset, problem)
            try:
                self._walk(frames)
            except BadFrame as bad:
                raise DamagedTopic(self.topic, offset, bad.problem) from None
        raise AssertionError("frames are right one by one, and wrong together")

    def _walk(self, data: bytes) -> list[Stored]:
        def read(length: int, position: int) -> bytes:
            return data if length == len(data) else data[position : position + length]

        events = list(walk_records(read, 0, len(data), self.chain, self.sequence, self.sequence))
        self.sequence += len(events)
        if events:
            (self.chain,) = CHECKSUM.unpack_from(data, len(data) - CHECKSUM.size)
        return events
