from __future__ import annotations

import io
import random
import tarfile

import pytest

from dvid_es.codecs import tar
from dvid_es.errors import InvalidRequest

FILES = [("17.drc", b"a mesh"), ("18446744073709551615.drc", b""), ("9.drc", bytes(range(256)) * 5)]


def made(files: list[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT, **more: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for field, value in more.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def read(archive: bytes) -> list[tuple[str, bytes]]:
    return [(name, bytes(data)) for name, data in tar.read(archive)]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_are_read_as_others_wrote_them(kind: int) -> None:
    assert read(made(FILES, kind)) == FILES
    assert read(made(FILES, kind, mtime=1_700_000_000, uname="käthe")) == FILES


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_unusual_names_are_read(kind: int) -> None:
    files = [("folder/" + "x" * 300 + ".drc", b"1"), ("käthe.drc", b"2"), ("17.drc", b"3")]
    assert read(made(files, kind)) == files
    assert read(made([("a" * 90 + "/" + "b" * 80, b"1")], tarfile.USTAR_FORMAT))[0][1] == b"1"


def test_times_as_fractions_need_an_extended_header_that_is_read() -> None:
    archive = made(FILES, mtime=1.5)
    assert b"mtime=1.5" in archive
    assert read(archive) == FILES


def test_what_is_written_is_read_by_others() -> None:
    written = b"".join(tar.write(FILES))
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        found = [(one.name, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
        assert {one.mode for one in archive.getmembers()} == {0o755}
    assert found == FILES
    assert read(written) == FILES
    assert written == b"".join(tar.write(FILES))


def test_nothing_and_an_archive_that_just_ends_are_archives() -> None:
    assert read(b"") == []
    assert read(made([])) == []
    archive = made(FILES[:1])
    assert read(archive[:1024]) == FILES[:1]
    assert read(archive[:1536]) == FILES[:1]


def test_what_is_no_plain_file_is_refused() -> None:
    for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with pytest.raises(InvalidRequest, match="entry 1"):
            read(made([("17.drc", b"")], type=kind))


def test_damage_after_the_first_file_is_no_end() -> None:
    archive = bytearray(made(FILES))
    archive[1024 + 150] ^= 1  # in the checksum of the second header
    with pytest.raises(InvalidRequest, match="entry 2"):
        read(bytes(archive))
    with pytest.raises(InvalidRequest, match="follows its end"):
        read(made(FILES[:1])[:1536] + b"x" * 512)


def test_an_archive_that_is_cut_inside_a_file_or_header_is_refused() -> None:
    archive = made(FILES)
    whole = {0, 1024, 1536}  # at the borders of entries
    for cut in range(1, 1024 + 512 + 512 + 1280, 97):
        if cut in whole:
            continue
        with pytest.raises(InvalidRequest):
            read(archive[:cut])
    with pytest.raises(InvalidRequest):
        read(made([("x" * 200, b"1")], tarfile.GNU_FORMAT)[:1024])


def test_any_damage_is_read_or_refused_but_nothing_else() -> None:
    rnd = random.Random(4)
    good = made([("x" * 120 + ".drc", b"abc"), ("17.drc", b"x" * 600)], mtime=2.5)
    for _ in range(3000):
        archive = bytearray(good)
        for _ in range(rnd.randint(1, 4)):
            at = rnd.randrange(len(archive))
            archive[at] = rnd.choice((0, 0x80, 0xFF, 0x30, 0x37, rnd.randrange(256)))
        if rnd.random() < 0.5:  # with a checksum that is right, so that the fields are looked at
            for start in range(0, len(archive), 512):
                if archive[start + 257 : start + 262] == b"ustar":
                    header = archive[start : start + 512]
                    header[148:156] = b" " * 8
                    archive[start + 148 : start + 156] = b"%06o\0 " % sum(header)
        try:
            for _, data in tar.read(bytes(archive)):
                assert len(data) <= len(archive)
        except InvalidRequest:
            pass


def test_sizes_that_no_archive_has_are_refused() -> None:
    archive = bytearray(made(FILES[:1]))
    for field in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"99999999999\0", b"-0000000001\0"):
        archive[124:136] = field
        archive[148:156] = b" " * 8
        archive[148:156] = b"%06o\0 " % sum(archive[:512])
        with pytest.raises(InvalidRequest):
            read(bytes(archive))
