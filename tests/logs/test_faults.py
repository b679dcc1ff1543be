"""The n-th call to the operating system fails, for every n; and a disk is full, and is not again."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvid_es.errors import CorruptPack, Damage, SettingsError, StorageFull, WritesHalted
from dvid_es.logs import FileLog, FilePacks, PackReader, verify_log
from dvid_es.logs.packcheck import verify_pack
from tests.contracts.log_contract import entry, stored
from tests.contracts.packs_contract import value
from tests.logs.faults import FaultyDisk

WRITES = ("open", "pwritev", "truncate", "sync_data", "sync_folder", "rename", "unlink")
FAILURES = [
    pytest.param(WRITES, errno.EIO, False, id="EIO"),
    pytest.param(WRITES, errno.ENOSPC, False, id="ENOSPC"),
    pytest.param(("pwritev",), errno.ENOSPC, True, id="short-ENOSPC"),
    pytest.param(("pwritev",), errno.EIO, True, id="short-EIO"),
    pytest.param(("pwritev", "truncate"), errno.EDQUOT, True, id="short-EDQUOT"),
    pytest.param(("pread",), errno.EIO, False, id="read-EIO"),
]


class LogUser:
    """Appends to a log as a writer would, through a disk that fails."""

    def __init__(self, folder: Path, disk: FaultyDisk, log_type=FileLog) -> None:
        self.folder, self.disk, self.log_type = folder, disk, log_type
        self.acked = 0
        self.halted = False
        self.problems: list[str] = []

    def run(self, rounds: int = 14) -> None:
        try:
            log = self.log_type(self.folder, "stream", segment_bytes=600, disk=self.disk)
        except (StorageFull, WritesHalted, Damage):
            return
        self.acked = log.end
        for number in range(rounds):
            self._append(log, 1 + number % 3)
            if self.halted:
                break
        try:
            log.close()
        except WritesHalted:
            self.halted = True
        if not self.disk.dead and self.disk.paths:
            self.problems.append(f"files stay open: {self.disk.paths}")

    def _append(self, log: FileLog, count: int) -> None:
        end = log.end
        batch = [entry(end + step) for step in range(count)]
        for _ in range(2):
            try:
                if log.append(batch) != end:
                    self.problems.append("a wrong offset")
                log.sync()
            except StorageFull:
                if log.end != end:
                    self.problems.append("a refused append moved the end")
                self._read(log, end)
                continue
            except WritesHalted:
                self.halted = True
                self._read(log, log.end)
                for write in (lambda: log.append([entry(0)]), log.sync):
                    with pytest.raises(WritesHalted):
                        write()
            else:
                self.acked = log.end
                self._read(log, log.end)
            return

    def _read(self, log: FileLog, end: int) -> None:
        try:
            if list(log.read()) != [stored(number) for number in range(end)]:
                self.problems.append("reading gives something else")
        except Damage:
            if "pread" not in self.disk.kinds and "open" not in self.disk.kinds:
                raise

    def check(self) -> list[str]:
        """Start again on a good disk and return what is wrong."""
        self.disk.crash()
        log = FileLog(self.folder, "stream", segment_bytes=600)
        if log.end < self.acked:
            self.problems.append(f"{self.acked} were acknowledged, {log.end} are there")
        if list(log.read()) != [stored(number) for number in range(log.end)]:
            self.problems.append("records are wrong after the next start")
        log.append([entry(log.end)])
        log.close()
        log = FileLog(self.folder)
        if list(log.read()) != [stored(number) for number in range(log.end)]:
            self.problems.append("records are wrong after another start")
        log.close()
        self.problems += map(str, verify_log(self.folder))
        return self.problems


def fail_each(folder: Path, user_type, kinds, error, short, lasting=False, **types) -> list[str]:
    """Run a user with each call failing once; return what went wrong."""
    problems: list[str] = []
    for nth in range(1, 10_000):
        disk = FaultyDisk(kinds, nth, error, short, lasting)
        user = user_type(folder / str(nth), disk, **types)
        user.run()
        problems += [f"call {nth}: {problem}" for problem in user.check()]
        if not disk.failed:
            assert nth > 10
            return problems
    raise AssertionError("the calls do not end")


@pytest.mark.parametrize(("kinds", "error", "short"), FAILURES)
def test_a_log_survives_the_failure_of_each_call(scratch, kinds, error, short):
    assert fail_each(scratch, LogUser, kinds, error, short) == []


@pytest.mark.parametrize("short", [False, True])
def test_a_log_on_a_disk_that_stays_full_from_some_call_on_loses_nothing(scratch, short):
    kinds = ("pwritev",)
    assert fail_each(scratch, LogUser, kinds, errno.ENOSPC, short, lasting=True) == []


class KeepsHalfAWrite(FileLog):
    def _undo(self, active, error):
        active.size = os.fstat(self._fd).st_size
        return StorageFull("no space")


def test_the_recipe_catches_an_append_that_is_not_undone(scratch):
    with pytest.raises((AssertionError, Damage)):
        assert not fail_each(
            scratch, LogUser, ("pwritev",), errno.ENOSPC, True, log_type=KeepsHalfAWrite
        )


class RetriesSync(FileLog):
    def _sync(self):
        for _ in range(2):
            try:
                super()._sync()
            except WritesHalted:
                self._halted = ""
            else:
                return


def test_the_recipe_catches_a_sync_that_is_tried_again(scratch):
    disk = FaultyDisk(("sync_data",), 3)
    log = RetriesSync(scratch / "log", "stream", disk=disk)
    log.append([entry(0)])
    log.sync()
    log.append([entry(1)])
    log.sync()
    assert disk.failed == 1
    assert log._halted == "", "this log went on after a failed sync"
    log.close()
    disk = FaultyDisk(("sync_data",), 3)
    log = FileLog(scratch / "good", "stream", disk=disk)
    log.append([entry(0)])
    log.sync()
    log.append([entry(1)])
    with pytest.raises(WritesHalted, match="never tried again"):
        log.sync()
    calls = disk.calls
    with pytest.raises(WritesHalted):
        log.sync()
    assert disk.calls == calls
    log.close()


class PacksUser:
    """Puts values as a writer would, through a disk that fails."""

    def __init__(self, folder: Path, disk: FaultyDisk, packs_type=FilePacks) -> None:
        self.folder, self.disk, self.packs_type = folder, disk, packs_type
        self.acked: list[tuple] = []
        self.problems: list[str] = []

    def run(self) -> None:
        try:
            packs = self.packs_type(self.folder, pack_bytes=900, disk=self.disk)
        except (StorageFull, WritesHalted, Damage):
            return
        try:
            for number in range(12):
                self._put(packs, number)
        except WritesHalted:
            with pytest.raises(WritesHalted):
                packs.put(b"after")
            with pytest.raises(WritesHalted):
                packs.sync()
        with contextlib.suppress(WritesHalted):
            packs.close()

    def _put(self, packs: FilePacks, number: int) -> None:
        values = [value(number), value(number + 1), value(number // 2)]
        for _ in range(2):
            try:
                refs = packs.put_many(values)
                packs.sync()
            except StorageFull:
                continue
            self.acked += zip(refs, values, strict=True)
            try:
                if packs.get_many(refs) != values:
                    self.problems.append("another value is got")
            except CorruptPack:
                if "pread" not in self.disk.kinds and "open" not in self.disk.kinds:
                    raise
            return

    def check(self) -> list[str]:
        self.disk.crash()
        packs = FilePacks(self.folder, pack_bytes=900)
        for ref, data in self.acked:
            if packs.get(ref) != data:
                self.problems.append("a value is another one after the next start")
        again = [value(number) for number in range(13)]
        if packs.get_many(packs.put_many(again)) != again:
            self.problems.append("what is put again is not got")
        packs.close()
        return self.problems


@pytest.mark.parametrize(("kinds", "error", "short"), FAILURES)
def test_packs_survive_the_failure_of_each_call(scratch, kinds, error, short):
    assert fail_each(scratch, PacksUser, kinds, error, short) == []


@pytest.mark.parametrize("short", [False, True])
def test_packs_on_a_disk_that_stays_full_from_some_call_on_lose_nothing(scratch, short):
    kinds = ("pwritev",)
    assert fail_each(scratch, PacksUser, kinds, errno.ENOSPC, short, lasting=True) == []


def test_a_full_disk_refuses_appends_serves_reads_and_needs_no_restart(scratch):
    disk = FaultyDisk()
    log = FileLog(scratch / "log", "stream", segment_bytes=600, disk=disk)
    packs = FilePacks(scratch / "packs", pack_bytes=900, disk=disk)
    for number in range(30):
        ref = packs.put(value(number))
        packs.sync()
        log.append([entry(number)])
        log.sync()
        disk.kinds, disk.nth, disk.error = frozenset({"pwritev"}), 1, errno.ENOSPC
        disk.calls, disk.short, disk.lasting = 0, True, True
        for _ in range(3):
            with pytest.raises(StorageFull, match="no space"):
                log.append([entry(number + 1), entry(number + 2)])
            with pytest.raises(StorageFull, match="no space"):
                packs.put_many([value(number + 1), value(number + 2)])
        assert packs.put(value(number)) == ref, "what is there needs no space"
        assert list(log.read()) == [stored(old) for old in range(number + 1)]
        assert packs.get(ref) == value(number)
        disk.mend()
    log.close()
    packs.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from dvid_es.errors import StorageFull
from dvid_es.logs import FileLog, FilePacks, PackReader
from dvid_es.logs.packcheck import verify_pack
from tests.contracts.log_contract import entry, stored

folder = Path(sys.argv[1])
log, packs = FileLog(folder / "log", "stream"), FilePacks(folder / "packs")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (10_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        while True:
            log.append([entry(log.end + step) for step in range(3)])
            log.sync()
    except StorageFull:
        pass
    try:
        number = 0
        while True:
            ref = packs.put(b"%d" % limit * 50 + b"%d" % number)
            number += 1
    except StorageFull:
        pass
    assert packs.get(ref).endswith(b"%d" % (number - 1))
    assert list(log.read()) == [stored(number) for number in range(log.end)]
    assert all(path.stat().st_size <= limit for path in folder.rglob("*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append([entry(log.end)])
    packs.put(b"again" * 10_000)
log.sync(), packs.sync(), log.close(), packs.close()
log = FileLog(folder / "log")
assert list(log.read()) == [stored(number) for number in range(log.end)]
print(log.end)
"""


