"""What a server is made of, behind HTTP: store, streams, writer, and the names of versions."""

import asyncio
import bisect
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dvid_es.analytics.service import Analytics
from dvid_es.clock import Clock
from dvid_es.errors import InvalidRequest, LogUnavailable
from dvid_es.jobs import Jobs
from dvid_es.projections.catalog import Repo
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.publishing.activity import Activity
from dvid_es.replay.catchup import follow
from dvid_es.streams import Stream, Streams
from dvid_es.versions import Version, VersionGraph
from dvid_es.writer import Writer

Resolved = tuple[Stream, Repo, Version]


@dataclass(slots=True)
class _Names:
    """What names stand for, until the next commit."""

    resolved: dict[str, Resolved]
    sorted: list[tuple[str, str]] | None
    """All (version, root), kept as long as no graph changes."""


class Engine:
    """The running parts of one server, and how requests find them."""

    def __init__(
        self,
        *,
        store: Store,
        streams: Streams,
        projector: Projector,
        clock: Clock,
        decisions: dict[str, Any],
        closed: Callable[[bool], None] = lambda _: None,
        jobs_at_once: int = 1,
        analytics: Analytics | None = None,
    ) -> None:
        """Wire the parts.

        Args:
            store: the projections.
            streams: logs and packs.
            projector: the folds.
            clock: time and new identifiers.
            decisions: the settings that commands see.
            closed: called at the end of `close`, with whether all went well.
            jobs_at_once: long jobs that may run at a time.
            analytics: answers queries over history; None refuses them.
        """
        self.store = store
        self.streams = streams
        self.projector = projector
        self.clock = clock
        self._closed = closed
        self.writer = Writer(
            store, streams, projector, clock, decisions, self._published,
            lambda stream, stop: follow(store, stream, projector, stop),
        )  # fmt: skip
        self.jobs = Jobs(clock, jobs_at_once)
        self.analytics = analytics
        self.pool = ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix="kernel")
        self.listeners: list[Callable[[list[Repo]], None]] = []
        """Called by the writer after each commit with the repositories that have moved on; quick."""
        self.activity: Activity | None = None
        """Told of each request, if anybody wants to know."""

        self.at_close: list[Callable[[], None]] = []
        """Called when the engine closes, before anything else: ends what reads logs and store."""
        self._names = _Names({}, None)
        self._graphs: dict[str, tuple[VersionGraph, bool]] = {}
        self._waiting: dict[str, list[tuple[int, Callable[[], None]]]] = {}
        self._waiting_lock = threading.Lock()

    def start(self) -> None:
        """Take writes."""
        self.writer.start()

    def close(self) -> None:
        """Stop long jobs, finish waiting writes and close everything."""
        clean = False
        try:
            for end in self.at_close:
                end()
            if self.analytics is not None:
                self.analytics.close()
            self.jobs.close()
            self.writer.stop()
            self.pool.shutdown()
            if not self.writer.halted:
                self.store.sync()
                self.streams.close()
                clean = True
        finally:
            try:
                self.streams.close()
            finally:
                self.store.close()
                self._closed(clean)

    def repos(self) -> list[tuple[Stream, Repo]]:
        """Return the repositories that exist, by root UUID."""
        return [
            (stream, stream.repo)
            for stream in sorted(self.streams.all(), key=lambda found: found.root)
            if stream.repo is not None and not stream.repo.document.deleted
        ]

    def resolve(self, spec: str) -> Resolved:
        """Return stream, repository and version that a UUID, prefix, branch or tag names.

        Raises:
            InvalidRequest: nothing, or more than one version, has this name.

        Source: matchingUUID and getBranchVersion in datastore/repo_local.go (janelia-flyem/dvid).
        An exact name wins over a longer one that begins with it, unlike there.
        """
        names = self._names  # a commit meanwhile replaces it: what is found now must not outlive it
        found = names.resolved.get(spec)
        if found is None:
            found = self._resolve(spec, names)
            if len(names.resolved) > 10_000:
                names.resolved.clear()
            names.resolved[spec] = found
        return found

    def _resolve(self, spec: str, names: "_Names") -> Resolved:
        prefix, colon, branch = spec.partition(":")
        if not colon:
            return self._by_prefix(prefix, names)
        if ":" in branch:
            raise InvalidRequest(f'bad UUID specification "{spec}": more than one colon')
        if prefix and not branch:
            return self._by_prefix(prefix, names)
        if prefix:
            stream, repo, _ = self._by_prefix(prefix, names)
        else:
            repos = self.repos()
            if len(repos) != 1:
                raise InvalidRequest("UUID must be specified if more than one repo exists")
            stream, repo = repos[0]
        name, tilde, steps = branch.partition("~")
        back = 0
        if tilde:
            if not (steps.isascii() and steps.isdigit() and len(steps) < 10):
                raise InvalidRequest(f'"{steps}" in "{spec}" is not a number of steps back')
            back = int(steps)
        version = repo.graph.named("" if name == "master" else name, back)
        return stream, repo, version

    def _by_prefix(self, prefix: str, known: "_Names") -> Resolved:
        if known.sorted is None:
            known.sorted = sorted(
                (uuid, stream.root) for stream, repo in self.repos() for uuid in repo.graph.by_uuid
            )
        names = known.sorted
        first = bisect.bisect_left(names, (prefix, ""))
        if not prefix or first == len(names) or not names[first][0].startswith(prefix):
            self._check_all_known()
            raise InvalidRequest(f"could not find UUID with partial match to {prefix}")
        uuid, root = names[first]
        if first + 1 < len(names) and names[first + 1][0].startswith(prefix):
            exact_twice = names[first + 1][0] == uuid
            if uuid != prefix or exact_twice:
                raise InvalidRequest(f"more than one UUID matches {prefix}")
        stream = self.streams.get(root)
        assert stream.repo is not None
        return stream, stream.repo, stream.repo.graph.by_uuid[uuid]

    def _check_all_known(self) -> None:
        """Refuse to say that there is no such version while there are repositories of which nothing is known.

        Raises:
            LogUnavailable: naming one.
        """
        for stream in self.streams.all():
            if stream.awaited and stream.repo is None:
                raise LogUnavailable(
                    f"no broker has answered yet for repository {stream.root}, and its projections"
                    " are still to be made"
                )

    def _published(self, repos: list[Repo]) -> None:
        """Forget names and wake readers; called by the writer after each commit."""
        names = self._names.sorted
        for repo in repos:
            now = (repo.graph, repo.document.deleted)
            if self._graphs.get(repo.root) != now:
                self._graphs[repo.root] = now
                names = None
        self._names = _Names({}, names)
        with self._waiting_lock:
            for repo in repos:
                waiting = self._waiting.pop(repo.root, [])
                still = [entry for entry in waiting if entry[0] > repo.sequence]
                if still:
                    self._waiting[repo.root] = still
                for sequence, wake in waiting:
                    if sequence <= repo.sequence:
                        wake()
        for listener in self.listeners:
            listener(repos)

    async def wait_for(self, stream: Stream, sequence: int, timeout_s: float) -> None:
        """Wait until the event at `sequence` is visible.

        Raises:
            InvalidRequest: it was not within `timeout_s` seconds.
        """
        if stream.repo is not None and stream.repo.sequence >= sequence:
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(done.set)

        with self._waiting_lock:
            self._waiting.setdefault(stream.root, []).append((sequence, wake))
        if stream.repo is not None and stream.repo.sequence >= sequence:
            return  # it came between the look and the entry
        try:
            await asyncio.wait_for(done.wait(), timeout_s)
        except TimeoutError:
            raise InvalidRequest(
                f"sequence {sequence} was not reached within {timeout_s:g} s;"
                f" the repository is at {stream.repo.sequence if stream.repo else -1}"
            ) from None
