"""Exporting history to Parquet: each event once; a second export costs what has come since.

The log is cut into parts of half a million events. A part that was exported is never read again, unless
the log does not hold its last record any more (it was repaired, or restored from a copy): then what
follows the last part that agrees is exported anew. Small parts are joined from their files.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dvid_es.analytics.columns import EVENTS, LABELS, Columns, batches, joined
from dvid_es.analytics.parts import (
    Manifest,
    Part,
    PartWriter,
    digest_of,
    read_manifest,
    write_manifest,
)
from dvid_es.analytics.states import instances_table, versions_table, write_states
from dvid_es.analytics.touched import Described, Fetch
from dvid_es.errors import SettingsError, StorageFull
from dvid_es.logs.base import Stored
from dvid_es.logs.disk import DISK, NEW_SUFFIX, NO_SPACE, Disk, lock_folder
from dvid_es.projections.catalog import Repo
from dvid_es.projections.txn import ReadTxn

logger = logging.getLogger(__name__)

PART_EVENTS = 1 << 19
JOINED = 8
"""So many small parts are joined to one."""

Progress = Callable[[str, int, int], None]


class Readable(Protocol):
    """As much of a log as an export needs."""

    @property
    def end(self) -> int:
        """The number of records."""

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`, verified."""


class Source(NamedTuple):
    """A repository to export."""

    repo: Repo
    log: Readable
    upto: int
    """Export the events below this one: those that are durable."""

    fetch: Fetch
    begin: Callable[[Repo], AbstractContextManager[ReadTxn]]
    """Opens the state at `upto`."""


class Wanted(NamedTuple):
    """A table of the present state that is exported on request."""

    table: str
    instance: str
    version: int
    """Ordinal."""


def export(
    source: Source,
    folder: Path,
    described: Described,
    *,
    wanted: Sequence[Wanted] = (),
    part_events: int = PART_EVENTS,
    progress: Progress = lambda *_: None,
    disk: Disk = DISK,
) -> Manifest:
    """Bring the export of a repository up to date.

    Args:
        source: the repository.
        folder: of this repository's export; made if need be.
        described: what the datatypes declare.
        wanted: tables of the present state.
        part_events: largest part.
        progress: hears of the root UUID, the events done, and all of them.
        disk: the operating system.

    Raises:
        CorruptLog: the log cannot be read.
        CorruptStore: the manifest cannot be read.
        SettingsError: another export is writing this folder.
        StorageFull: no space; what was exported before is as it was.
    """
    disk.make_folder(folder)
    try:
        lock = lock_folder(disk, folder)
    except SettingsError:
        raise SettingsError(f"another export is writing {folder}: wait for it") from None
    collecting = gc.isenabled()
    gc.disable()  # millions of small tuples, none of them in a cycle: looking for one costs a third
    try:
        work = _Export(source, folder, described, part_events, progress, disk)
        work.tidy()
        work.settle()
        work.add_events()
        work.join_small()
        return work.finish(wanted)
    except OSError as problem:
        if problem.errno in NO_SPACE:
            raise StorageFull(f"no space for the export in {folder}: {problem}") from problem
        raise
    finally:
        if collecting:
            gc.enable()
        disk.close(lock)