def test_a_limit_of_the_operating_system_on_file_sizes_is_a_full_disk(scratch):
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, scratch], capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert int(ran.stdout) > 100


def test_a_lock_that_cannot_be_opened_says_why(scratch):
    with pytest.raises(WritesHalted, match=r"cannot be opened: .*injected"):
        FileLog(scratch / "log", "stream", disk=FaultyDisk(("open",), 1))
    with pytest.raises(WritesHalted, match=r"cannot be opened: .*injected"):
        FilePacks(scratch / "packs", disk=FaultyDisk(("open",), 1))
    with pytest.raises(SettingsError):
        FileLog(scratch / "log")


START_FAILURES = [
    pytest.param(kinds, error, id=f"{kinds[0]}-{errno.errorcode[error]}")
    for kinds in (("open",), ("pread",), ("pwritev", "truncate"), ("sync_data", "sync_folder"))
    for error in (errno.EIO, errno.ENOSPC)
]


@pytest.mark.parametrize(("kinds", "error"), START_FAILURES)
def test_a_start_that_fails_anywhere_changes_nothing_and_leaves_no_file_open(scratch, kinds, error):
    log = FileLog(scratch / "log", "stream", segment_bytes=600)
    packs = FilePacks(scratch / "packs", pack_bytes=900)
    refs = packs.put_many([value(number) for number in range(30)])
    for number in range(20):
        log.append([entry(number)])
    log.close()
    packs.close()
    with max((scratch / "log").glob("*.log")).open("ab") as file:
        file.write(b"torn")
    min((scratch / "packs").glob("*.index")).unlink()
    for opener in (
        lambda disk: FileLog(scratch / "log", disk=disk),
        lambda disk: FilePacks(scratch / "packs", disk=disk),
    ):
        for nth in range(1, 1000):
            disk = FaultyDisk(kinds, nth, error)
            try:
                opener(disk).close()
            except (StorageFull, WritesHalted, Damage):
                assert disk.failed
            assert disk.paths == {}
            if not disk.failed:
                break
        assert nth > 1
    log, packs = FileLog(scratch / "log"), FilePacks(scratch / "packs")
    assert list(log.read()) == [stored(number) for number in range(20)]
    assert packs.get_many(refs) == [value(number) for number in range(30)]
    log.close()
    packs.close()


