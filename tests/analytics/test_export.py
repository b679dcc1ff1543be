from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dvid_es.analytics.columns import batches, joined
from dvid_es.analytics.export import export
from dvid_es.analytics.parts import (
    MANIFEST,
    ROW_GROUP,
    Manifest,
    read_manifest,
    sorted_labels,
)
from dvid_es.bootstrap import described
from dvid_es.errors import CorruptStore, SettingsError, StorageFull
from dvid_es.logs.base import Stored
from dvid_es.logs.disk import DISK, Disk, lock_folder
from dvid_es.logs.memory import MemoryLog
from tests.analytics.conftest import History, merged, random_history
from tests.analytics.synthetic import ROOT, synthetic_repo


def exported(folder: Path, manifest: Manifest, table: str) -> list[dict[str, Any]]:
    names = [name for part in manifest.parts for name in getattr(part, table)]
    return [row for name in names for row in pq.ParquetFile(folder / name).read().to_pylist()]


def expected(history: History, table: str) -> list[dict[str, Any]]:
    found = joined(list(batches(history.log.read(), described().events, bytes)))
    rows: list[dict[str, Any]] = getattr(found, table).to_pylist()
    return rows


def check(history: History, manifest: Manifest) -> None:
    """The files that the manifest lists hold exactly the events of the log."""
    folder = history.folder / "exports" / ROOT
    assert manifest.upto == history.log.end
    assert [part.start for part in manifest.parts][1:] == [
        part.stop for part in manifest.parts[:-1]
    ]
    assert exported(folder, manifest, "events") == expected(history, "events")

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["seq"], row["label"], row["role"]

    assert sorted(exported(folder, manifest, "labels"), key=key) == sorted(
        expected(history, "labels"), key=key
    )


