"""Segments: the files of a log. FORMAT.md describes every byte."""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs.checksums import crc32c_extend
from dvid_es.logs.disk import Disk, read_all
from dvid_es.logs.frames import (
    CHECKSUM,
    FOOTER,
    HEAD,
    MAX_FRAME_BYTES,
    OVERHEAD,
    BadFrame,
    encode_control,
    walk,
)

MAGIC = b"DVESLOG\n"
FORMAT_VERSION = 1
DURABILITY_D0 = 0
HEADER_BYTES = 128
DIGEST_BYTES = 32
INDEX_STEP_BYTES = 256 << 10
MAX_STREAM_ID_BYTES = 92
NOT_SEALED = "the segment should be sealed here, but is not"

_HEADER = struct.Struct("<8sHHB3xQII92s")
_FOOTER = struct.Struct("<32sQ")
_INDEX = struct.Struct("<QQI")
_NAME_DIGITS = 20


class DamagedSegment(CorruptLog):
    """A segment is not what was written; says where, and what an operator can do."""

    def __init__(self, path: Path, position: int, problem: str) -> None:
        """Keep the place and the problem."""
        super().__init__(
            f"{path}, byte {position}: {problem}. Restore the file from a copy, or keep what is"
            " valid before it with `dvid-es log repair --accept-loss`"
        )
        self.path = path
        self.position = position
        self.problem = problem


class IndexEntry(NamedTuple):
    """A place in a segment from which reading may start."""

    sequence: int
    position: int
    chain: int
    """Checksum of the frame before."""


@dataclass(slots=True)
class Segment:
    """One file of a log, as far as it is known to be whole."""

    path: Path
    first: int
    """Offset of its first record."""
    end: int
    """Offset after its last record."""
    size: int
    """Bytes that hold valid frames (the footer included)."""
    chain: int
    """Checksum of the last frame."""
    sealed: bool = False
    index: list[IndexEntry] = field(default_factory=list)

    def start_for(self, sequence: int) -> IndexEntry:
        """Return the last indexed place at or before a record."""
        low, high = 0, len(self.index)
        while high - low > 1:
            middle = (low + high) // 2
            if self.index[middle].sequence <= sequence:
                low = middle
            else:
                high = middle
        return self.index[low]

    def note(self, sequence: int, position: int, chain: int) -> None:
        """Index a place if the last one is far enough behind."""
        if position - self.index[-1].position >= INDEX_STEP_BYTES:
            self.index.append(IndexEntry(sequence, position, chain))


def new_segment(path: Path, first: int, chain: int) -> Segment:
    """Return a segment of which only the header is known.

    Args:
        path: the file.
        first: offset of its first record.
        chain: checksum of the header.
    """
    start = IndexEntry(first, HEADER_BYTES, chain)
    return Segment(path, first, first, HEADER_BYTES, chain, index=[start])


def segment_name(first: int) -> str:
    """Return the file name of the segment that starts with record `first`."""
    return f"{first:0{_NAME_DIGITS}d}.log"


def list_segments(folder: Path) -> list[Path]:
    """Return the segments of a folder, oldest first; other files are no concern of ours."""
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix == ".log" and len(path.stem) == _NAME_DIGITS and path.stem.isdecimal()
    ]
    return sorted(paths, key=lambda path: path.name)


def encode_header(stream_id: str, first: int, chain: int) -> bytes:
    """Return the first `HEADER_BYTES` of a segment; the last four are the seed of its frames.

    Args:
        stream_id: name of the stream, at most `MAX_STREAM_ID_BYTES` of UTF-8.
        first: offset of the first record.
        chain: checksum of the last frame of the segment before, 0 if there is none.

    Raises:
        SettingsError: the stream's name is empty or too long.
    """
    name = stream_id.encode()
    if not 0 < len(name) <= MAX_STREAM_ID_BYTES:
        raise SettingsError(
            f"a stream's name has 1 to {MAX_STREAM_ID_BYTES} bytes of UTF-8, this one {len(name)}"
        )
    head = _HEADER.pack(
        MAGIC, FORMAT_VERSION, HEADER_BYTES, DURABILITY_D0, first, chain, len(name), name
    )
    return head + CHECKSUM.pack(crc32c_extend(0, head))


class Header(NamedTuple):
    """What a segment says of itself."""

    stream_id: str
    first: int
    previous: int
    """Checksum of the last frame of the segment before."""
    chain: int
    """Checksum of the header: the seed of the first frame."""


