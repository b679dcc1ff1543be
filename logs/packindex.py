"""The digest index of a sealed pack: sorted, on disk, and only a hint.

A wrong index costs a second copy of a value, never a wrong value: what it names is read and
compared before it is used. So it is checked lightly when opened and rebuilt when it does not fit.
"""

import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dvid_es.logs.base import DIGEST_BYTES, PackRef
from dvid_es.logs.checksums import crc32c_extend
from dvid_es.logs.disk import Disk, create, read_all
from dvid_es.logs.packread import Handle

logger = logging.getLogger(__name__)

MAGIC = b"DVESPIDX"
FORMAT_VERSION = 1
HEADER_BYTES = 64
ENTRY_BYTES = 32

_HEADER = struct.Struct("<8sHHIQQI24x")
_ENTRY = struct.Struct("<16sQII")
_CHECKSUM = struct.Struct("<I")
_WINDOW_ENTRIES = 128
_DIGEST_SPAN = 1 << 64


def index_path(pack_path: Path) -> Path:
    """Return the file of a pack's index."""
    return pack_path.with_suffix(".index")


class Header(NamedTuple):
    """What an index says of itself."""

    covered: int
    """Length of the pack for which it was made."""
    entries: int
    checksum: int
    """CRC-32C of all entries."""


def write_index(
    disk: Disk, pack_path: Path, pack: int, covered: int, refs: Iterable[PackRef]
) -> None:
    """Write the index of a pack; it appears whole or not at all.

    Args:
        disk: the operating system.
        pack_path: file of the pack.
        pack: its number.
        covered: its length.
        refs: its values.

    Raises:
        OSError: of the operating system; the old index, if any, is still there.
    """
    entries = sorted(_ENTRY.pack(ref.digest, ref.offset, ref.length, ref.checksum) for ref in refs)
    body = b"".join(entries)
    head = _HEADER.pack(
        MAGIC, FORMAT_VERSION, HEADER_BYTES, pack, covered, len(entries), crc32c_extend(0, body)
    )
    head += _CHECKSUM.pack(crc32c_extend(0, head))
    disk.close(create(disk, index_path(pack_path), [head, body]))


class PackIndex:
    """An open index."""

    def __init__(self, disk: Disk, handle: Handle, pack: int, header: Header) -> None:
        """Use `open_index`."""
        self._disk = disk
        self._handle = handle
        self.pack = pack
        self.header = header

    def find(self, digest: bytes) -> PackRef | None:
        """Return where a value with this digest should lie, or None if it is not found."""
        try:
            return self._search(digest)
        except OSError as error:
            logger.warning("the index of pack %d cannot be read: %s", self.pack, error)
            return None

    def _search(self, digest: bytes) -> PackRef | None:
        """Look near where a digest must be, since digests are evenly spread: one read or two."""
        low, high = 0, self.header.entries
        key = int.from_bytes(digest[:8], "big")
        low_key, high_key = 0, _DIGEST_SPAN
        while low < high:
            guess = low + (high - low) * (key - low_key) // max(1, high_key - low_key)
            first = max(low, min(guess - _WINDOW_ENTRIES // 2, high - 1))
            count = min(_WINDOW_ENTRIES, high - first)
            window = read_all(
                self._disk, self._handle.fd, count * ENTRY_BYTES, HEADER_BYTES + first * ENTRY_BYTES
            )
            if len(window) < count * ENTRY_BYTES:
                return None
            last = window[-ENTRY_BYTES : -ENTRY_BYTES + DIGEST_BYTES]
            if digest < window[:DIGEST_BYTES]:
                high, high_key = first, int.from_bytes(window[:8], "big")
            elif digest > last:
                low, low_key = first + count, int.from_bytes(last[:8], "big")
            else:
                return self._find_in(window, digest)
        return None

    def _find_in(self, window: bytes, digest: bytes) -> PackRef | None:
        at = window.find(digest)
        while at >= 0 and at % ENTRY_BYTES:
            at = window.find(digest, at + 1)
        if at < 0:
            return None
        _, offset, length, checksum = _ENTRY.unpack_from(window, at)
        return PackRef(self.pack, offset, length, checksum, digest)

    def load(self) -> dict[bytes, PackRef] | None:
        """Return all entries, or None if they are not what was written."""
        length = self.header.entries * ENTRY_BYTES
        try:
            body = read_all(self._disk, self._handle.fd, length, HEADER_BYTES)
        except OSError:
            return None
        if crc32c_extend(0, body) != self.header.checksum:
            return None
        return {
            digest: PackRef(self.pack, offset, length, checksum, digest)
            for digest, offset, length, checksum in _ENTRY.iter_unpack(body)
        }


def open_index(disk: Disk, pack_path: Path, pack: int, pack_size: int) -> PackIndex | None:
    """Return the index of a pack, or None if there is none that can belong to it.

    Args:
        disk: the operating system.
        pack_path: file of the pack.
        pack: its number.
        pack_size: its length; an index may cover less.
    """
    try:
        handle = Handle(disk, disk.open(index_path(pack_path), os.O_RDONLY))
        data = read_all(disk, handle.fd, HEADER_BYTES, 0)
        size = disk.size(handle.fd)
    except OSError:
        return None
    if len(data) < HEADER_BYTES or _CHECKSUM.unpack_from(data, HEADER_BYTES - 4)[
        0
    ] != crc32c_extend(0, data[: HEADER_BYTES - 4]):
        return None
    magic, version, _, number, covered, count, checksum = _HEADER.unpack_from(data)
    if (
        magic != MAGIC
        or version != FORMAT_VERSION
        or number != pack
        or covered > pack_size
        or size != HEADER_BYTES + count * ENTRY_BYTES
    ):
        return None
    return PackIndex(disk, handle, pack, Header(covered, count, checksum))