@pytest.mark.parametrize(
    ("error", "kind"), [(errno.EIO, WritesHalted), (errno.EDQUOT, StorageFull)]
)
def test_a_value_of_a_killed_process_that_cannot_be_written_again_is_not_named(
    scratch, error, kind
):
    disk = FaultyDisk()
    packs = FilePacks(scratch, disk=disk)
    ref = packs.put(value(1))
    disk.crash()
    disk = FaultyDisk(("pwritev",), 1, error)
    packs = FilePacks(scratch, disk=disk)
    with pytest.raises(kind, match="again"):
        packs.put(value(1))
    assert packs.get(ref) == value(1)
    if kind is StorageFull:
        assert packs.put(value(1)) == ref
    packs.close()


def test_a_cut_that_fails_after_a_failed_write_halts(scratch):
    kinds = ("pwritev", "truncate")
    for opener, write in (
        (lambda disk: FileLog(scratch / "log", "s", disk=disk), lambda log: log.append([entry(0)])),
        (lambda disk: FilePacks(scratch / "packs", disk=disk), lambda packs: packs.put(value(1))),
    ):
        disk = FaultyDisk((), 1, errno.ENOSPC, lasting=True)
        opened = opener(disk)
        disk.kinds = frozenset(kinds)
        with pytest.raises(WritesHalted, match="could not be undone"):
            write(opened)
        disk.mend()
        with pytest.raises(WritesHalted):
            write(opened)
        opened.close()


