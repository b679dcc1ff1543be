"""The one writer: decide, append, apply, answer.

Waiting commands are decided one after the other against one LMDB write transaction, and their events
are folded into it at once, so that the next command sees them. Then packs and logs are made durable,
which is the commit, then the transaction commits, then everybody is answered. A refused command leaves
nothing behind. Decision 0004 tells why folding goes before the sync.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from dvid_es.clock import Clock
from dvid_es.commands import Context, Decision, Write, Written
from dvid_es.errors import (
    Damage,
    DvidError,
    InvalidRequest,
    LockedVersion,
    LogUnavailable,
    StorageFull,
    WritesHalted,
)
from dvid_es.events import Header, Record, encode_event, encode_header, to_builtins
from dvid_es.logs.base import Entry
from dvid_es.projections.catalog import Repo, checkpoint
from dvid_es.projections.projector import Projector, idempotency_row
from dvid_es.projections.store import Batch, LmdbTxn, Store
from dvid_es.streams import Stream, Streams

logger = logging.getLogger(__name__)

BATCH_MAX = 512
QUEUE_MAX = 16384
EVENTS_PER_TURN = 20_000
"""Events that a log turns out to hold are applied so many at a time: other repositories take turns."""

COMPANY_SECONDS = 0.0001
COMPANY_PAUSES = 4
"""So often and so long a batch waits for those who wrote a moment ago: less than its sync takes."""

AGAIN_SECONDS = 1.0

Follow = Callable[[Stream, int], None]
"""Applies what a log holds and the projections lack, up to an offset; see `replay.catchup.follow`."""


class Writer:
    """Owner of all appending and of the LMDB write transaction: one thread."""

    def __init__(
        self,
        store: Store,
        streams: Streams,
        projector: Projector,
        clock: Clock,
        settings: dict[str, Any],
        published: Callable[[list[Repo]], None],
        follow: Follow,
    ) -> None:
        """Wire the writer; `published` hears of each repository whose sequence has moved."""
        self._store = store
        self._streams = streams
        self._projector = projector
        self._clock = clock
        self._settings = settings
        self._published = published
        self._follow = follow
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._halted: dict[str, str] = {}
        self._backlog: dict[str, tuple[Stream, list[Record]]] = {}
        self._doubtful: set[str] = set()
        self._coming_back: set[str] = set()
        self._batched = 0
        """Writes in this batch, or the last one."""
        self._company = 0
        """These, and those that were waiting when it was durable."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is waiting, then stop."""
        if self._thread.is_alive():
            self._stopping.set()
            self._queue.put(None)
            self._thread.join()

    def submit(self, write: Write) -> None:
        """Queue a command; it tells when it is durable and visible, or refused.

        Raises:
            WritesHalted: too many commands are waiting.
        """
        if self._queue.qsize() >= QUEUE_MAX:
            raise WritesHalted(f"{QUEUE_MAX} writes are waiting already; try again later")
        self._queue.put(write)

    @property
    def waiting(self) -> int:
        """How many commands wait to be decided."""
        return self._queue.qsize()

    @property
    def halted(self) -> dict[str, str]:
        """Why writing stopped, by repository; "" stands for all of them."""
        return dict(self._halted)

    def halt(self, root: str, reason: str) -> None:
        """Take no more writes of a repository, or of all for ""."""
        self._halted[root] = reason

    def postpone(self, stream: Stream, records: list[Record]) -> None:
        """Apply events of the log before the next write: there was no space for them."""
        self._backlog[stream.root] = (stream, records)

    def expect(self, stream: Stream) -> None:
        """Apply what a log holds before its next write: nobody knows yet what that is."""
        self._doubt(stream)

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            waiting = [write for write in batch if not write.withdrawn]
            if len(waiting) < len(batch):
                gone = [write for write in batch if write.withdrawn]
                _fail(gone, InvalidRequest("taken back before it was decided"))
            self._batched = self._company = len(batch)
            try:
                self._process(waiting)
            except BaseException as problem:
                logger.exception("the writer failed")
                self._halted.setdefault("", f"the writer failed: {problem!r}")
                _fail(waiting, WritesHalted(self._halted[""]))

    def _next_batch(self) -> list[Write] | None:
        first = self._queue.get()
        if first is None:
            return None
        # Clients that were answered just now write again in a moment. Together they need one sync.
        for _ in range(COMPANY_PAUSES):
            if self._queue.qsize() + 1 >= self._company:
                break
            self._stopping.wait(COMPANY_SECONDS)
        batch = [first]
        for _ in range(min(self._queue.qsize(), BATCH_MAX - 1)):
            following = self._queue.get_nowait()
            if following is None:
                self._queue.put(None)
                break
            batch.append(following)
        return batch

    def _process(self, writes: list[Write]) -> None:
        """Decide, append, apply, answer: a batch for each repository."""
        by_root: dict[str, list[Write]] = {}
        for write in writes:
            by_root.setdefault(write.root, []).append(write)
        for root, group in by_root.items():
            self._process_group(root, group)

    def _process_group(self, root: str, writes: list[Write]) -> None:
        reason = self._halted.get("") or self._halted.get(root)
        if reason:
            _fail(writes, WritesHalted(reason))
            return
        pending = _Pending()
        try:
            if root in self._doubtful:
                self._settle(root)
            if root in self._backlog:
                self._apply_backlog(root)
            with self._store.write() as batch:
                for write in writes:
                    self._one(batch, write, pending)
                if pending.records:
                    self._make_durable(pending)
                    self._commit(batch, root, pending)
                else:
                    batch.abort()  # a refused creation may have taken a number
        except _FoldFailed as problem:
            # Nothing is durable yet. One at a time, only the command that cannot be applied fails.
            logger.exception("an event could not be folded or stored; its command is refused")
            if len(writes) == 1:
                _fail(writes, problem.__cause__ or problem)
            for write in [] if len(writes) == 1 else writes:
                self._process_group(root, [write])
        except BaseException as problem:
            logger.error("a batch of %d writes failed: %s", len(writes), problem)
            _fail(writes, problem)
        else:
            # Before anybody is answered: the next write of one client alone is no company.
            self._company = self._batched + self._queue.qsize()
            pending.succeed(self._published)

    def _apply_backlog(self, root: str) -> None:
        """Apply what is in the log but not in the projections: they had no space for it."""
        stream, records = self._backlog[root]
        with self._store.write() as batch:
            txn = batch.scope(root, stream.repo, stream.packs)
            for record in records:
                self._projector.apply(txn, record)
        stream.publish(txn.repo, records[-1].offset)
        assert stream.repo is not None
        self._published([stream.repo])
        del self._backlog[root]

    def _doubt(self, stream: Stream) -> None:
        """Note that nobody knows what the log holds, such as the last append, and come back to it."""
        self._doubtful.add(stream.root)
        self._come_back(stream, 0)

    def _come_back(self, stream: Stream, pause_s: float) -> None:
        """Look again when it may be known; if it is known already, after a pause."""
        root = stream.root
        if root in self._coming_back:
            return
        self._coming_back.add(root)

        def again() -> None:
            self._coming_back.discard(root)
            with contextlib.suppress(WritesHalted):
                self.submit(Write(root=root, command=_Settle()))

        try:
            stream.log.settle(again)
        except LogUnavailable:
            return
        except WritesHalted:
            pause_s = 0
        if pause_s:
            timer = threading.Timer(pause_s, again)
            timer.daemon = True
            timer.start()
        else:
            again()

    def _settle(self, root: str) -> None:
        """Let the projections follow a log of which it was unknown what it holds; some events a time.

        Raises:
            LogUnavailable: it is not known yet, or there are more events.
            WritesHalted: the log is damaged, or holds less than the projections do.
        """
        stream = self._streams.get(root)
        try:
            end = stream.log.settle()
            with self._store.read(root) as reading:
                known = checkpoint(reading)
            stop = min(end, known + EVENTS_PER_TURN)
            if known != end:
                logger.warning(
                    "repository %s: events %d to %d are in its log", root, known, end - 1
                )
                try:
                    self._follow(stream, stop)
                finally:
                    self._published([stream.repo] if stream.repo is not None else [])
        except (Damage, WritesHalted) as problem:
            self._halted[root] = str(problem)
            raise WritesHalted(str(problem)) from problem
        except LogUnavailable:
            self._come_back(stream, AGAIN_SECONDS)
            raise
        if stop < end:
            self._come_back(stream, 0)
            raise LogUnavailable(f"{stop} of {end} events of the log are applied; try again later")
        self._backlog.pop(root, None)
        self._doubtful.discard(root)
        stream.awaited = False

    def _commit(self, batch: Batch, root: str, pending: "_Pending") -> None:
        try:
            batch.commit()
        except BaseException:
            if pending.records:
                assert pending.stream is not None
                self._backlog[root] = (pending.stream, pending.records)
            raise

    def _one(self, batch: Batch, write: Write, pending: "_Pending") -> None:
        if write.is_ended:
            return
        if isinstance(write.command, _Settle):
            pending.answer(write, Written(b"", -1))
            return
        try:
            stream = self._stream(write)
            txn = pending.scope(batch, stream)
            if write.idempotency_key and not write.dry_run:
                kept = txn.get(idempotency_row(write.idempotency_key))
                if kept is not None:
                    first = Written(kept[8:], int.from_bytes(kept[:8], "big"))
                    pending.answer(write, first)
                    return
            context = self._context(write, txn, pending.sequence)
            decision = write.command.decide(context)
        except Exception as problem:
            if not isinstance(problem, DvidError):
                logger.exception("a command failed while it was decided")
            self._forget_created(write, pending)
            write.fail(problem)
            return
        records = self._records(write, context, decision)
        if write.dry_run:
            events = tuple(to_builtins(record) for record in records)
            self._forget_created(write, pending)
            pending.answer(write, Written(decision.answer, context.sequence - 1, events))
            return
        try:
            for record in records:
                self._projector.apply(txn, record, record.offset)
        except Exception as problem:
            self._forget_created(write, pending)
            raise _FoldFailed from problem
        pending.records.extend(records)
        pending.sequence += len(records)
        pending.answer(write, Written(decision.answer, pending.sequence - 1))

    def _stream(self, write: Write) -> Stream:
        if write.creates:
            return self._streams.create(write.root)
        return self._streams.get(write.root)

    def _forget_created(self, write: Write, pending: "_Pending") -> None:
        if write.creates and not pending.records:
            pending.forget()
            self._streams.discard(write.root)

    def _context(self, write: Write, txn: LmdbTxn, sequence: int) -> Context:
        version = instance = None
        if not write.creates:
            repo = txn.repo
            if repo.document.deleted and (write.version or write.instance):
                raise InvalidRequest(f"repository {repo.root} was deleted")
            if write.version:
                version = repo.graph.by_id[write.version]
            if write.instance:
                instance = repo.instances[write.instance]
                if instance.deleted:
                    raise InvalidRequest("invalid data instance name")
                if not instance.versioned:
                    version = repo.graph.root
                elif version is not None and version.locked and not write.unlocked:
                    # It was open when the request came in: a commit is a fence for later writes.
                    raise LockedVersion(f"Cannot write to locked node {version.uuid}")
        return Context(
            txn=txn,
            sequence=sequence,
            time_ns=self._clock.now_ns(),
            version=version,
            instance=instance,
            user=write.user,
            app=write.app,
            settings=self._settings,
            taken=self._streams.has_version,
        )

    def _records(self, write: Write, context: Context, decision: Decision) -> list[Record]:
        records = []
        last = len(decision.outcomes) - 1
        for number, outcome in enumerate(decision.outcomes):
            keyed = number == last and write.idempotency_key
            header = Header(
                version=outcome.version or (context.version.id if context.version else 0),
                instance=outcome.instance or (context.instance.id if context.instance else 0),
                mutation_id=outcome.mutation_id,
                user=write.user,
                app=write.app,
                idempotency_key=write.idempotency_key if keyed else "",
                answer=decision.answer if keyed else b"",
            )
            offset = context.sequence + number
            records.append(Record(offset, context.time_ns, header, outcome.event))
        return records

    def _make_durable(self, pending: "_Pending") -> None:
        stream = pending.stream
        assert stream is not None
        entries = []
        try:
            for record in pending.records:
                number, schema, facts = encode_event(record.event)
                header = encode_header(record.header)
                entries.append(Entry(number, schema, record.time_ns, header, facts))
        except Exception as problem:
            raise _FoldFailed from problem
        try:
            stream.packs.sync()
            first = stream.log.append(entries)
            if first != pending.records[0].offset:
                raise WritesHalted(
                    f"the log gave offset {first}, the projections expect {pending.records[0].offset}"
                )
            stream.log.sync()
        except StorageFull:
            raise  # the log was cut back to where it was
        except InvalidRequest as problem:
            raise _FoldFailed from problem  # no log can hold it, and nothing of it is there
        except LogUnavailable:
            self._doubt(stream)
            raise
        except BaseException as problem:
            # What reached the disk is unknown: a restart reads the log and finds out.
            self._halted[stream.root] = f"the log could not be made durable: {problem}"
            raise WritesHalted(self._halted[stream.root]) from problem


