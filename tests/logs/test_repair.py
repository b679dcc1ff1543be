from pathlib import Path

import pytest

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs import FileLog, repair, verify_log
from dvid_es.logs.checksums import crc32c_extend
from tests.contracts.log_contract import entry, stored
from tests.logs.faults import CrashDisk


@pytest.fixture
def folder(scratch):
    log = FileLog(scratch / "log", "stream", segment_bytes=500)
    for number in range(0, 40, 2):
        log.append([entry(number), entry(number + 1)])
        log.sync()
    log.close()
    return scratch / "log"


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_good_log_is_left_as_it_is(folder):
    before = contents(folder)
    assert list(verify_log(folder)) == []
    assert repair(folder) == (40, "", None, ())
    assert repair(folder, accept_loss=True) == (40, "", None, ())
    assert contents(folder) == before


def test_without_consent_damage_is_only_reported(folder):
    flip(segments(folder)[2], 200)
    before = contents(folder)
    report = repair(folder)
    assert report.aside is None
    assert report.kept in range(int(segments(folder)[2].stem), int(segments(folder)[3].stem))
    assert "byte 1" in report.damage
    assert report.moved == tuple(path.name for path in segments(folder)[2:])
    assert contents(folder) == before


@pytest.mark.parametrize("which", [0, 1, 3, -1])
@pytest.mark.parametrize("place", [3, 30, 126, 128, 131, 150, 250, -1, -6])
def test_the_longest_valid_prefix_is_kept_and_nothing_is_deleted(folder, which, place):
    path = segments(folder)[which]
    flip(path, place)
    before = contents(folder)
    try:
        log = FileLog(folder)
        count = 0
        for record in log.read():
            assert record == stored(record.offset)
            count += 1
        log.close()
        assert which == -1, "the last frame of the last segment is the mark of a clean end"
        assert place in (-1, -6)
        assert count == 40
        return
    except CorruptLog:
        pass
    finally:
        if "log" in locals():
            log.close()
    findings = list(verify_log(folder))
    assert findings[0].path == str(path)
    report = repair(folder, accept_loss=True)
    assert int(path.stem) <= report.kept < 40
    after = contents(folder)
    for name, data in before.items():
        assert data in (after.get(name), after.get(f"{report.aside.name}/{name}"))
    assert list(verify_log(folder)) == []
    assert repair(folder).damage == ""
    log = FileLog(folder, "stream", segment_bytes=500)
    assert log.end == report.kept
    log.append([entry(log.end), entry(log.end + 1)])
    log.close()
    log = FileLog(folder)
    assert list(log.read()) == [stored(number) for number in range(report.kept + 2)]
    log.close()


def test_a_second_repair_uses_another_folder(folder):
    flip(segments(folder)[3], 200)
    assert repair(folder, accept_loss=True).aside.name == "damaged-001"
    flip(segments(folder)[1], 200)
    assert repair(folder, accept_loss=True).aside.name == "damaged-002"


def test_a_missing_segment_ends_what_is_kept(folder):
    lost = segments(folder)[2]
    lost.unlink()
    report = repair(folder, accept_loss=True)
    assert report.kept == int(lost.stem)
    log = FileLog(folder)
    assert list(log.read()) == [stored(number) for number in range(report.kept)]
    log.close()


def test_a_segment_with_right_checksums_and_a_wrong_digest_is_not_trusted(folder):
    # All frames are forged with right checksums, so that the digest alone can tell.
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    position, chain = 128, int.from_bytes(data[124:128], "little")
    data[position + 40] ^= 1
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        chain = crc32c_extend(chain, bytes(data[position : position + length - 4]))
        data[position + length - 4 : position + length] = chain.to_bytes(4, "little")
        position += length
    path.write_bytes(data)
    assert "digest" in next(verify_log(folder)).problem
    assert repair(folder, accept_loss=True).kept == 0


def test_a_torn_tail_is_no_damage(folder):
    with segments(folder)[-1].open("ab") as file:
        file.write(b"torn")
    assert list(verify_log(folder)) == []
    assert repair(folder, accept_loss=True).damage == ""


def test_every_damaged_segment_is_found(folder):
    flip(segments(folder)[1], 200)
    flip(segments(folder)[4], 10)
    flip(segments(folder)[5], 300)
    found = {Path(finding.path) for finding in verify_log(folder)}
    assert {segments(folder)[1], segments(folder)[4], segments(folder)[5]} <= found
    assert segments(folder)[2] not in found
    assert segments(folder)[6] not in found


def test_a_log_in_use_is_not_repaired_but_may_be_verified(folder):
    log = FileLog(folder)
    assert list(verify_log(folder)) == []
    with pytest.raises(SettingsError, match="in use"):
        repair(folder, accept_loss=True)
    log.close()


def test_a_folder_that_is_none_is_refused(scratch):
    with pytest.raises(SettingsError):
        repair(scratch / "none", accept_loss=True)
    assert not (scratch / "none").exists()


class DiesAt(CrashDisk):
    """Ends the process before the n-th change."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def rename(self, old, new):
        self._count()
        super().rename(old, new)

    def truncate(self, fd, length):
        self._count()
        super().truncate(fd, length)

    def pwritev(self, fd, buffers, offset):
        self._count()
        return super().pwritev(fd, buffers, offset)


def test_a_repair_that_is_interrupted_anywhere_can_be_repeated(folder):
    flip(segments(folder)[2], 200)
    kept = repair(folder).kept
    originals = {path.name: path.read_bytes() for path in segments(folder)}
    done = False
    nth = 0
    while not done:
        nth += 1
        disk = DiesAt(nth)
        try:
            repair(folder, accept_loss=True, disk=disk)
            done = True
        except KeyboardInterrupt:
            disk.crash()
        report = repair(folder, accept_loss=True)
        assert report.kept == kept
        log = FileLog(folder)
        assert log.end == kept
        log.close()
        everywhere = {path.read_bytes() for path in folder.rglob("*.log")}
        assert set(originals.values()) <= everywhere, "nothing is deleted"
        for path in folder.rglob("*.log"):
            path.unlink()
        for name, data in originals.items():
            (folder / name).write_bytes(data)
    assert nth > 4


def test_a_segment_of_a_newer_format_is_found_and_set_aside(folder):
    path = segments(folder)[2]
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[124:128] = crc32c_extend(0, bytes(data[:124])).to_bytes(4, "little")
    path.write_bytes(data)
    assert "newer dvid-es" in next(verify_log(folder)).problem
    report = repair(folder, accept_loss=True)
    assert report.kept == int(path.stem)
    assert (report.aside / path.name).read_bytes() == data