def decode_header(data: bytes, path: Path) -> Header:
    """Return the header of a segment.

    Raises:
        CorruptLog: it is not one that this program can read, or belongs to another file name.
    """
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        raise DamagedSegment(path, 0, "this is not the header of a segment")
    if CHECKSUM.pack(crc32c_extend(0, data[: HEADER_BYTES - 4])) != data[HEADER_BYTES - 4 :]:
        raise DamagedSegment(path, 0, "the checksum of the segment's header is wrong")
    _, version, size, level, first, previous, length, name = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION or size != HEADER_BYTES or level != DURABILITY_D0:
        raise CorruptLog(
            f"{path} has format {version}, durability level {level}; this program reads format"
            f" {FORMAT_VERSION}, level {DURABILITY_D0}: use a newer dvid-es"
        )
    if path.name != segment_name(first):
        raise DamagedSegment(path, 0, f"the header says that record {first} is the first")
    chain = CHECKSUM.unpack_from(data, HEADER_BYTES - 4)[0]
    return Header(name[:length].decode(errors="replace"), first, previous, chain)


def encode_footer(segment: Segment, digest: bytes, synced_upto: int) -> tuple[bytes, int]:
    """Return the frame that seals a segment, and its checksum.

    Args:
        segment: as it is before the footer.
        digest: BLAKE2b of all its bytes so far.
        synced_upto: all records below this offset were durable before.
    """
    table = b"".join(_INDEX.pack(*entry) for entry in segment.index)
    length = OVERHEAD + _FOOTER.size + len(table) + CHECKSUM.size
    return encode_control(
        FOOTER,
        segment.end,
        segment.chain,
        synced_upto,
        _FOOTER.pack(digest, segment.end - segment.first),
        table + CHECKSUM.pack(length),
    )


def footer_digest(read: Callable[[int, int], bytes], size: int) -> tuple[int, bytes]:
    """Return where the footer of a sealed segment starts, and the digest of all before it.

    Args:
        read: bytes of the segment, whose checksums are right.
        size: its length.
    """
    start = size - CHECKSUM.unpack(read(CHECKSUM.size, size - 8))[0]
    return start, read(DIGEST_BYTES, start + HEAD.size)


def read_header(disk: Disk, path: Path) -> Header:
    """Return the header of a segment on disk; see `decode_header`."""
    try:
        fd = disk.open(path, os.O_RDONLY)
    except OSError as error:
        raise DamagedSegment(path, 0, f"cannot be opened: {error}") from error
    try:
        return decode_header(read_all(disk, fd, HEADER_BYTES, 0), path)
    except OSError as error:
        raise DamagedSegment(path, 0, f"cannot be read: {error}") from error
    finally:
        disk.close(fd)


def open_sealed(disk: Disk, path: Path, header: Header) -> Segment | None:
    """Return a segment as its footer describes it, or None if it has no valid footer.

    The records are not read.

    Raises:
        OSError: of the operating system.
    """
    fd = disk.open(path, os.O_RDONLY)
    try:
        size = disk.size(fd)
        return read_footer(lambda n, at: read_all(disk, fd, n, at), path, header, size)
    finally:
        disk.close(fd)


def read_footer(
    read: Callable[[int, int], bytes], path: Path, header: Header, size: int
) -> Segment | None:
    """Return a segment as its footer describes it, or None if there is no valid footer."""
    if size < HEADER_BYTES + OVERHEAD + _FOOTER.size + CHECKSUM.size:
        return None
    length = CHECKSUM.unpack(read(4, size - 8))[0]
    start = size - length
    if not OVERHEAD + _FOOTER.size < length <= MAX_FRAME_BYTES or start < HEADER_BYTES:
        return None
    seed = CHECKSUM.unpack(read(4, start - 4))[0]
    sequence = HEAD.unpack(read(HEAD.size, start))[4]
    try:
        frame = next(walk(read, start, size, seed, sequence))
    except BadFrame:
        return None
    if frame.type != FOOTER or frame.stop != size or len(frame.header) != _FOOTER.size:
        return None
    index = [IndexEntry._make(entry) for entry in _INDEX.iter_unpack(frame.facts[:-4])]
    return Segment(path, header.first, frame.sequence, size, frame.chain, True, index)


def new_digest() -> blake2b:
    """Return the digest of no bytes, to be updated with those of a segment."""
    return blake2b(digest_size=DIGEST_BYTES)