class _Settle:
    """Asks for nothing: the log may know now what became of an append."""

    def decide(self, context: Context) -> Decision:
        """Never called: the writer knows this command."""
        raise NotImplementedError


class _FoldFailed(Exception):
    """An event that was decided, and is not durable yet, cannot be folded or stored in a log."""


def _fail(writes: list[Write], problem: BaseException) -> None:
    for write in writes:
        if not write.is_ended:
            write.fail(problem)


class _Pending:
    """The commands of one batch that wait for its commit."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.records: list[Record] = []
        self.sequence = 0
        """Offset of the next event."""
        self._txn: LmdbTxn | None = None
        self._answers: list[tuple[Write, Written]] = []

    def scope(self, batch: Batch, stream: Stream) -> LmdbTxn:
        if self._txn is None:
            self.stream = stream
            self._txn = batch.scope(stream.root, stream.repo, stream.packs)
            self.sequence = checkpoint(self._txn)
        return self._txn

    def forget(self) -> None:
        self._txn = self.stream = None

    def answer(self, write: Write, written: Written) -> None:
        self._answers.append((write, written))

    def succeed(self, published: Callable[[list[Repo]], None]) -> None:
        if self.records:
            assert self.stream is not None
            assert self._txn is not None
            self.stream.publish(self._txn.repo, self.records[-1].offset)
            assert self.stream.repo is not None
            published([self.stream.repo])
        for write, written in self._answers:
            write.succeed(written)
