import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from dvid_es.errors import CorruptPack, SettingsError, WritesHalted
from dvid_es.logs import FilePacks, PackReader, PackRef
from dvid_es.logs.base import MAX_VALUE_BYTES, Places
from dvid_es.logs.checksums import crc32c
from dvid_es.logs.disk import DISK
from dvid_es.logs.packcheck import verify_pack
from dvid_es.logs.packfile import decode_head, encode_head
from dvid_es.logs.packindex import open_index, write_index
from tests.contracts.packs_contract import PacksContract, value
from tests.logs.faults import CrashDisk


class TestFilePacks(PacksContract):
    def open_packs(self, folder: Path) -> FilePacks:
        return FilePacks(folder)


class TestFilePacksOfSmallFiles(PacksContract):
    def open_packs(self, folder: Path) -> FilePacks:
        return FilePacks(folder, pack_bytes=3000)


VALUES = [value(number, 20 + number % 300) for number in range(300)]


def fill(folder: Path, close: bool = True):
    disk = CrashDisk()
    packs = FilePacks(folder, pack_bytes=10_000, disk=disk)
    refs = [ref for start in range(0, 300, 7) for ref in packs.put_many(VALUES[start : start + 7])]
    packs.sync()
    packs.close() if close else disk.crash()
    return refs


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.pack"))


@pytest.mark.parametrize("close", [True, False])
def test_values_are_got_and_not_stored_again_after_another_start(tmp_path, close):
    refs = fill(tmp_path, close)
    before = size(tmp_path)
    packs = FilePacks(tmp_path, pack_bytes=10_000)
    assert len(list(tmp_path.glob("*.pack"))) > 4
    assert packs.get_many(refs) == VALUES
    assert packs.put_many(VALUES) == refs
    assert size(tmp_path) == before
    assert list(packs.verify()) == []
    packs.close()


def test_what_is_equal_in_one_batch_takes_place_once(tmp_path):
    packs = FilePacks(tmp_path)
    before = size(tmp_path)
    packs.put_many([b"x" * 1000] * 50)
    assert size(tmp_path) == before + 1032
    packs.close()


def test_files_and_folders_are_for_their_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        fill(tmp_path / "a" / "packs")
    finally:
        os.umask(old)
    folder = tmp_path / "a" / "packs"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_second_opener_is_refused_and_a_reader_is_not(tmp_path):
    refs = fill(tmp_path)
    packs = FilePacks(tmp_path)
    with pytest.raises(SettingsError, match="in use"):
        FilePacks(tmp_path)
    reader = PackReader(tmp_path)
    assert reader.get_many(refs) == VALUES
    new = packs.put(b"new")
    assert reader.get(new) == b"new"
    reader.close()
    packs.close()


@pytest.mark.parametrize("harm", ["missing", "cut", "flipped", "of another pack"])
def test_an_index_that_is_missing_or_wrong_is_made_anew(tmp_path, harm, caplog):
    refs = fill(tmp_path)
    first, second = sorted(tmp_path.glob("*.index"))[:2]
    whole = first.read_bytes()
    if harm == "missing":
        first.unlink()
    elif harm == "cut":
        os.truncate(first, len(whole) - 1)
    elif harm == "flipped":
        first.write_bytes(whole[:20] + b"\xff" + whole[21:])
    else:
        first.write_bytes(second.read_bytes())
    with caplog.at_level(logging.INFO):
        packs = FilePacks(tmp_path, pack_bytes=10_000)
    assert "making the index" in caplog.text
    assert first.read_bytes() == whole
    assert packs.put_many(VALUES) == refs
    packs.close()


def test_an_index_finds_each_of_many_digests_and_no_other(tmp_path):
    packs = FilePacks(tmp_path)
    refs = packs.put_many([b"%d" % number for number in range(20_000)])
    packs.close()
    path = packs.path(1)
    index = open_index(DISK, path, 1, path.stat().st_size)
    for ref in refs[::7]:
        assert index.find(ref.digest) == ref
        assert index.find(ref.digest[:15] + bytes([ref.digest[15] ^ 1])) is None
    for edge in (bytes(16), b"\xff" * 16):
        assert index.find(edge) is None
    ends = sorted(refs, key=lambda ref: ref.digest)
    assert index.find(ends[0].digest) == ends[0]
    assert index.find(ends[-1].digest) == ends[-1]


def test_an_index_of_digests_that_are_not_evenly_spread_finds_each_and_bears_a_cut(tmp_path):
    digests = [b"\0" * 8 + number.to_bytes(8, "big") for number in range(1000)]
    digests += [b"\xff" * 8 + number.to_bytes(8, "little") for number in range(1000)]
    digests += [bytes(24)[:8] + b"\1" * 8, b"\7" * 16, (7 << 120).to_bytes(16, "big")]
    refs = [
        PackRef(1, int.from_bytes(digest[-8:], "big") % 2**40, 7, 7, digest) for digest in digests
    ]
    path = tmp_path / "00000001.pack"
    write_index(DISK, path, 1, 99, refs)
    index = open_index(DISK, path, 1, 99)
    assert [index.find(ref.digest) for ref in refs] == refs
    assert index.find(b"\0" * 7 + b"\1" + b"\0" * 8) is None
    os.truncate(tmp_path / "00000001.index", 100)
    assert index.find(refs[500].digest) is None
    assert index.load() is None


