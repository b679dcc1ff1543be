"""Every cut and every flipped bit of small files: nothing wrong is served, nothing good is lost."""

import contextlib
import os
from pathlib import Path

import pytest

from dvid_es.errors import CorruptLog, CorruptPack
from dvid_es.logs import FileLog, FilePacks, Stored, verify_log
from dvid_es.logs import frames as frames_module
from tests.contracts.log_contract import entry, stored
from tests.contracts.packs_contract import value
from tests.logs.faults import CrashDisk

BATCHES = (1, 3, 1, 2, 1, 1)
SEGMENT_BYTES = 420


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    monkeypatch.setattr("dvid_es.logs.filelog.ROOM_BYTES", 50)


def write_log(folder: Path, close: bool = True) -> list[int]:
    """Write a log of two segments and return the offsets between its appends."""
    disk = CrashDisk()
    log = FileLog(folder, "s", segment_bytes=SEGMENT_BYTES, disk=disk)
    boundaries = [0]
    for count in BATCHES:
        log.append([entry(log.end + step, 4) for step in range(count)])
        log.sync()
        boundaries.append(log.end)
    log.close() if close else disk.crash()
    assert len(segments(folder)) == 2
    return boundaries


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


EXPECTED = [stored(number, 4) for number in range(sum(BATCHES))]


def open_and_read(folder: Path, log_type=FileLog) -> tuple[list[Stored], bool]:
    """Return the records that a log serves, and whether it reported damage."""
    records: list[Stored] = []
    disk = CrashDisk()
    try:
        log = log_type(folder, disk=disk)
        for record in log.read():
            records.append(record)
    except CorruptLog as error:
        return records, "byte" in str(error) or "newer" in str(error)
    finally:
        disk.crash()
    return records, False


def flip_each_bit(path: Path):
    original = path.read_bytes()
    for place in range(len(original) * 8):
        data = bytearray(original)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        yield place // 8
    path.write_bytes(original)


def missed_flips(folder: Path, path: Path, log_type=FileLog) -> list[int]:
    """Return the bytes of which a flipped bit makes a log serve something else, unreported."""
    missed = []
    last = segments(folder)[-1]
    tail = last.read_bytes()
    for place in flip_each_bit(path):
        records, reported = open_and_read(folder, log_type)
        good = records == EXPECTED[: len(records)]
        if not good or (not reported and len(records) < len(EXPECTED)):
            missed.append(place)
        last.write_bytes(tail)
    return missed


@pytest.mark.parametrize("which", [0, 1])
def test_every_flipped_bit_of_a_closed_log_is_reported_or_harmless(scratch, which):
    write_log(scratch)
    assert missed_flips(scratch, segments(scratch)[which]) == []


def test_a_flipped_bit_of_a_killed_log_costs_no_more_than_the_last_sync(scratch):
    boundaries = write_log(scratch, close=False)
    path = segments(scratch)[-1]
    original = path.read_bytes()
    for _ in flip_each_bit(path):
        records, reported = open_and_read(scratch)
        assert records == EXPECTED[: len(records)]
        assert reported or len(records) in boundaries[-2:]
        path.write_bytes(original)


def test_the_recipe_catches_a_log_that_ignores_checksums(scratch, monkeypatch):
    write_log(scratch)
    honest = frames_module.crc32c_extend

    class Trusting(int):
        """A checksum that equals every other."""

        def __eq__(self, other):
            return True

        def __ne__(self, other):
            return False

        __hash__ = int.__hash__

    monkeypatch.setattr(
        frames_module, "crc32c_extend", lambda crc, data: Trusting(honest(crc, data))
    )
    assert missed_flips(scratch, segments(scratch)[0])


def test_the_recipe_catches_a_log_without_a_chain(scratch, monkeypatch):
    # A record replaced by another valid one of the same place is seen by the chain alone.
    write_log(scratch / "one")
    disk = CrashDisk()
    log = FileLog(scratch / "two", "s", segment_bytes=SEGMENT_BYTES, disk=disk)
    log.append([entry(0, 4)._replace(time_ns=1)])
    log.close()
    one, two = segments(scratch / "one")[0], segments(scratch / "two")[0]
    first = 44 + len(EXPECTED[0].header) + len(EXPECTED[0].facts)
    data = bytearray(one.read_bytes())
    data[128 : 128 + first] = two.read_bytes()[128 : 128 + first]
    one.write_bytes(data)
    records, reported = open_and_read(scratch / "one")
    assert reported
    assert len(records) == 1, "the forged record is valid in itself; its successor is not"


def ends_of_appends(original: bytes, first: int, boundaries: list[int]) -> dict[int, int]:
    """Return where appends end in a segment, and the offset after each of them."""
    ends = {128: first}
    with contextlib.suppress(frames_module.BadFrame):
        for frame in frames_module.walk(
            lambda length, at: original[at : at + length], 128, len(original),
            int.from_bytes(original[124:128], "little"), first,
        ):  # fmt: skip
            if frame.sequence + 1 in boundaries and frame.type == frames_module.RECORD:
                ends[frame.stop] = frame.sequence + 1
    return ends


