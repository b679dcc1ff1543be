import errno
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dvid_es.errors import CorruptLog, SettingsError, StorageFull, WritesHalted
from dvid_es.logs import Entry, FileLog, verify_log
from dvid_es.logs.filelog import ROOM_BYTES
from dvid_es.logs.reader import LogReader
from dvid_es.logs.segment import INDEX_STEP_BYTES
from tests.contracts.log_contract import LogContract, entry, stored
from tests.logs.faults import CrashDisk


class TestFileLog(LogContract):
    def open_log(self, folder: Path) -> FileLog:
        return FileLog(folder, "stream")


class TestFileLogOfSmallSegments(LogContract):
    def open_log(self, folder: Path) -> FileLog:
        return FileLog(folder, "stream", segment_bytes=500)


def fill(folder: Path, count: int, segment_bytes: int = 700, close: bool = True) -> FileLog:
    log = FileLog(folder, "stream", segment_bytes=segment_bytes)
    for number in range(log.end, count):
        log.append([entry(number)])
        log.sync()
    if close:
        log.close()
    return log


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def test_a_log_is_the_same_after_it_is_opened_again(tmp_path):
    fill(tmp_path, 40)
    assert len(segments(tmp_path)) > 3
    log = FileLog(tmp_path, "stream", segment_bytes=700)
    assert log.end == 40
    assert list(log.read()) == [stored(number) for number in range(40)]
    assert list(log.read(13, 27)) == [stored(number) for number in range(13, 27)]
    log.close()
    fill(tmp_path, 60)
    log = FileLog(tmp_path)
    assert list(log.read()) == [stored(number) for number in range(60)]
    log.close()


def test_the_name_of_the_stream_is_stored_and_checked(tmp_path):
    fill(tmp_path, 3)
    log = FileLog(tmp_path)
    assert log.stream_id == "stream"
    log.close()
    with pytest.raises(SettingsError, match="belongs to the stream 'stream', not to 'other'"):
        FileLog(tmp_path, "other")


@pytest.mark.parametrize("name", [None, "", "x" * 93, "ä" * 47])
def test_a_new_stream_needs_a_good_name(tmp_path, name):
    with pytest.raises(SettingsError):
        FileLog(tmp_path / "new", name)
    FileLog(tmp_path / "new", "x" * 92).close()


