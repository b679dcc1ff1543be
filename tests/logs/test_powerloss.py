import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvid_es.errors import CorruptPack, DvidError, WritesHalted
from dvid_es.logs import Entry, FileLog, FilePacks, PackRef, recovery, verify_log
from tests.contracts.packs_contract import value
from tests.logs.faults import RecordingDisk, World

SEGMENT_BYTES, PACK_BYTES = 2500, 6000


class Run:
    """A writer that names values of its packs in the records of its log, and says what is done."""

    def __init__(self, folder: Path, log_type=FileLog, packs_type=FilePacks) -> None:
        self.folder, self.log_type, self.packs_type = folder, log_type, packs_type
        self.log_disk = RecordingDisk()
        self.packs_disk = RecordingDisk(self.log_disk.trace, self.log_disk.inodes)
        self.trace = self.log_disk.trace
        self.boundaries = {0}
        self.open()

    def open(self) -> None:
        self.packs = self.packs_type(
            self.folder / "packs", pack_bytes=PACK_BYTES, disk=self.packs_disk
        )
        self.log = self.log_type(
            self.folder / "log", "stream", segment_bytes=SEGMENT_BYTES, disk=self.log_disk
        )

    def step(self, chance: random.Random, appends: int = 1) -> None:
        """Do what the writer does: values, sync, records, sync, and only then an answer."""
        for _ in range(appends):
            numbers = [chance.randrange(40) for _ in range(chance.randrange(1, 4))]
            refs = self.packs.put_many([value(number, 8 + 40 * number) for number in numbers])
            self.packs.sync()
            self.log.append([name(ref, number) for ref, number in zip(refs, numbers, strict=True)])
            self.boundaries.add(self.log.end)
        self.log.sync()
        self.trace.append(("ack", self.log.end))

    def kill(self) -> None:
        """End the process, not the machine: what is written stays in memory, unsynced."""
        self.log_disk = self.log_disk.after_crash()
        self.packs_disk = self.packs_disk.after_crash()

    def close(self) -> None:
        self.log.close()
        self.packs.close()


def name(ref: PackRef, number: int) -> Entry:
    place = b"%d %d %d %d " % (ref.pack, ref.offset, ref.length, ref.checksum)
    return Entry(1, 1, number, place, ref.digest)


def named(record) -> PackRef:
    return PackRef(*map(int, record.header.split()), record.facts)


