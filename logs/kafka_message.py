"""The bytes of one message of a log on Kafka. FORMAT.md describes every one.

A message carries the frames of one append, or a part of them, or says that a writer takes over.
Offsets of events, order and completeness follow from these bytes alone: Kafka's own offsets may have
gaps, and a topic can be deleted and made anew.
"""

import struct
from typing import NamedTuple

from dvid_es.logs.checksums import crc32c

MAGIC = b"DVESKAF\n"
FORMAT = 1
TAKEOVER, DATA = 1, 2
MORE = 1
"""Flag of data: the same append goes on in the next message."""

HEAD = struct.Struct("<8sHBBIQQQ")
"""Magic, format, type, flags, chain, epoch, serial, sequence."""

_CHECKSUM = struct.Struct("<I")
OVERHEAD = HEAD.size + _CHECKSUM.size
NONCE_BYTES = 16

PAYLOAD_BYTES = 900_000
"""Most bytes of frames in one message: brokers refuse messages of more than about a megabyte unless
they are told otherwise."""


class BadMessage(Exception):
    """A message of ours is not what was written; only this package sees this error."""


class Message(NamedTuple):
    """One verified message."""

    type: int
    flags: int
    chain: int
    """Checksum of the last frame before this append."""

    epoch: int
    """Which writer: each takeover begins a higher one."""

    serial: int
    """Which message of this writer: the takeover is 0."""

    sequence: int
    """Offset of the first event of this append."""

    payload: bytes


def encode(message: Message) -> bytes:
    """Return the bytes of a message."""
    kind, flags, chain, epoch, serial, sequence, payload = message
    data = HEAD.pack(MAGIC, FORMAT, kind, flags, chain, epoch, serial, sequence) + payload
    return data + _CHECKSUM.pack(crc32c(data))


def encode_append(
    frames: bytes, *, chain: int, epoch: int, serial: int, sequence: int
) -> list[bytes]:
    """Return the messages of one append: more than one only if it is large."""
    starts = range(0, len(frames), PAYLOAD_BYTES)
    return [
        encode(
            Message(
                DATA,
                MORE if start + PAYLOAD_BYTES < len(frames) else 0,
                chain,
                epoch,
                serial + part,
                sequence,
                frames[start : start + PAYLOAD_BYTES],
            )
        )
        for part, start in enumerate(starts)
    ]


def encode_takeover(stream_id: str, nonce: bytes, epoch: int) -> bytes:
    """Return the message that ends what any earlier writer may write.

    Args:
        stream_id: name of the stream.
        nonce: random, of this writer alone: two that choose the same epoch are told apart by it.
        epoch: higher than that of the writer before.
    """
    return encode(Message(TAKEOVER, 0, 0, epoch, 0, 0, nonce + stream_id.encode()))


def decode(value: bytes | None) -> Message | None:
    """Return a message, or None for one that dvid_es did not write.

    Raises:
        BadMessage: it begins as ours do, and is damaged or of a newer format.
    """
    if value is None or len(value) < OVERHEAD or not value.startswith(MAGIC):
        return None
    _, version, kind, flags, chain, epoch, serial, sequence = HEAD.unpack_from(value)
    if crc32c(value[:-4]) != _CHECKSUM.unpack_from(value, len(value) - 4)[0]:
        raise BadMessage("the checksum of a message is wrong")
    if version != FORMAT or kind not in (TAKEOVER, DATA):
        raise BadMessage(f"a message has format {version}, type {kind}: written by a newer dvid-es")
    return Message(kind, flags, chain, epoch, serial, sequence, value[HEAD.size : -4])