def test_files_and_folders_are_for_their_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        fill(tmp_path / "a" / "b", 20)
    finally:
        os.umask(old)
    folder = tmp_path / "a" / "b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_second_opener_is_refused_also_in_another_process(tmp_path):
    log = fill(tmp_path, 3, close=False)
    with pytest.raises(SettingsError, match="in use"):
        FileLog(tmp_path, "stream")
    code = (
        "import sys; from pathlib import Path; from dvid_es.logs import FileLog\n"
        "try: FileLog(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "SettingsError\n"
    log.close()
    FileLog(tmp_path).close()


def test_opening_and_closing_again_and_again_does_not_grow_the_log(tmp_path):
    fill(tmp_path, 3)
    size = sum(path.stat().st_size for path in segments(tmp_path))
    for _ in range(5):
        FileLog(tmp_path).close()
    assert sum(path.stat().st_size for path in segments(tmp_path)) == size


def test_a_torn_tail_is_cut_off_with_one_line_in_the_journal(tmp_path, caplog):
    fill(tmp_path, 5, segment_bytes=10_000)
    size = segments(tmp_path)[-1].stat().st_size
    disk = CrashDisk()
    log = FileLog(tmp_path, disk=disk)
    log.append([entry(5), entry(6), entry(7)])
    used = segments(tmp_path)[-1].read_bytes().rstrip(b"\0")
    disk.crash()
    os.truncate(segments(tmp_path)[-1], len(used) - 1)
    with caplog.at_level(logging.INFO):
        log = FileLog(tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cut off" in caplog.text
    assert log.end == 5, "an append is there as a whole or not at all"
    assert segments(tmp_path)[-1].stat().st_size == size
    log.append([entry(5)])
    assert list(log.read()) == [stored(number) for number in range(6)]
    log.close()


def test_appends_lie_in_room_made_ahead_which_a_close_cuts_off(tmp_path):
    log = FileLog(tmp_path, "s")
    log.append([entry(0)])
    (path,) = segments(tmp_path)
    size = path.stat().st_size
    assert size > ROOM_BYTES
    for number in range(1, 100):
        log.append([entry(number)])
        log.sync()
    assert path.stat().st_size == size
    assert list(verify_log(tmp_path)) == []
    reader = LogReader(tmp_path)
    assert list(reader.read()) == list(log.read()) == [stored(number) for number in range(100)]
    log.close()
    assert path.stat().st_size < ROOM_BYTES
    assert path.read_bytes()[-44:-42] == b"\xf5\x1e", "the mark is the last frame"


def test_room_that_a_crash_leaves_is_no_torn_tail(tmp_path, caplog):
    disk = CrashDisk()
    log = FileLog(tmp_path, "s", disk=disk)
    log.append([entry(0), entry(1)])
    log.sync()
    disk.crash()
    with caplog.at_level(logging.INFO):
        log = FileLog(tmp_path)
    assert caplog.records == []
    assert log.end == 2
    log.append([entry(2)])
    assert list(log.read()) == [stored(number) for number in range(3)]
    log.close()


def test_a_sealed_segment_ends_with_its_footer(tmp_path):
    log = FileLog(tmp_path, "s", segment_bytes=2000)
    for number in range(60):
        log.append([entry(number)])
    sealed, active = segments(tmp_path)[:-1], segments(tmp_path)[-1]
    assert len(sealed) > 1
    assert all(path.stat().st_size < ROOM_BYTES for path in sealed)
    assert active.stat().st_size > ROOM_BYTES
    log.close()
    assert list(verify_log(tmp_path)) == []


@pytest.mark.parametrize("zeros", [1, 43, 44, 5000])
def test_zeros_behind_a_footer_are_cut_off_only_in_the_last_segment(tmp_path, zeros):
    fill(tmp_path, 60, segment_bytes=2000)
    *sealed, last = segments(tmp_path)
    with sealed[0].open("ab") as file:
        file.write(bytes(zeros))
    with pytest.raises(CorruptLog):
        FileLog(tmp_path)
    assert [finding.path for finding in verify_log(tmp_path)] == [str(sealed[0])]
    for path in (*sealed[1:], last):
        path.unlink()
    end = int(sealed[1].stem)
    log = FileLog(tmp_path)
    assert log.end == end, "a crash may leave a footer and the room that was cut off before it"
    log.append([entry(end)])
    assert list(log.read()) == [stored(number) for number in range(end + 1)]
    log.close()


def test_without_space_for_room_appends_go_without(tmp_path):
    class Small(CrashDisk):
        """A file may have 3000 bytes."""

        def pwritev(self, fd, buffers, offset):
            if offset + sum(map(len, buffers)) > 3000:
                super().pwritev(fd, [b"x"], min(offset, 2999))
                raise OSError(errno.ENOSPC, "no space")
            return super().pwritev(fd, buffers, offset)

    log = FileLog(tmp_path, "s", disk=Small())
    while log.end < 1000:
        try:
            log.append([entry(log.end)])
        except StorageFull:
            break
        log.sync()
    kept = log.end
    assert 10 < kept < 1000
    assert segments(tmp_path)[0].stat().st_size < 3000
    log.close()
    log = FileLog(tmp_path)
    assert list(log.read()) == [stored(number) for number in range(kept)]
    log.append([entry(kept)])
    log.close()


def test_garbage_after_the_last_record_is_cut_off(tmp_path):
    fill(tmp_path, 5, segment_bytes=10_000)
    for garbage in (b"\0" * 5000, b"garbage", os.urandom(3000)):
        with segments(tmp_path)[-1].open("ab") as file:
            file.write(garbage)
        log = FileLog(tmp_path)
        assert log.end == 5
        log.close()


def test_bytes_after_a_footer_are_damage(tmp_path):
    fill(tmp_path, 40)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptLog, match=r"00000\.log, byte \d+: .*repair --accept-loss"):
        FileLog(tmp_path)


def test_damage_before_the_end_names_segment_and_byte_and_the_next_step(tmp_path):
    fill(tmp_path, 5, segment_bytes=10_000)
    path = segments(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[200] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match=rf"{path.name}, byte 1\d\d: .*repair --accept-loss"):
        FileLog(tmp_path)
    assert path.read_bytes() == data, "damage is never changed by opening"


def test_damage_in_a_sealed_segment_is_found_when_it_is_read(tmp_path):
    fill(tmp_path, 40)
    path = segments(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[250] ^= 1
    path.write_bytes(data)
    log = FileLog(tmp_path)
    good = []
    with pytest.raises(CorruptLog, match=rf"{path.name}, byte \d+"):
        good.extend(log.read())
    assert good == [stored(number) for number in range(int(path.stem))] + good[int(path.stem) :]
    log.close()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_segment_is_damage(tmp_path, lost):
    fill(tmp_path, 40)
    segments(tmp_path)[lost].unlink()
    with pytest.raises(CorruptLog, match="must follow"):
        FileLog(tmp_path)


def test_a_segment_of_another_history_is_damage(tmp_path):
    fill(tmp_path / "one", 40)
    log = FileLog(tmp_path / "two", "stream", segment_bytes=700)
    for number in range(40):
        log.append([entry(number)._replace(time_ns=number)])
    log.close()
    one, two = segments(tmp_path / "one")[1], segments(tmp_path / "two")[1]
    assert one.name == two.name
    one.write_bytes(two.read_bytes())
    with pytest.raises(CorruptLog, match="does not continue"):
        FileLog(tmp_path / "one")


def test_a_renamed_segment_is_damage(tmp_path):
    fill(tmp_path, 3)
    path = segments(tmp_path)[0]
    path.rename(path.with_name("00000000000000000007.log"))
    with pytest.raises(CorruptLog, match=r"says that record 0 is the first|must follow"):
        FileLog(tmp_path)


def test_a_segment_of_a_newer_format_says_so(tmp_path):
    from dvid_es.logs.checksums import crc32c

    fill(tmp_path, 3)
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[124:128] = crc32c(bytes(data[:124])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match="newer dvid-es"):
        FileLog(tmp_path)


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    fill(tmp_path, 3)
    for name in ("notes.txt", "1.log", "0000000000000000000x.log"):
        (tmp_path / name).write_text("mine")
    log = FileLog(tmp_path)
    assert log.end == 3
    log.close()
    assert (tmp_path / "1.log").read_text() == "mine"


def test_an_unfinished_segment_is_removed(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "00000000000000000003.log.new").write_bytes(b"half a hea")
    log = FileLog(tmp_path)
    assert log.end == 3
    log.close()
    assert list(tmp_path.glob("*.new")) == []


class CountingDisk(CrashDisk):
    read = 0

    def pread(self, fd, length, offset):
        self.read += length
        return super().pread(fd, length, offset)


def test_reading_far_into_a_log_starts_near(tmp_path):
    disk = CountingDisk()
    log = FileLog(tmp_path, "stream", segment_bytes=8 * INDEX_STEP_BYTES, disk=disk)
    facts = b"x" * 1000
    for number in range(0, 4000, 20):
        log.append([Entry(1, 1, number + step, b"", facts) for step in range(20)])
    for reopened in (False, True):
        if reopened:
            log.close()
            log = FileLog(tmp_path, disk=disk)
        for start in (0, 1, 1000, 2345, 3999):
            disk.read = 0
            assert next(log.read(start)).time_ns == start
            assert disk.read <= (1 << 20) + INDEX_STEP_BYTES
        assert next(log.read(4000), None) is None
    log.close()


def test_a_reader_may_outlive_the_log(tmp_path):
    log = fill(tmp_path, 10, close=False)
    records = log.read()
    next(records)
    log.close()
    assert len(list(records)) == 9


def test_a_folder_that_cannot_be_made_halts_writes(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((WritesHalted, OSError)):
        FileLog(tmp_path / "file" / "stream", "stream")