@pytest.mark.parametrize("close", [True, False])
def test_the_last_segment_cut_at_every_byte_keeps_all_whole_appends(scratch, close):
    boundaries = write_log(scratch, close)
    path = segments(scratch)[-1]
    original = path.read_bytes()
    ends = ends_of_appends(original, int(path.stem), boundaries)
    assert max(ends.values()) == len(EXPECTED)
    for cut in range(len(original) + 1):
        path.write_bytes(original[:cut])
        records, reported = open_and_read(scratch)
        if cut < 128:
            assert reported, "no crash leaves a segment without its header"
            continue
        assert not reported
        assert records == EXPECTED[: max(end for place, end in ends.items() if place <= cut)]
        assert list(verify_log(scratch)) == []


def test_the_last_segment_with_zeros_from_any_byte_on_keeps_all_whole_appends(scratch):
    boundaries = write_log(scratch, close=False)
    path = segments(scratch)[-1]
    original = path.read_bytes()
    ends = ends_of_appends(original, int(path.stem), boundaries)
    assert original.endswith(bytes(50)), "there is room behind the last append"
    for zeroed in range(128, len(original)):
        data = original[:zeroed] + bytes(len(original) - zeroed)
        path.write_bytes(data)
        same = next(
            (place for place, byte in enumerate(original) if byte != data[place]), len(original)
        )
        assert list(verify_log(scratch)) == []
        records, reported = open_and_read(scratch)
        assert not reported
        assert records == EXPECTED[: max(end for place, end in ends.items() if place <= same)]
        path.write_bytes(original)


def test_a_sealed_segment_cut_at_any_byte_is_reported(scratch):
    write_log(scratch)
    path = segments(scratch)[0]
    original = path.read_bytes()
    for cut in range(len(original)):
        path.write_bytes(original[:cut])
        assert open_and_read(scratch) == ([], True)
        assert path.read_bytes() == original[:cut]
        assert [finding.path for finding in verify_log(scratch)] == [str(path)]


def test_a_footer_cut_at_any_byte_by_a_crash_is_written_again(scratch):
    write_log(scratch)
    segments(scratch)[1].unlink()
    path = segments(scratch)[0]
    original = path.read_bytes()
    end = None
    for cut in range(len(original), len(original) - 60, -1):
        path.write_bytes(original[:cut])
        log = FileLog(scratch, segment_bytes=SEGMENT_BYTES)
        end = log.end if end is None else end
        assert log.end == end
        assert log.append([entry(end + step, 4) for step in range(5)]) == end
        assert list(log.read()) == [stored(number, 4) for number in range(end + 5)]
        log.close()
        assert list(verify_log(scratch)) == []
        for other in segments(scratch)[1:]:
            other.unlink()


PACK_VALUES = [value(number, 8 + 5 * number) for number in range(5)]


def write_packs(folder: Path, close: bool = True):
    disk = CrashDisk()
    packs = FilePacks(folder, pack_bytes=190, disk=disk)
    refs = [packs.put(data) for data in PACK_VALUES]
    packs.sync()
    packs.close() if close else disk.crash()
    return refs


def check_packs(folder: Path, refs, packs_type=FilePacks) -> list[str]:
    """Open packs; return what they serve wrongly or cannot store again."""
    disk = CrashDisk()
    try:
        packs = packs_type(folder, pack_bytes=190, disk=disk)
    except CorruptPack:
        return []
    problems = []
    for ref, data in zip(refs, PACK_VALUES, strict=True):
        try:
            if packs.get(ref) != data:
                problems.append(f"served another value at {ref.offset}")
        except CorruptPack as error:
            if str(packs.path(ref.pack)) not in str(error):
                problems.append(f"the error does not name the file: {error}")
    try:
        again = packs.put_many(PACK_VALUES)
        if [packs.get(ref) for ref in again] != PACK_VALUES:
            problems.append("what was put again is not got")
    except CorruptPack as error:
        problems.append(f"a new value refers to a damaged one: {error}")
    disk.crash()
    return problems


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


def restore(folder: Path, files: dict[Path, bytes]) -> None:
    for path in folder.iterdir():
        if path not in files:
            path.unlink()
    for path, data in files.items():
        path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".pack", ".index"])
@pytest.mark.parametrize("close", [True, False])
def test_no_flipped_bit_of_a_pack_or_an_index_is_served(scratch, suffix, close):
    refs = write_packs(scratch, close)
    files = snapshot(scratch)
    for path in sorted(scratch.glob("*" + suffix)):
        for _ in flip_each_bit(path):
            assert check_packs(scratch, refs) == []
            restore(scratch, {key: data for key, data in files.items() if key != path})


@pytest.mark.parametrize("close", [True, False])
def test_packs_cut_at_every_byte_serve_what_is_before_the_cut(scratch, close):
    refs = write_packs(scratch, close)
    files = snapshot(scratch)
    for path in sorted(scratch.glob("*.pack")):
        number = int(path.stem)
        for cut in range(64, len(files[path])):
            restore(scratch, files)
            os.truncate(path, cut)
            assert check_packs(scratch, refs) == []
            packs = FilePacks(scratch, pack_bytes=190)
            for ref, data in zip(refs, PACK_VALUES, strict=True):
                if ref.pack != number or ref.offset + ref.length <= cut:
                    assert packs.get(ref) == data
            packs.close()


def test_the_recipe_catches_packs_that_ignore_checksums(scratch):
    class Trusting(FilePacks):
        def _check(self, ref, data):
            pass

    refs = write_packs(scratch)
    path = min(scratch.glob("*.pack"))
    data = bytearray(path.read_bytes())
    data[refs[0].offset + 3] ^= 16
    path.write_bytes(data)
    assert check_packs(scratch, refs, Trusting)