def find_losses(
    run: Run, scratch: Path, images: int, seed: int = 1, limit: int | None = None
) -> tuple[int, list[str]]:
    """Return how many images of a loss of power were looked at, and what was wrong with them."""
    chance = random.Random(seed)
    world, acked, looked_at, problems = World(), 0, 0, []
    for op in run.trace:
        if op[0] == "ack":
            acked = op[1]
            continue
        world.apply(op)
        for image in world.images(chance, images):
            looked_at += 1
            folder = scratch / "image"
            shutil.rmtree(folder, ignore_errors=True)
            for path, data in image.items():
                target = folder / path.relative_to(run.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            if problem := look_at(folder, acked, run.boundaries):
                problems.append(problem)
                if limit and len(problems) >= limit:
                    return looked_at, problems
    return looked_at, problems


def look_at(folder: Path, acked: int, boundaries: set[int]) -> str:
    """Start from an image and return what is wrong, or nothing."""
    try:
        packs = FilePacks(folder / "packs", pack_bytes=PACK_BYTES)
        log = FileLog(folder / "log", "stream", segment_bytes=SEGMENT_BYTES)
    except DvidError as error:
        return f"does not open: {error}"
    try:
        records = list(log.read())
        if len(records) < acked:
            return f"{acked} records were acknowledged, {len(records)} are there"
        if len(records) not in boundaries:
            return f"a part of an append is there: {len(records)}"
        for record in records:
            if packs.get(named(record)) != value(record.time_ns, 8 + 40 * record.time_ns):
                return "another value"
        new = packs.put_many([value(number, 8 + 40 * number) for number in (3, 39, 77)])
        if [packs.get(ref) for ref in new] != [value(n, 8 + 40 * n) for n in (3, 39, 77)]:
            return "a new value is not got"
        first = log.append([Entry(1, 1, 1, b"", b"")])
        if first != len(records) or len(list(log.read())) != first + 1:
            return "a new record is not read"
        if findings := list(verify_log(folder / "log")):
            return f"verifying finds: {findings}"
    except CorruptPack as error:
        return f"a record names a value that is not there: {error}"
    except DvidError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        log.close()
        packs.close()
    return ""


def plain(run: Run, chance: random.Random) -> None:
    """Steps, some of several appends under one sync; segments and packs roll over."""
    for number in range(30):
        run.step(chance, 1 + number % 3)
    run.close()


def killed(run: Run, chance: random.Random) -> None:
    """The process dies with unsynced bytes in memory and starts again, before power is lost."""
    for _ in range(4):
        run.step(chance, 2)
        ref = run.packs.put(value(8, 328))
        run.packs.sync()
        run.packs.put_many([value(number, 8 + 40 * number) for number in (5, 6, 7)])
        run.log.append([name(ref, 8)])
        run.boundaries.add(run.log.end)
        run.kill()
        run.open()
        run.step(chance)
        refs = run.packs.put_many([value(number, 8 + 40 * number) for number in (5, 6, 7)])
        run.packs.sync()
        run.log.append([name(ref, number) for ref, number in zip(refs, (5, 6, 7), strict=True)])
        run.boundaries.add(run.log.end)
        run.log.sync()
        run.trace.append(("ack", run.log.end))
    run.close()


def sync_failed(run: Run, chance: random.Random) -> None:
    """A sync fails, the process ends and starts again; the failed bytes are still in memory."""
    for number in range(6):
        run.step(chance, 2)
        numbers = (1, 2, 50 + number)
        refs = run.packs.put_many([value(n, 8 + 40 * n) for n in numbers])
        if number % 2:
            run.packs_disk.fail_next_sync = True
            with pytest.raises(WritesHalted):
                run.packs.sync()
        else:
            run.packs.sync()
            run.log.append([name(ref, n) for ref, n in zip(refs, numbers, strict=True)])
            run.boundaries.add(run.log.end)
            run.log_disk.fail_next_sync = True
            with pytest.raises(WritesHalted):
                run.log.sync()
        run.kill()
        run.open()
        refs = run.packs.put_many([value(n, 8 + 40 * n) for n in numbers])
        run.packs.sync()
        run.log.append([name(ref, n) for ref, n in zip(refs, numbers, strict=True)])
        run.boundaries.add(run.log.end)
        run.log.sync()
        run.trace.append(("ack", run.log.end))
    run.close()


HISTORIES: list[Callable[[Run, random.Random], None]] = [plain, killed, sync_failed]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_no_acknowledged_record_is_lost_with_power(tmp_path, scratch, history):
    run = Run(tmp_path)
    history(run, random.Random(5))
    looked_at, problems = find_losses(run, scratch, images=2)
    assert problems == []
    assert looked_at > 300


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_no_acknowledged_record_is_lost_with_power_in_many_histories(
    tmp_path, scratch, history, seed
):
    run = Run(tmp_path)
    history(run, random.Random(seed))
    assert find_losses(run, scratch, images=12, seed=seed)[1] == []


class NeverSyncingLog(FileLog):
    def _sync(self):
        self._synced = self.end


class NeverSyncingPacks(FilePacks):
    def _sync(self, handles):
        pass


class SealsWithoutSync(FileLog):
    def _seal(self, active):
        synced, self._sync = self._sync, lambda: None
        try:
            super()._seal(active)
        finally:
            self._sync = synced


def losses_of(tmp_path: Path, scratch: Path, history, **types) -> list[str]:
    run = Run(tmp_path, **types)
    history(run, random.Random(5))
    return find_losses(run, scratch, images=4, limit=1)[1]


def test_the_recipe_catches_a_log_that_never_syncs(tmp_path, scratch):
    assert losses_of(tmp_path, scratch, plain, log_type=NeverSyncingLog)


def test_the_recipe_catches_packs_that_never_sync(tmp_path, scratch):
    assert losses_of(tmp_path, scratch, plain, packs_type=NeverSyncingPacks)


def test_the_recipe_catches_a_footer_that_is_not_synced(tmp_path, scratch):
    assert losses_of(tmp_path, scratch, plain, log_type=SealsWithoutSync)


def test_the_recipe_catches_a_name_that_is_not_synced(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(RecordingDisk, "sync_folder", lambda self, folder: None)
    assert losses_of(tmp_path, scratch, plain)


def test_the_recipe_catches_trust_in_bytes_whose_sync_failed(tmp_path, scratch, monkeypatch):
    def settle_without_writing_again(disk, fd, segment, tail):
        quiet = type(
            "Quiet",
            (),
            {
                "pread": disk.pread,
                "truncate": disk.truncate,
                "sync_data": disk.sync_data,
                "pwritev": lambda fd, buffers, offset: sum(map(len, buffers)),
            },
        )
        return recovery.settle_tail(quiet, fd, segment, tail)

    monkeypatch.setattr("dvid_es.logs.filelog.settle_tail", settle_without_writing_again)
    assert losses_of(tmp_path, scratch, sync_failed)


class TrustsInheritedValues(FilePacks):
    def _renew(self, ref, value):
        pass


def test_the_recipe_catches_trust_in_values_whose_sync_failed(tmp_path, scratch):
    assert losses_of(tmp_path, scratch, sync_failed, packs_type=TrustsInheritedValues)