class _Export:
    """One run."""

    def __init__(
        self,
        source: Source,
        folder: Path,
        described: Described,
        part_events: int,
        progress: Progress,
        disk: Disk,
    ) -> None:
        self.source = source
        self.folder = folder
        self.described = described
        self.part_events = part_events
        self.progress = progress
        self.disk = disk
        self.writer = PartWriter(disk, folder)
        self.manifest = read_manifest(folder, source.repo.root)

    def publish(self, **changes: object) -> None:
        """Replace the manifest; files that it names no more are retired."""
        before = self.manifest.listed()
        after = msgspec.structs.replace(self.manifest, **changes)
        gone = tuple(sorted({*after.retired, *before} - after.listed()))
        self.manifest = msgspec.structs.replace(after, retired=gone)
        write_manifest(self.disk, self.folder, self.manifest)

    def tidy(self) -> None:
        """Remove what a crash left, and what was retired by the export before."""
        listed = self.manifest.listed()
        for path in [*self.folder.glob("*/*/*.parquet*"), *self.folder.glob("*/*.parquet*")]:
            if str(path.relative_to(self.folder)) not in listed:
                self.disk.unlink(path)
        for path in self.folder.glob("*" + NEW_SUFFIX):
            self.disk.unlink(path)
        if self.manifest.retired:
            self.publish(retired=())

    def settle(self) -> None:
        """Forget parts that the log does not agree with."""
        parts = list(self.manifest.parts)
        while parts and not self._agrees(parts[-1]):
            parts.pop()
        if len(parts) < len(self.manifest.parts):
            logger.warning(
                "the log of %s is not the one that was exported: going on from event %d",
                self.source.repo.root, parts[-1].stop if parts else 0,
            )  # fmt: skip
            self.publish(parts=tuple(parts))

    def _agrees(self, part: Part) -> bool:
        return agrees(part, self.source.log, self.source.upto)

    def add_events(self) -> None:
        """Export what is not exported yet; parts are written while the next one is decoded."""
        start, upto = self.manifest.upto, self.source.upto
        first, root = start, self.source.repo.root
        with ThreadPoolExecutor(1, thread_name_prefix="parquet") as pool:
            writing: Future[Part] | None = None
            try:
                while start < upto:
                    stop = min(upto, start + self.part_events)
                    columns, digest = self._decode(start, stop, first)
                    if writing is not None:
                        self.publish(parts=(*self.manifest.parts, writing.result()))
                    writing = pool.submit(self.writer.part, columns, start, stop, digest)
                    del columns
                    start = stop
                if writing is not None:
                    self.publish(parts=(*self.manifest.parts, writing.result()))
            except BaseException:
                if writing is not None:
                    writing.cancel()
                raise
        self.progress(root, upto - first, upto - first)

    def _decode(self, start: int, stop: int, first: int) -> tuple[Columns, str]:
        """Return the events `start` ... `stop` as columns, and the digest of the last."""
        found = []
        done = start - first
        records = self.source.log.read(start, stop)
        for columns in batches(records, self.described.events, self.source.fetch):
            found.append(columns)
            done += columns.events.num_rows
            self.progress(self.source.repo.root, done, self.source.upto - first)
        (last,) = self.source.log.read(stop - 1, stop)
        return joined(found), digest_of(last)

    def join_small(self) -> None:
        """Join parts of many exports, so that queries need not open a file for each."""
        while (some := due(self.manifest.parts, self.part_events)) > 1:
            kept, small = self.manifest.parts[:-some], self.manifest.parts[-some:]
            columns = read_parts(self.folder, small)
            part = self.writer.part(columns, small[0].start, small[-1].stop, small[-1].digest)
            self.publish(parts=(*kept, part))

    def finish(self, wanted: Sequence[Wanted]) -> Manifest:
        """Write versions, instances and what else is wanted."""
        repo, upto = self.source.repo, self.source.upto
        versions, instances = f"versions/{upto:012d}.parquet", f"instances/{upto:012d}.parquet"
        self.writer.table(versions_table(repo), versions)
        self.writer.table(instances_table(repo), instances)
        states = {(s.table, s.instance, s.version): s for s in self.manifest.states}
        if wanted:
            with self.source.begin(repo) as txn:
                for state in write_states(self.writer, txn, self.described, wanted, upto - 1):
                    states[(state.table, state.instance, state.version)] = state
        self.publish(versions=versions, instances=instances, states=tuple(states.values()))
        return self.manifest


def agrees(part: Part, log: Readable, end: int) -> bool:
    """Say whether a log holds the last record of a part."""
    if end < part.stop:
        return False
    (last,) = log.read(part.stop - 1, part.stop)
    return digest_of(last) == part.digest


def due(parts: Sequence[Part], part_events: int) -> int:
    """Return how many of the last parts should become one: about as many events in each."""
    if not parts:
        return 0
    level = max(parts[-1].count, 1).bit_length() // 3
    count = total = 0
    for part in reversed(parts):
        if part.count.bit_length() // 3 > level or total + part.count > part_events:
            break
        count += 1
        total += part.count
    return count if count >= JOINED else 0


def read_parts(folder: Path, parts: Sequence[Part]) -> Columns:
    """Return what the files of parts hold."""

    def read(names: Iterable[str], schema: pa.Schema) -> pa.Table:
        tables = [pq.ParquetFile(folder / name).read().cast(schema) for name in names]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    return Columns(
        read([name for part in parts for name in part.events], EVENTS),
        read([name for part in parts for name in part.labels], LABELS),
    )