def test_a_digest_within_other_fields_of_an_index_is_no_entry(tmp_path):
    inner = PackRef(1, 0x0706050403020100, 0x0B0A0908, 0x0F0E0D0C, b"\0" * 8 + b"\1" * 8)
    other = inner._replace(digest=bytes(range(16)))
    wanted = bytes(range(16))
    path = tmp_path / "00000001.pack"
    write_index(DISK, path, 1, 99, [inner, inner._replace(digest=b"\1" * 16)])
    assert open_index(DISK, path, 1, 99).find(wanted) is None
    write_index(DISK, path, 1, 99, [inner, other, inner._replace(digest=b"\1" * 16)])
    assert open_index(DISK, path, 1, 99).find(wanted) == other


def test_an_index_that_cannot_be_made_is_done_without(tmp_path):
    refs = fill(tmp_path)
    min(tmp_path.glob("*.index")).unlink()

    class NoIndexDisk(CrashDisk):
        def open(self, path, flags):
            if Path(path).name == "00000001.index":
                raise OSError(errno.EACCES, "not this one")
            return super().open(path, flags)

    packs = FilePacks(tmp_path, pack_bytes=10_000, disk=NoIndexDisk())
    assert packs.get_many(refs) == VALUES
    assert packs.put(VALUES[0]) != refs[0]
    assert packs.put(VALUES[-1]) == refs[-1]
    packs.close()


def test_verify_leaves_packs_alone_that_are_started_meanwhile_and_checks_indexes(tmp_path):
    fill(tmp_path)
    packs = FilePacks(tmp_path, pack_bytes=10_000)
    (tmp_path / "00000099.pack").write_bytes(b"not finished")
    assert list(packs.verify()) == []
    (tmp_path / "00000002.index").write_bytes(b"no index")
    assert [finding.path for finding in packs.verify()] == [str(tmp_path / "00000002.index")]
    packs.close()


def test_a_damaged_value_is_stored_again_when_it_is_put_again(tmp_path, caplog):
    refs = fill(tmp_path)
    for ref in (refs[0], refs[-1]):
        path = tmp_path / f"{ref.pack:08d}.pack"
        data = bytearray(path.read_bytes())
        data[ref.offset + 5] ^= 1
        path.write_bytes(data)
    packs = FilePacks(tmp_path, pack_bytes=10_000)
    for ref in (refs[0], refs[-1]):
        with pytest.raises(CorruptPack, match=rf"{ref.pack:08d}\.pack, byte {ref.offset}: "):
            packs.get(ref)
    findings = list(packs.verify())
    assert [(finding.path, finding.offset + 32) for finding in findings] == [
        (str(packs.path(ref.pack)), ref.offset) for ref in (refs[0], refs[-1])
    ]
    again = packs.put_many([VALUES[0], VALUES[-1], VALUES[1]])
    assert again[0] != refs[0]
    assert again[1] != refs[-1]
    assert again[2] == refs[1]
    assert packs.get_many(again) == [VALUES[0], VALUES[-1], VALUES[1]]
    assert packs.put(VALUES[0]) == again[0]
    assert "stored again" in caplog.text
    packs.close()


def test_a_missing_pack_is_reported_and_the_others_are_served(tmp_path):
    refs = fill(tmp_path)
    lost = refs[0].pack
    (tmp_path / f"{lost:08d}.pack").unlink()
    packs = FilePacks(tmp_path, pack_bytes=10_000)
    with pytest.raises(CorruptPack, match=r"00000001\.pack cannot be opened: .*Restore"):
        packs.get(refs[0])
    kept = [place for place, ref in enumerate(refs) if ref.pack != lost]
    assert packs.get_many([refs[place] for place in kept]) == [VALUES[place] for place in kept]
    packs.close()


def test_a_torn_tail_is_passed_over_and_no_byte_is_cut_off(tmp_path):
    refs = fill(tmp_path, close=False)
    path = max(tmp_path.glob("*.pack"))
    for tail in (b"\0" * 5000, b"\xf5VAL" * 300, os.urandom(999), VALUES[0], b"\xf5"):
        with path.open("ab") as file:
            file.write(tail)
        whole = path.read_bytes()
        disk = CrashDisk()
        packs = FilePacks(tmp_path, pack_bytes=100_000, disk=disk)
        assert path.read_bytes() == whole
        new = packs.put(os.urandom(50))
        data = packs.get(new)
        assert packs.get_many(refs) == VALUES
        disk.crash()
        packs = FilePacks(tmp_path, pack_bytes=100_000)
        assert packs.put(data) == new, "what follows a torn tail is found again"
        assert packs.put_many(VALUES) == refs
        assert any("left by a crash" in finding.problem for finding in packs.verify())
        packs.close()
        for index in tmp_path.glob("*.index"):
            index.unlink()


