"""The bytes of a pack: a header, then values, each behind a head; FORMAT.md shows every byte."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dvid_es.errors import CorruptPack
from dvid_es.logs.base import MAX_VALUE_BYTES, PackRef
from dvid_es.logs.checksums import crc32c_extend

MAGIC = b"DVESPACK"
FORMAT_VERSION = 1
HEADER_BYTES = 64
VALUE_MAGIC = b"\xf5VAL"
HEAD_BYTES = 32

_HEADER = struct.Struct("<8sHHI44x")
_HEAD = struct.Struct("<4sII16s")
_PLACE = struct.Struct("<IQ")
_CHECKSUM = struct.Struct("<I")
_WINDOW_BYTES = 1 << 16
_SEARCH_BYTES = 1 << 20

Read = Callable[[int, int], bytes]
"""`read(length, offset)` returns bytes of the pack, fewer only where it ends."""


class Value(NamedTuple):
    """A head found in a pack."""

    ref: PackRef
    stop: int
    """Position after the value; it may lie beyond the end of a pack that a crash cut short."""


class Gap(NamedTuple):
    """Bytes that are no value: left by a crash, or damaged."""

    start: int
    stop: int


def pack_name(number: int) -> str:
    """Return the file name of a pack."""
    return f"{number:08d}.pack"


def list_packs(folder: Path) -> list[int]:
    """Return the numbers of the packs in a folder, ascending."""
    return sorted(
        int(path.stem)
        for path in folder.iterdir()
        if path.suffix == ".pack" and path.stem.isdecimal() and len(path.stem) >= 8
    )


def encode_header(number: int) -> bytes:
    """Return the first `HEADER_BYTES` of a pack."""
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, HEADER_BYTES, number)
    return head + _CHECKSUM.pack(crc32c_extend(0, head))


def check_header(data: bytes, path: Path, number: int) -> None:
    """Refuse a file that is not this pack.

    Raises:
        CorruptPack: naming the file.
    """
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        raise CorruptPack(f"{path}, byte 0: this is not the header of a pack")
    if _CHECKSUM.pack(crc32c_extend(0, data[: HEADER_BYTES - 4])) != data[HEADER_BYTES - 4 :]:
        raise CorruptPack(f"{path}, byte 0: the checksum of the pack's header is wrong")
    _, version, size, stored = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION or size != HEADER_BYTES:
        raise CorruptPack(
            f"{path} has format {version}; this program reads {FORMAT_VERSION}: use a newer dvid-es"
        )
    if stored != number:
        raise CorruptPack(f"{path}, byte 0: the header says that this is pack {stored}")


def encode_head(ref: PackRef) -> bytes:
    """Return the `HEAD_BYTES` before a value.

    Its checksum covers the place too, so that a head inside of another value (a pack stored in a
    pack) is not taken for one of this pack.
    """
    head = _HEAD.pack(VALUE_MAGIC, ref.length, ref.checksum, ref.digest)
    return head + _CHECKSUM.pack(_head_checksum(head, ref.pack, ref.offset - HEAD_BYTES))


def _head_checksum(head: bytes, pack: int, position: int) -> int:
    return crc32c_extend(crc32c_extend(0, _PLACE.pack(pack, position)), head)


def decode_head(data: bytes, at: int, pack: int, position: int) -> Value | None:
    """Return the value whose head is `data[at:]`, read at `position` of a pack, or None."""
    head = data[at : at + HEAD_BYTES]
    if len(head) < HEAD_BYTES or head[:4] != VALUE_MAGIC:
        return None
    body = head[:-4]
    if _CHECKSUM.unpack_from(head, HEAD_BYTES - 4)[0] != _head_checksum(body, pack, position):
        return None
    _, length, checksum, digest = _HEAD.unpack(body)
    if length > MAX_VALUE_BYTES:
        return None
    start = position + HEAD_BYTES
    return Value(PackRef(pack, start, length, checksum, digest), start + length)


def walk_pack(
    read: Read, pack: int, start: int, stop: int, is_whole: Callable[[PackRef], bool] | None = None
) -> Iterator[Value | Gap]:
    """Return the values between two positions of a pack, and the gaps between them.

    After a crash the middle of what was not synced may be missing while what follows is there, and
    later values follow it; so a gap is searched for the next head, never taken for the end.

    Args:
        read: bytes of the pack.
        pack: its number.
        start: position of a head.
        stop: length of the file.
        is_whole: if given, whether a value's bytes are right; one that is not is followed by a
            search from its head on, since its length may lie. If None, heads are trusted.
    """
    position, previous = start, None
    window, base = b"", start
    while position < stop:
        if not base <= position <= base + len(window) - HEAD_BYTES:
            window, base = read(min(_WINDOW_BYTES, stop - position), position), position
        value = decode_head(window, position - base, pack, position)
        if value is not None and value.stop <= stop and (is_whole is None or is_whole(value.ref)):
            yield value
            previous, position = value, value.stop
            continue
        # A value before may have been cut short, so that the next head lies within its length.
        search = position + 1
        if previous is not None and value is None and is_whole is None:
            search = previous.ref.offset
        previous = None
        found = find_head(read, pack, search, stop)
        if found > position:
            yield Gap(position, found)
        position = found


def find_head(read: Read, pack: int, start: int, stop: int) -> int:
    """Return the position of the first valid head from `start` on, or `stop`."""
    base = start
    while base + HEAD_BYTES <= stop:
        data = read(min(_SEARCH_BYTES + HEAD_BYTES, stop - base), base)
        at = data.find(VALUE_MAGIC)
        while 0 <= at <= len(data) - HEAD_BYTES:
            if decode_head(data, at, pack, base + at) is not None:
                return base + at
            at = data.find(VALUE_MAGIC, at + 1)
        if len(data) <= HEAD_BYTES:
            break
        base += len(data) - HEAD_BYTES + 1
    return stop
