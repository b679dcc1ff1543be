"""Checks every byte of a pack and of its index; changes nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

from dvid_es.errors import CorruptPack
from dvid_es.logs.base import Finding, PackRef
from dvid_es.logs.checksums import content_digest, crc32c_extend
from dvid_es.logs.disk import Disk, read_all
from dvid_es.logs.packfile import HEADER_BYTES, Gap, check_header, decode_head, walk_pack
from dvid_es.logs.packindex import index_path, open_index


def verify_pack(disk: Disk, path: Path, number: int, size: int | None = None) -> Iterator[Finding]:
    """Return what is wrong with a pack and its index.

    Bytes that a crash left, which no record names, are found too: they look like damage.

    Args:
        disk: the operating system.
        path: file of the pack.
        number: of the pack.
        size: how much of it to check, if another thread appends; None for all.
    """
    try:
        fd = disk.open(path, os.O_RDONLY)
    except OSError as error:
        yield Finding(str(path), 0, f"cannot be opened: {error}")
        return
    try:
        stop = disk.size(fd) if size is None else size
        yield from _verify_open(disk, fd, path, number, stop)
        index = open_index(disk, path, number, stop)
        is_right = index.load() is not None if index else not index_path(path).exists()
        if not is_right:
            yield Finding(str(index_path(path)), 0, "the index is wrong; a start makes it anew")
    except OSError as error:
        yield Finding(str(path), 0, f"cannot be read: {error}")
    finally:
        disk.close(fd)


def _verify_open(disk: Disk, fd: int, path: Path, number: int, stop: int) -> Iterator[Finding]:
    def read(length: int, offset: int) -> bytes:
        return read_all(disk, fd, length, offset)

    def is_whole(ref: PackRef) -> bool:
        data = read(ref.length, ref.offset)
        return (
            len(data) == ref.length
            and crc32c_extend(0, data) == ref.checksum
            and content_digest(data) == ref.digest
        )

    try:
        check_header(read(HEADER_BYTES, 0), path, number)
    except CorruptPack as error:
        yield Finding(str(path), 0, str(error))
    for item in walk_pack(read, number, HEADER_BYTES, stop, is_whole):
        if isinstance(item, Gap):
            value = decode_head(read(32, item.start), 0, number, item.start)
            yield Finding(
                str(path),
                item.start,
                f"{item.stop - item.start} bytes are no value: left by a crash, or damaged"
                if value is None
                else f"a value of {value.ref.length} bytes is cut short or damaged",
            )