def test_a_pack_stored_in_a_pack_is_not_taken_for_values(tmp_path):
    fill(tmp_path / "inner")
    inner = (tmp_path / "inner" / "00000001.pack").read_bytes()
    disk = CrashDisk()
    packs = FilePacks(tmp_path / "outer", disk=disk)
    ref = packs.put(inner)
    disk.crash()
    # Its head is damaged, so that the value is searched for heads.
    path = tmp_path / "outer" / "00000001.pack"
    data = bytearray(path.read_bytes())
    data[ref.offset - 20] ^= 1
    path.write_bytes(data)
    packs = FilePacks(tmp_path / "outer")
    assert packs.get(ref) == inner
    assert packs._active.inherited == {}
    packs.close()


def test_references_to_one_pack_are_read_together(tmp_path):
    refs = fill(tmp_path)

    class CountingDisk(CrashDisk):
        calls = 0

        def pread(self, fd, length, offset):
            self.calls += 1
            return super().pread(fd, length, offset)

    disk = CountingDisk()
    reader = PackReader(tmp_path, disk)
    reader.get_many(refs)
    disk.calls = 0
    assert reader.get_many(refs[::-1]) == VALUES[::-1]
    assert disk.calls == len({ref.pack for ref in refs})
    reader.close()


def test_what_memory_held_before_is_never_taken_for_a_value(tmp_path):
    refs = fill(tmp_path)
    reader = PackReader(tmp_path)
    memory = bytearray(sum(ref.length + 99 for ref in refs))
    take = memoryview(memory).__getitem__
    columns = [list(column) for column in [*zip(*refs, strict=True)][:4]]
    reader.get_joined(Places(*columns), take=lambda size: take(slice(size)))
    last = max(tmp_path.glob("*.pack"))
    os.truncate(last, last.stat().st_size - 1)
    with pytest.raises(CorruptPack, match=last.name):
        reader.get_joined(Places(*columns), take=lambda size: take(slice(size)))
    reader.close()


def test_more_packs_than_files_may_be_open_are_read(tmp_path, monkeypatch):
    refs = fill(tmp_path)
    monkeypatch.setattr("dvid_es.logs.packread._OPEN_FILES", 2)
    disk = CrashDisk()
    reader = PackReader(tmp_path, disk)
    for _ in range(2):
        for ref, data in zip(refs, VALUES, strict=True):
            assert reader.get(ref) == data
            assert len(disk.paths) <= 2
    reader.close()
    assert disk.paths == {}


def test_a_file_that_is_no_pack_is_refused(tmp_path):
    fill(tmp_path)
    last = max(tmp_path.glob("*.pack"))
    last.write_bytes(b"no pack")
    with pytest.raises(CorruptPack, match="not the header of a pack"):
        FilePacks(tmp_path)
    last.write_bytes((tmp_path / "00000001.pack").read_bytes())
    with pytest.raises(CorruptPack, match="says that this is pack 1"):
        FilePacks(tmp_path)


def test_of_two_threads_that_put_an_equal_value_one_stores_it(tmp_path):
    class Overtaken(FilePacks):
        overtaking = False

        def _find(self, digest, data):
            found = super()._find(digest, data)
            if not self.overtaking:
                self.overtaking = True
                self.first = self.put(data)
            return found

    packs = Overtaken(tmp_path)
    assert packs.put(b"value") == packs.first
    assert packs.put_many([b"value", b"another"])[0] == packs.first
    packs.close()


@pytest.mark.parametrize("pack_bytes", [1 << 20, 200])
def test_a_value_of_a_killed_process_is_named_once_also_if_others_are_faster(tmp_path, pack_bytes):
    disk = CrashDisk()
    FilePacks(tmp_path, disk=disk).put(b"value")
    disk.crash()

    class Overtaken(FilePacks):
        overtaking = False

        def _find(self, digest, data):
            found = super()._find(digest, data)
            if not self.overtaking:
                self.overtaking = True
                self.put(b"value")
                self.put(b"x" * 300)
            return found

    packs = Overtaken(tmp_path, pack_bytes=pack_bytes)
    ref = packs.put(b"value")
    assert packs.get(ref) == b"value"
    assert packs.put(b"value") == ref
    assert list(packs.verify()) == []
    packs.close()


def test_a_pack_of_a_newer_format_says_so(tmp_path):
    FilePacks(tmp_path).close()
    path = tmp_path / "00000001.pack"
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[60:64] = crc32c(bytes(data[:60])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptPack, match="newer dvid-es"):
        FilePacks(tmp_path)
    assert "newer" in next(verify_pack(DISK, path, 1)).problem


def test_a_head_of_a_value_that_is_too_long_is_no_head():
    ref = PackRef(1, 96, MAX_VALUE_BYTES + 1, 0, bytes(16))
    assert decode_head(encode_head(ref), 0, 1, 64) is None
    ref = ref._replace(length=MAX_VALUE_BYTES)
    assert decode_head(encode_head(ref), 0, 1, 64).ref == ref


def test_a_closed_pack_cannot_be_written(tmp_path):
    packs = FilePacks(tmp_path)
    active = packs._active
    packs.close()
    with pytest.raises(WritesHalted, match="closed"):
        active.append({})