class Watched:
    """A log that remembers what was read of it."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.read_records: list[int] = []

    @property
    def end(self) -> int:
        return self._log.end

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        for stored in self._log.read(start, stop):
            self.read_records.append(stored.offset)
            yield stored


def test_files_hold_exactly_the_events_of_the_log(history: History) -> None:
    random_history(history, 500)
    manifest = history.export(part_events=128)
    assert len(manifest.parts) == 4
    check(history, manifest)
    assert read_manifest(history.folder / "exports" / ROOT, ROOT) == manifest


def test_a_second_export_reads_only_what_has_come_since(history: History) -> None:
    random_history(history, 300)
    history.export()
    history.add(merged(1, 2), merged(1, 3))
    watched = Watched(history.log)
    source = history.source._replace(log=watched)
    manifest = export(source, history.folder / "exports" / ROOT, described())
    # The last record of a part is looked at: to see that the log is still the same, and to remember it.
    assert watched.read_records == [299, 300, 301, 301]
    check(history, manifest)
    assert [part.count for part in manifest.parts] == [300, 2]


def test_an_export_without_news_reads_one_record_and_keeps_all_files(history: History) -> None:
    random_history(history, 50)
    before = history.export()
    watched = Watched(history.log)
    after = export(
        history.source._replace(log=watched), history.folder / "exports" / ROOT, described()
    )
    assert watched.read_records == [49]
    assert after.parts == before.parts
    check(history, after)


def test_parts_of_many_small_exports_are_joined(history: History) -> None:
    for _ in range(40):
        random_history(history, 3)
        manifest = history.export()
        check(history, manifest)
        assert len(manifest.parts) < 16
    assert len(manifest.parts) < 12


def test_parts_of_full_size_are_never_joined(history: History) -> None:
    for _ in range(12):
        random_history(history, 16)
        manifest = history.export(part_events=16)
    assert [part.count for part in manifest.parts] == [16] * 12
    check(history, manifest)


def test_replaced_files_stay_until_the_next_export_for_whoever_reads_them(
    history: History,
) -> None:
    folder = history.folder / "exports" / ROOT
    before = manifest = history.export()
    while not any(name.startswith("events/") for name in manifest.retired):
        before = manifest
        random_history(history, 3)
        manifest = history.export()
    assert set(manifest.retired) >= {name for part in before.parts for name in part.events}
    assert all((folder / name).exists() for name in before.listed())
    later = history.export()
    assert not any((folder / name).exists() for name in manifest.retired)
    check(history, later)


def test_files_lie_in_partitions_of_years_and_are_sorted(history: History) -> None:
    random_history(history, 400)
    history.add(*[merged(3, 4)] * 5, day=900)
    manifest = history.export()
    (part,) = manifest.parts
    assert [Path(name).parts[:2] for name in part.events] == [
        ("events", "year=2023"), ("events", "year=2024"), ("events", "year=2026"),
    ]  # fmt: skip
    check(history, manifest)
    folder = history.folder / "exports" / ROOT
    for name in part.labels:
        file = pq.ParquetFile(folder / name)
        rows = file.read(["instance", "label", "seq"]).to_pylist()
        assert rows == sorted(rows, key=lambda row: tuple(row.values()))
        group = file.metadata.row_group(0)
        assert group.num_rows <= ROW_GROUP
        assert group.column(0).compression == "ZSTD"
        assert [column.column_index for column in group.sorting_columns] == [5, 0, 3]
        assert group.column(0).statistics.min == rows[0]["label"]


def test_times_that_go_back_are_exported_all_the_same(history: History) -> None:
    history.add(merged(1, 2), day=500)
    history.add(merged(1, 3), day=1)
    history.add(merged(1, 4), day=900)
    check_parts = history.export()
    rows = exported(history.folder / "exports" / ROOT, check_parts, "events")
    assert sorted(row["seq"] for row in rows) == [0, 1, 2]
    assert history.ask("SELECT seq FROM events ORDER BY seq") == [(0,), (1,), (2,)]


def test_labels_of_several_instances_are_sorted_by_instance_first(history: History) -> None:
    random_history(history, 30)
    table = joined(list(batches(history.log.read(), described().events, bytes))).labels
    instances = [2 if seq % 2 else 1 for seq in table["seq"].to_pylist()]
    mixed = table.set_column(5, "instance", [instances]).cast(table.schema)
    rows = sorted_labels(mixed).select(["instance", "label", "seq"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: tuple(row.values()))


def test_what_the_log_does_not_hold_any_more_is_exported_anew(history: History) -> None:
    random_history(history, 40)
    history.export(part_events=10)
    kept = list(history.log.read(0, 25))
    history.log = MemoryLog(ROOT)
    history.log.append([stored[1:] for stored in kept])  # type: ignore[misc]
    random_history(history, 20, seed=9)
    watched = Watched(history.log)
    manifest = export(
        history.source._replace(log=watched), history.folder / "exports" / ROOT, described(),
        part_events=10,
    )  # fmt: skip
    # Of four parts the last two hold events that are no more; the first two stay.
    assert watched.read_records == [
        39, 29, 19, *range(20, 30), 29, *range(30, 40), 39, *range(40, 45), 44,
    ]  # fmt: skip
    check(history, manifest)


def test_a_log_that_became_shorter_takes_back_the_export(history: History) -> None:
    random_history(history, 40)
    history.export(part_events=10)
    kept = list(history.log.read(0, 20))
    history.log = MemoryLog(ROOT)
    history.log.append([stored[1:] for stored in kept])  # type: ignore[misc]
    check(history, history.export(part_events=10))


def test_what_a_crash_left_is_removed(history: History) -> None:
    random_history(history, 20)
    manifest = history.export()
    folder = history.folder / "exports" / ROOT
    stray = folder / "events" / "year=2023" / "000000000020-000000000030.parquet"
    unfinished = folder / "labels" / "year=2023" / "x.parquet.new"
    stray.write_bytes(b"half")
    unfinished.write_bytes(b"half")
    (folder / (MANIFEST + ".new")).write_bytes(b"half")
    history.export()
    assert not stray.exists()
    assert not unfinished.exists()
    assert not (folder / (MANIFEST + ".new")).exists()
    check(history, manifest)


def test_two_exports_do_not_write_one_folder(history: History) -> None:
    random_history(history, 5)
    history.export()
    folder = history.folder / "exports" / ROOT
    lock = lock_folder(DISK, folder)
    try:
        with pytest.raises(SettingsError, match="another export"):
            history.export()
    finally:
        os.close(lock)


def test_a_manifest_that_cannot_be_read_says_what_to_do(history: History) -> None:
    random_history(history, 5)
    history.export()
    (history.folder / "exports" / ROOT / MANIFEST).write_text("{")
    with pytest.raises(CorruptStore, match="export again"):
        history.export()


class FullDisk(Disk):
    """Has no space from the n-th file on."""

    def __init__(self, files: int) -> None:
        self.files = files

    def sync_data(self, fd: int) -> None:
        self.files -= 1
        if self.files < 0:
            raise OSError(errno.ENOSPC, "no space")
        super().sync_data(fd)


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_full_disk_leaves_the_export_as_it_was(history: History, files: int) -> None:
    random_history(history, 30)
    before = history.export()
    history.add(merged(1, 2), day=400)
    with pytest.raises(StorageFull):
        history.export(disk=FullDisk(files))
    folder = history.folder / "exports" / ROOT
    now = read_manifest(folder, ROOT)
    assert now.parts[:1] == before.parts
    assert all((folder / name).exists() for name in now.listed())
    check(history, history.export())


class Recorded(Disk):
    """Notes which names became durable, and which had when the manifest was replaced."""

    def __init__(self) -> None:
        self.synced: set[str] = set()
        self.fds: dict[int, Path] = {}
        self.named: dict[Path, set[str]] = {}
        self.durable: set[str] = set()
        self.at_manifest: list[set[str]] = []

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        self.fds[fd] = path
        return fd

    def sync_data(self, fd: int) -> None:
        super().sync_data(fd)
        self.synced.add(str(self.fds[fd]))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        if new.name == MANIFEST:
            self.at_manifest.append(set(self.durable))
        if str(old) in self.synced:
            self.named.setdefault(new.parent, set()).add(str(new))

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.durable |= self.named.pop(folder, set())


def unsafe_manifests(history: History, disk: Recorded) -> list[str]:
    """Return files that some manifest has named before they were durable."""
    manifest = history.export(part_events=50, disk=disk)
    folder = history.folder / "exports" / ROOT
    listed = {str(folder / name) for name in manifest.listed()}
    return sorted(listed - disk.at_manifest[-1])


def test_a_manifest_names_only_files_that_are_durable(history: History) -> None:
    random_history(history, 200)
    assert unsafe_manifests(history, Recorded()) == []


def test_a_file_that_is_not_synced_is_noticed(history: History) -> None:
    class Forgetful(Recorded):
        def sync_data(self, fd: int) -> None:
            if "labels" not in str(self.fds[fd]):
                super().sync_data(fd)

    random_history(history, 200)
    found = unsafe_manifests(history, Forgetful())
    assert found
    assert all("/labels/" in name for name in found)


def test_the_versions_and_instances_are_written_each_time(history: History) -> None:
    random_history(history, 5)
    manifest = history.export()
    folder = history.folder / "exports" / ROOT
    versions = pq.ParquetFile(folder / manifest.versions).read().to_pylist()
    graph = synthetic_repo().graph
    assert [row["uuid"] for row in versions] == [v.uuid for v in graph.by_id.values()]
    assert versions[2]["parents"] == [2]
    assert versions[2]["locked"]
    (instance,) = pq.ParquetFile(folder / manifest.instances).read().to_pylist()
    assert (instance["name"], instance["type"]) == ("segmentation", "labelmap")
