"""Queries over the history of repositories: exported files, the live tail, and states of instances."""

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dvid_es.analytics.pool import Job, Pool
from dvid_es.analytics.touched import Described, Fetch
from dvid_es.analytics.views import FUNCTIONS, Ask
from dvid_es.errors import InvalidRequest, Overloaded
from dvid_es.projections.catalog import Repo
from dvid_es.projections.txn import ReadTxn

if TYPE_CHECKING:
    from dvid_es.analytics.export import Readable
    from dvid_es.analytics.parts import Manifest
    from dvid_es.analytics.tail import Piece, Tail

logger = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What a query may use."""

    seconds: float = 30.0
    memory_bytes: int = 1 << 30
    threads: int = 2
    result_bytes: int = 64 << 20
    at_once: int = 2
    """Queries that run at the same time."""

    tail_events: int = 200_000
    """More events that are not exported yet start an export; twice as many are waited for."""


class Query(NamedTuple):
    """What a client asks."""

    sql: str
    parameters: list[Any] | dict[str, Any] | None = None
    format: str = "json"


class Subject(NamedTuple):
    """The repository that a query is about."""

    root: str
    now: Callable[[], Repo]
    """Returns its documents as of the last commit."""

    log: "Readable"
    fetch: Fetch
    begin: Callable[[Repo], AbstractContextManager[ReadTxn]]
    """Opens a state that shows the events up to the sequence of the documents."""

    resolve: Callable[[Repo, str], int]
    """Returns the ordinal of the version that a text names; raises InvalidRequest."""


class Result(NamedTuple):
    """An answer."""

    body: bytes
    rows: int
    seq: int
    """The last event that it shows."""


class _Known(NamedTuple):
    """A manifest that agrees with the log, and the file that it was read from."""

    stamp: tuple[int, int]
    manifest: "Manifest"


class Analytics:
    """Answers queries; starts nothing before the first one."""

    def __init__(
        self,
        folder: Path,
        described: Described,
        limits: Limits,
        scratch: Path,
        exporter: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """Use the exports below `folder`, one folder for each repository.

        Args:
            folder: of all exports.
            described: what the datatypes declare.
            limits: of queries.
            scratch: folder for files of this process alone; removed at the beginning and the end.
            exporter: returns the command line that exports a repository; None if nobody shall.
        """
        self.folder = folder
        self.limits = limits
        self._described = described
        self._scratch = scratch
        self._exporter = exporter
        self._exports: dict[str, subprocess.Popen[bytes]] = {}
        self._pool = Pool(limits.at_once)
        self._lock = threading.Lock()
        self._tails: dict[str, Tail] = {}
        self._known: dict[str, _Known] = {}
        self._number = 0

    @contextmanager
    def slot(self) -> Iterator[Job]:
        """Be one of the queries that may run.

        Raises:
            Overloaded: as many as may are running.
        """
        with self._pool.slot():
            yield Job()
        if not self._pool.running:
            for tail in list(self._tails.values()):
                tail.tidy()

    def answer(self, query: Query, subject: Subject, job: Job) -> Result:
        """Return the answer to a query; blocks, for a thread of its own.

        Raises:
            InvalidRequest: it is refused, wrong, beyond a limit, or was cancelled.
            Overloaded: what it needs is being exported.
        """
        from dvid_es.analytics.parts import read_manifest

        made: list[Path] = []
        try:
            for last_try in (False, True):
                ask = self._ask(query, subject, made)
                job.check()
                reply, body = self._pool.ask(msgspec.json.encode(ask), job, self.limits.seconds)
                if reply.needs:
                    ask = self._with_states(ask, reply.needs, subject, job, made)
                    reply, body = self._pool.ask(msgspec.json.encode(ask), job, self.limits.seconds)
                if not reply.error:
                    return Result(body, reply.rows, ask.seq)
                listed = read_manifest(self.folder / subject.root, subject.root).listed()
                replaced = not listed.issuperset([*ask.events, *ask.labels, *ask.daily])
                if last_try or not replaced:
                    raise InvalidRequest(reply.error)
            raise AssertionError
        finally:
            for path in made:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all queries and remove what is theirs."""
        self._pool.close()
        for export in self._exports.values():
            export.terminate()
            export.wait()
        if self._tails or self._number:
            shutil.rmtree(self._scratch, ignore_errors=True)

    # -- what a query sees --------------------------------------------------------------------

    def _ask(self, query: Query, subject: Subject, made: list[Path]) -> Ask:
        from dvid_es.analytics.states import instances_table, versions_table

        folder = self.folder / subject.root
        manifest = self._manifest(folder, subject)
        repo = subject.now()
        pieces = self._tail(manifest, subject, repo)
        tables = {}
        for name, table in (
            ("_versions", versions_table(repo)),
            ("_instances", instances_table(repo)),
        ):
            tables[name] = str(self._file(table, made))
        versions = [""] * (max(repo.graph.by_id, default=0) + 1)
        for ordinal, version in repo.graph.by_id.items():
            versions[ordinal] = version.uuid
        instances = [""] * (max(repo.instances, default=0) + 1)
        for number, instance in repo.instances.items():
            instances[number] = instance.name
        return Ask(
            sql=query.sql,
            parameters=query.parameters,
            format=query.format,
            folder=str(folder.resolve()),
            events=[name for part in manifest.parts for name in part.events],
            labels=[name for part in manifest.parts for name in part.labels],
            daily=[name for part in manifest.parts for name in part.daily],
            tail_events=[str(piece.events) for piece in pieces],
            tail_labels=[str(piece.labels) for piece in pieces],
            tail_from=manifest.upto,
            versions=versions,
            instances=instances,
            tables=tables,
            seq=max(repo.sequence, manifest.upto - 1),
            seconds=self.limits.seconds,
            memory_bytes=self.limits.memory_bytes,
            threads=self.limits.threads,
            result_bytes=self.limits.result_bytes,
        )

    def _manifest(self, folder: Path, subject: Subject) -> "Manifest":
        """Return the manifest, without parts that the log does not agree with."""
        from dvid_es.analytics.export import agrees
        from dvid_es.analytics.parts import MANIFEST, Manifest, read_manifest

        try:
            found = (folder / MANIFEST).stat()
        except FileNotFoundError:
            return Manifest(root=subject.root)
        stamp = (found.st_mtime_ns, found.st_ino)
        with self._lock:
            known = self._known.get(subject.root)
        if known is None or known.stamp != stamp:
            manifest = read_manifest(folder, subject.root)
            parts = list(manifest.parts)
            # What is visible is in the log, though a log without its brokers may not know.
            end = max(subject.log.end, subject.now().sequence + 1)
            while parts and not agrees(parts[-1], subject.log, end):
                parts.pop()
            known = _Known(stamp, msgspec.structs.replace(manifest, parts=tuple(parts)))
            with self._lock:
                self._known[subject.root] = known
        return known.manifest

    def _tail(self, manifest: "Manifest", subject: Subject, repo: Repo) -> "list[Piece]":
        from dvid_es.analytics.tail import Tail

        with self._lock:
            if not self._tails and not self._number:
                shutil.rmtree(self._scratch, ignore_errors=True)
            tail = self._tails.get(subject.root)
            if tail is None:
                tail = Tail(self._scratch / subject.root, self._described)
                self._tails[subject.root] = tail
        waiting = repo.sequence + 1 - manifest.upto
        if waiting > self.limits.tail_events:
            self._export(subject.root)
        unread = repo.sequence + 1 - max(manifest.upto, tail.stop)
        if unread > 2 * self.limits.tail_events and self._exporter is not None:
            raise Overloaded(
                f"the history of this repository is being exported for queries: {manifest.upto} of"
                f" {repo.sequence + 1} events are done; try again later"
            )
        return tail.upto(subject.log, manifest.upto, repo.sequence + 1, subject.fetch)

    def _export(self, root: str) -> None:
        """Start an export in a process of its own, unless one is running."""
        if self._exporter is None:
            return
        with self._lock:
            running = self._exports.get(root)
            if running is not None and running.poll() is None:
                return
            if running is not None and running.returncode:
                logger.warning("the export of %s ended with %d", root, running.returncode)
            self._exports[root] = subprocess.Popen(
                self._exporter(root), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )

    # -- states of instances ------------------------------------------------------------------

    def _with_states(
        self,
        ask: Ask,
        needs: dict[str, list[str]],
        subject: Subject,
        job: Job,
        made: list[Path],
    ) -> Ask:
        """Return the request with the tables of instances that it needs, read from the projections."""
        repo = subject.now()
        job.until(time.monotonic() + self.limits.seconds)
        states: dict[str, dict[str, list[str]]] = {}
        for function, specs in needs.items():
            for spec in specs:
                version = subject.resolve(repo, spec)
                files = list(self._states(FUNCTIONS[function], version, repo, subject, job))
                made += files
                states.setdefault(function, {})[spec] = [str(path) for path in files]
        return msgspec.structs.replace(ask, states=states)

    def _states(
        self, name: str, version: int, repo: Repo, subject: Subject, job: Job
    ) -> Iterator[Path]:
        import pyarrow as pa

        from dvid_es.analytics.states import pages, schema_of

        for instance in repo.names.values():
            table = self._described.tables.get(instance.typename, {}).get(name)
            if table is None:
                continue
            schema = pa.schema([("instance", pa.string()), *schema_of(table)])
            path = self._path()
            with (
                subject.begin(repo) as txn,
                pa.OSFile(str(path), "wb") as out,
                pa.ipc.new_file(out, schema) as writer,
            ):
                for page in pages(txn, table, instance, version):
                    job.check()
                    names = pa.repeat(pa.scalar(instance.name, pa.string()), page.num_rows)
                    writer.write_table(page.add_column(0, "instance", names).cast(schema))
            yield path

    def _file(self, table: Any, made: list[Path]) -> Path:
        from dvid_es.analytics.tail import write_arrow

        path = self._path()
        made.append(path)
        write_arrow(path, table)
        return path

    def _path(self) -> Path:
        with self._lock:
            self._number += 1
            number = self._number
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._scratch / f"query-{number}.arrow"
