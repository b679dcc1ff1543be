import threading
from pathlib import Path

import pytest

from dvid_es.errors import InvalidRequest, WritesHalted
from dvid_es.logs import Entry, Log, Stored
from dvid_es.logs.base import MAX_FACTS_BYTES, MAX_HEADER_BYTES


def entry(number: int, size: int = 20) -> Entry:
    """Return an entry whose every field follows from `number`."""
    facts = (b"%d." % number) * (size // 4)
    return Entry(number % 65536, number % 7, number * 1_000 - 500, b"header %d" % number, facts)


def stored(number: int, size: int = 20) -> Stored:
    """Return what `entry(number)` must become at the offset `number`."""
    return Stored(number, *entry(number, size))


class HugeBytes(bytes):
    """Bytes that claim a length which would be too much to allocate in a test."""

    claimed = 0

    def __len__(self) -> int:
        return self.claimed


def huge(claimed: int) -> bytes:
    value = HugeBytes(b"x")
    value.claimed = claimed
    return value


class LogContract:
    """What every log must do; a subclass says how to open one."""

    def open_log(self, folder: Path) -> Log:
        raise NotImplementedError

    @pytest.fixture
    def log(self, tmp_path):
        log = self.open_log(tmp_path / "stream")
        yield log
        log.close()

    def test_a_new_log_is_empty_and_knows_its_name(self, log):
        assert log.end == 0
        assert list(log.read()) == []
        assert log.stream_id

    def test_what_is_appended_is_read_in_order_with_dense_offsets(self, log):
        assert log.append([entry(0), entry(1)]) == 0
        assert log.append([entry(2)]) == 2
        log.sync()
        assert log.end == 3
        assert list(log.read()) == [stored(0), stored(1), stored(2)]

    def test_syncing_again_changes_nothing(self, log):
        log.sync()
        log.append([entry(0)])
        log.sync()
        log.sync()
        assert list(log.read()) == [stored(0)]

    def test_empty_headers_and_facts_and_the_limits_of_all_fields_are_kept(self, log):
        edges = [
            Entry(0, 0, -(1 << 63), b"", b""),
            Entry(65535, 65535, (1 << 63) - 1, b"h" * MAX_HEADER_BYTES, b""),
            Entry(1, 1, 0, b"", bytes(range(256)) * 5000),
        ]
        log.append(edges)
        log.sync()
        assert [Entry(*record[1:]) for record in log.read()] == edges

    def test_reading_starts_and_stops_where_asked(self, log):
        log.append([entry(number) for number in range(50)])
        for start in (0, 1, 17, 49, 50, 60):
            for stop in (None, 0, 1, 17, 30, 50, 99):
                last = 50 if stop is None else min(stop, 50)
                expected = [stored(number) for number in range(start, last)]
                assert list(log.read(start, stop)) == expected

    def test_appending_nothing_changes_nothing(self, log):
        log.append([entry(0)])
        assert log.append([]) == 1
        assert log.end == 1

    def test_records_appended_after_the_call_are_not_read(self, log):
        log.append([entry(0)])
        records = log.read()
        log.append([entry(1)])
        assert next(records) == stored(0)
        log.append([entry(2)])
        assert list(records) == []

    @pytest.mark.parametrize(
        "bad",
        [
            Entry(-1, 0, 0, b"", b""),
            Entry(65536, 0, 0, b"", b""),
            Entry(0, -1, 0, b"", b""),
            Entry(0, 65536, 0, b"", b""),
            Entry(0, 0, 1 << 63, b"", b""),
            Entry(0, 0, -(1 << 63) - 1, b"", b""),
            Entry(0, 0, 0, huge(MAX_HEADER_BYTES + 1), b""),
            Entry(0, 0, 0, b"", huge(MAX_FACTS_BYTES + 1)),
        ],
        ids=lambda bad: "-".join(
            str(len(part) if isinstance(part, bytes) else part) for part in bad
        ),
    )
    def test_an_entry_out_of_bounds_is_refused_and_nothing_of_its_append_stays(self, log, bad):
        log.append([entry(0)])
        with pytest.raises(InvalidRequest):
            log.append([entry(1), bad])
        assert log.end == 1
        assert log.append([entry(1)]) == 1
        assert list(log.read()) == [stored(0), stored(1)]

    def test_one_append_of_too_much_is_refused_before_it_is_allocated(self, log):
        with pytest.raises(InvalidRequest):
            log.append([Entry(0, 0, 0, b"", huge(MAX_FACTS_BYTES))] * 17)
        assert log.end == 0

    def test_the_caller_may_reuse_its_buffer(self, log):
        buffer = bytearray(b"before")
        log.append([Entry(1, 1, 1, b"", buffer)])
        buffer[:] = b"after "
        assert next(log.read()).facts == b"before"

    def test_a_closed_log_takes_no_appends_and_closes_again(self, log):
        log.close()
        log.close()
        with pytest.raises(WritesHalted):
            log.append([entry(0)])
        with pytest.raises(WritesHalted):
            log.sync()

    def test_readers_beside_the_appending_thread_see_whole_prefixes(self, log):
        problems = []
        done = threading.Event()

        def read_again_and_again():
            while not done.is_set():
                least = log.end
                records = list(log.read())
                if records != [stored(number) for number in range(len(records))]:
                    problems.append("wrong records")
                if len(records) < least:
                    problems.append("records are missing")

        readers = [threading.Thread(target=read_again_and_again) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for number in range(0, 400, 4):
                log.append([entry(number + step) for step in range(4)])
                if number % 40 == 0:
                    log.sync()
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert problems == []
        assert log.end == 400