def test_verify_says_what_it_cannot_read(scratch):
    packs = FilePacks(scratch)
    packs.put(value(1))
    packs.close()
    for kinds, problem in ((("open",), "cannot be opened"), (("pread",), "cannot be read")):
        findings = list(verify_pack(FaultyDisk(kinds, 1), scratch / "00000001.pack", 1))
        assert [problem in finding.problem for finding in findings] == [True]


def test_a_value_that_cannot_be_mapped_says_why(scratch):
    class UnsizedDisk(FaultyDisk):
        def size(self, fd):
            raise OSError(errno.EIO, "no size")

    packs = FilePacks(scratch)
    ref = packs.put(value(1))
    packs.close()
    with pytest.raises(CorruptPack, match=r"cannot be mapped: .*no size"):
        PackReader(scratch, UnsizedDisk()).view(ref)


def test_an_index_that_cannot_be_read_costs_a_copy_and_no_more(scratch, caplog):
    packs = FilePacks(scratch, pack_bytes=900)
    refs = packs.put_many([value(number) for number in range(6)])
    packs.put_many([value(number) for number in range(6, 12)])
    index = packs._indexes[0]
    index._disk = FaultyDisk(("pread",), 1, lasting=True)
    again = packs.put(value(1))
    assert again != refs[1]
    assert packs.get(again) == value(1)
    assert "cannot be read" in caplog.text
    assert index.load() is None
    packs.close()
