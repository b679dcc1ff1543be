import threading

import pytest

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs import FileLog
from dvid_es.logs.reader import LogReader
from tests.contracts.log_contract import entry, stored
from tests.logs.faults import FaultyDisk


@pytest.fixture
def log(scratch):
    log = FileLog(scratch / "log", "stream", segment_bytes=600)
    for number in range(40):
        log.append([entry(number)])
    yield log
    log.close()


def test_a_log_in_use_is_read_as_it_was_and_not_changed(scratch, log):
    before = {path: path.read_bytes() for path in (scratch / "log").iterdir()}
    reader = LogReader(scratch / "log")
    log.append([entry(40)])
    assert reader.stream_id == "stream"
    assert reader.end == 40
    assert list(reader.read()) == [stored(number) for number in range(40)]
    assert list(reader.read(7, 23)) == [stored(number) for number in range(7, 23)]
    assert list(reader.read(-5, 99)) == [stored(number) for number in range(40)]
    assert list(reader.read(23, 7)) == []
    assert LogReader(scratch / "log").end == 41
    used = {path: data.rstrip(b"\0") for path, data in before.items()}
    assert all(path.read_bytes().startswith(data) for path, data in used.items())


def test_a_torn_tail_is_neither_read_nor_cut_off(scratch, log):
    log.close()
    path = max((scratch / "log").glob("*.log"))
    with path.open("ab") as file:
        file.write(b"torn")
    assert LogReader(scratch / "log").end == 40
    assert path.read_bytes().endswith(b"torn")


def test_a_folder_without_a_log_is_refused(scratch):
    (scratch / "empty").mkdir()
    for folder in (scratch / "empty", scratch / "none"):
        with pytest.raises(SettingsError, match="holds no log"):
            LogReader(folder)


def test_damage_and_failures_are_named(scratch, log):
    reader = LogReader(scratch / "log")
    for kinds, problem in ((("open",), "cannot be opened"), (("pread",), "cannot be read")):
        reader._disk = FaultyDisk(kinds, 1)
        with pytest.raises(CorruptLog, match=problem):
            list(reader.read())


def test_readers_beside_an_appending_thread_see_whole_prefixes(scratch, log):
    problems = []
    done = threading.Event()

    def read_again_and_again():
        while not done.is_set():
            least = log.end
            records = list(LogReader(scratch / "log").read())
            if records != [stored(number) for number in range(len(records))]:
                problems.append("wrong records")
            if len(records) < least:
                problems.append("records are missing")

    thread = threading.Thread(target=read_again_and_again)
    thread.start()
    try:
        for number in range(40, 400, 3):
            log.append([entry(number + step) for step in range(3)])
            log.sync()
    finally:
        done.set()
        thread.join()
    assert problems == []
