"""Tar files: small plain files, strictly read and quickly written.

Python's own reader takes an archive that is damaged after its first entry for one that ends there.
"""

import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dvid_es.errors import InvalidRequest

BLOCK = 512
_END = bytes(2 * BLOCK)
_FILES = b"0\x007"
_LOCAL, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_HEADERS_MAX = 1 << 20


class Entry(NamedTuple):
    """A file of an archive."""

    name: str
    data: memoryview
    """A part of the archive, not copied."""


def write(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Iterate over a tar file with one plain file for each name; no times, so equal files are equal."""
    for name, data in files:
        info = tarfile.TarInfo(name)
        info.mode = 0o755
        info.size = len(data)
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield data
        yield bytes(-len(data) % BLOCK)
    yield _END


def read(archive: bytes | memoryview) -> Iterator[Entry]:
    """Iterate over the files of an archive: ustar, GNU or pax; nothing at all is an empty one.

    Raises:
        InvalidRequest: it is damaged or cut short, or holds something else than files.
    """
    data = memoryview(archive)
    at, number = 0, 1
    given: dict[str, str] = {}
    while at < len(data):
        header = bytes(data[at : at + BLOCK])
        if not any(header):
            _check_end(data, at)
            return
        kind, size = _checked(header, number)
        if kind in _FILES:
            size = _pax_size(given, size, number)
        content = data[at + BLOCK : at + BLOCK + size]
        at += BLOCK + size + -size % BLOCK
        if at > len(data):
            raise InvalidRequest(f"the tar file ends within entry {number}")
        if kind == _LOCAL:
            given |= _records(_bounded(content, number), number)
        elif kind == _LONG_NAME:
            given["path"] = _text(_bounded(content, number))
        elif kind in _FILES:
            yield Entry(given.get("path") or _name(header), content)
            given, number = {}, number + 1
        elif kind not in (_GLOBAL, _LONG_LINK):
            raise InvalidRequest(f"entry {number} of the tar file is not a plain file")
    if given:
        raise InvalidRequest(f"the tar file ends before entry {number}")


def _check_end(data: memoryview, at: int) -> None:
    if any(data[at + BLOCK : at + 2 * BLOCK]):
        raise InvalidRequest("the tar file is damaged: something follows its end")


def _checked(header: bytes, number: int) -> tuple[bytes, int]:
    """Return type and size of an entry whose checksum is right."""
    wrong = InvalidRequest(f"the header of entry {number} is not one of a tar file")
    if len(header) < BLOCK:
        raise wrong
    signed = [byte - 256 if byte > 127 else byte for byte in header]
    blank = sum(header[148:156])
    sums = {sum(header) - blank + 256, sum(signed) - sum(signed[148:156]) + 256}
    if _octal(header[148:156]) not in sums:
        raise wrong
    field = header[124:136]
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)
    if size is None or size >> 62:
        raise wrong
    return header[156:157], size


def _octal(field: bytes) -> int | None:
    text = field.strip(b" \0")
    if not text:
        return 0
    return int(text, 8) if all(48 <= byte < 56 for byte in text) else None


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _bounded(content: memoryview, number: int) -> bytes:
    if len(content) > _HEADERS_MAX:
        raise InvalidRequest(f"the extended header of entry {number} of the tar file is too long")
    return bytes(content)


def _records(content: bytes, number: int) -> dict[str, str]:
    """Return the records of a pax header: "<length> <key>=<value>", each with a newline."""
    found = {}
    while content:
        digits, _, _ = content[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = content[:length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) < length or not equals or record[-1:] != b"\n":
            raise InvalidRequest(
                f"the extended header of entry {number} of the tar file is damaged"
            )
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        content = content[length:]
    return found


def _pax_size(given: dict[str, str], size: int, number: int) -> int:
    text = given.get("size")
    if text is None:
        return size
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidRequest(f'entry {number} of the tar file has a size of "{text[:40]}"')
    return int(text)
