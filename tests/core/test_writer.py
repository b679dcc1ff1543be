from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dvid_es.clock import FixedClock
from dvid_es.commands import Context, Decision, Outcome, Write, Written
from dvid_es.errors import InvalidRequest, LockedVersion, StorageFull, WritesHalted
from dvid_es.events import BY_CLASS, BY_NUMBER, Event, Record, event
from dvid_es.logs.memory import MemoryLog, MemoryPacks
from dvid_es.projections import catalog, versioned
from dvid_es.projections.catalog import Repo
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.projections.txn import WriteTxn
from dvid_es.replay.catchup import follow
from dvid_es.streams import Stream, Streams
from dvid_es.versions import Version
from dvid_es.writer import COMPANY_PAUSES, Writer

ROOT = "a" * 32
KEYS = b"\0\0\0\1\x20"


class Made(Event):
    root: str


class Stored(Event):
    key: str
    value: bytes


class Poison(Event):
    pass


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    kinds = ((64001, Made), (64002, Stored), (64003, Poison))
    for number, kind in kinds:
        event(number, f"test.{kind.__name__.lower()}")(kind)
    yield
    for number, kind in kinds:
        del BY_NUMBER[number], BY_CLASS[kind]


def fold_made(txn: WriteTxn, record: Record) -> None:
    assert isinstance(record.event, Made)
    catalog.put_repo(txn, catalog.RepoDocument(root=record.event.root))
    catalog.put_version(txn, Version(id=1, uuid=record.event.root))
    catalog.put_instance(
        txn, catalog.Instance(id=1, name="kv", typename="kv", data_uuid="d", version=1)
    )


def fold_stored(txn: WriteTxn, record: Record) -> None:
    assert isinstance(record.event, Stored)
    key = KEYS + record.event.key.encode()
    versioned.put(txn, key, record.header.version, record.offset, record.event.value)


def fold_poison(txn: WriteTxn, record: Record) -> None:
    txn.put(b"half", b"done")
    raise ZeroDivisionError("a fold with a bug")


@dataclass
class Make:
    def decide(self, context: Context) -> Decision:
        return Decision((Outcome(event=Made(root=ROOT)),), b"made")


@dataclass
class Append:
    """Adds text to what a key holds; the answer is what it holds then."""

    key: str
    text: str

    def decide(self, context: Context) -> Decision:
        old = versioned.read(context.txn, KEYS + self.key.encode(), context.view) or b""
        new = old + self.text.encode()
        return Decision((Outcome(event=Stored(key=self.key, value=new)),), new)


@dataclass
class Refused:
    def decide(self, context: Context) -> Decision:
        context.mutation_id()
        raise InvalidRequest("no")


@dataclass
class Poisoned:
    def decide(self, context: Context) -> Decision:
        return Decision((Outcome(event=Poison()),))


def submitted(writer: Writer, write: Write) -> Future[Written]:
    ended: Future[Written] = Future()

    def tell(write: Write) -> None:
        if write.written is not None:
            ended.set_result(write.written)
        else:
            ended.set_exception(write.problem)

    write.tell = tell
    writer.submit(write)
    return ended


class World:
    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store", map_bytes=1 << 30)
        self.packs = MemoryPacks()
        self.log = MemoryLog(ROOT)
        self.streams = Streams(folder / "repos", lambda _, root: Stream(root, self.log, self.packs))
        folds = {Made: (fold_made,), Stored: (fold_stored,), Poison: (fold_poison,)}
        self.published: list[Repo] = []
        self.writer = Writer(
            self.store, self.streams, Projector(folds), FixedClock(), {}, self.published.extend,
            lambda stream, stop: follow(self.store, stream, Projector(folds), stop),
        )  # fmt: skip

    def submit(self, command: object, **more: object) -> Future[Written]:
        creates = isinstance(command, Make)
        target = {} if creates else {"version": 1, "instance": 1}
        write = Write(root=ROOT, command=command, creates=creates, **target, **more)
        return submitted(self.writer, write)

    def do(self, command: object, **more: object) -> Written:
        return self.submit(command, **more).result(10)

    def value(self, key: str) -> bytes | None:
        with self.store.read(ROOT) as txn:
            return versioned.read(txn, KEYS + key.encode(), txn.view(1))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.writer.start()
    made.do(Make())
    yield made
    made.writer.stop()
    made.store.close()


def test_an_answered_write_is_in_the_log_and_visible(world: World) -> None:
    written = world.do(Append("k", "x"))
    assert written == Written(b"x", 1)
    assert world.log.end == 2
    assert world.value("k") == b"x"
    assert world.published[-1].sequence == 1


def test_a_command_sees_the_earlier_ones_of_its_batch(world: World) -> None:
    waiting = [world.submit(Append("k", str(n % 10))) for n in range(200)]
    wait(waiting, 20)
    expected = "".join(str(n % 10) for n in range(200)).encode()
    assert [one.result().answer for one in waiting] == [expected[: n + 1] for n in range(200)]
    assert world.value("k") == expected
    assert world.log.end == 201


def test_a_refused_command_leaves_nothing(world: World) -> None:
    with pytest.raises(InvalidRequest):
        world.do(Refused())
    assert world.log.end == 1
    with world.store.read(ROOT) as txn:
        assert catalog.next_mutation_id(txn) == 1_000_000_000


def test_a_dry_run_answers_and_changes_nothing(world: World) -> None:
    written = world.do(Append("k", "x"), dry_run=True)
    assert written.answer == b"x"
    assert written.events[0]["event"] == "test.stored"
    assert world.log.end == 1
    assert world.value("k") is None


def test_a_repeated_idempotency_key_gets_the_first_answer(world: World) -> None:
    first = world.do(Append("k", "x"), idempotency_key="once")
    again = world.do(Append("k", "x"), idempotency_key="once")
    assert first == again == Written(b"x", 1)
    assert world.value("k") == b"x"
    assert world.log.end == 2


@dataclass
class Slow(Append):
    """Is not decided before it may be."""

    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def decide(self, context: Context) -> Decision:
        self.begun.set()
        assert self.go_on.wait(20)
        return super().decide(context)


def test_a_command_that_was_withdrawn_before_its_turn_is_left(world: World) -> None:
    first = Slow("k", "a")
    slow = world.submit(first)
    assert first.begun.wait(20)
    told: list[Write] = []
    left = Write(root=ROOT, version=1, instance=1, command=Append("k", "b"), tell=told.append)
    world.writer.submit(left)
    last = world.submit(Append("k", "c"))
    left.withdrawn = True
    first.go_on.set()
    assert slow.result(20).answer == b"a"
    assert last.result(20).answer == b"ac"
    assert told == [left]
    with pytest.raises(InvalidRequest, match="taken back"):
        raise left.problem or AssertionError("it was decided")


class Pauses:
    """Stands for the pauses of a writer: in each of them some more writes come in."""

    def __init__(self, writer: Writer, *coming: int) -> None:
        self.writer, self.coming, self.made = writer, list(coming), 0

    def wait(self, seconds: float) -> None:
        assert 0 < seconds < 0.001
        self.made += 1
        for _ in range(self.coming.pop(0) if self.coming else 0):
            self.writer.submit(Write(root=ROOT, command=Append("k", "x"), version=1, instance=1))


@pytest.mark.parametrize(
    ("company", "coming", "batch", "pauses"),
    [
        (0, (), 1, 0),
        (1, (5,), 1, 0),
        (3, (1, 1, 1), 3, 2),
        (3, (9,), 10, 1),
        (3, (), 1, COMPANY_PAUSES),
        (3, (0, 1), 2, COMPANY_PAUSES),
    ],
)
def test_a_batch_waits_a_moment_for_those_who_wrote_just_now(
    tmp_path: Path, company: int, coming: tuple[int, ...], batch: int, pauses: int
) -> None:
    world = World(tmp_path)  # its thread does not run
    world.writer._company = company
    world.writer._stopping = paused = Pauses(world.writer, *coming)  # type: ignore[assignment]
    world.submit(Append("k", "x"))
    assert len(world.writer._next_batch() or ()) == batch
    assert paused.made == pauses
    world.store.close()


def test_only_the_command_whose_event_cannot_be_folded_fails(world: World) -> None:
    good = [world.submit(Append("k", "a")), world.submit(Append("k", "b"))]
    bad = world.submit(Poisoned())
    later = world.submit(Append("k", "c"))
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    assert [one.result(10).answer for one in (*good, later)] == [b"a", b"ab", b"abc"]
    assert world.log.end == 4
    with world.store.read(ROOT) as txn:
        assert txn.get(b"half") is None


def test_a_commit_is_a_fence_for_writes_that_come_later(world: World) -> None:
    with world.store.write() as batch:
        txn = batch.scope(ROOT, None, world.packs)
        catalog.put_version(txn, Version(id=1, uuid=ROOT, locked=True))
    world.streams.get(ROOT).publish(txn.repo, 0)
    with pytest.raises(LockedVersion):
        world.do(Append("k", "x"))
    assert world.do(Append("k", "x"), unlocked=True).answer == b"x"


def test_a_failed_sync_stops_writing_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(world.log, "sync", broken)
    with pytest.raises(WritesHalted):
        world.do(Append("k", "x"))
    monkeypatch.undo()
    with pytest.raises(WritesHalted, match="durable"):
        world.do(Append("k", "y"))
    assert world.value("k") is None


def test_a_full_log_refuses_and_later_writes_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(entries: object) -> int:
        raise StorageFull("no space left")

    monkeypatch.setattr(world.log, "append", full)
    with pytest.raises(StorageFull):
        world.do(Append("k", "x"))
    monkeypatch.undo()
    assert world.do(Append("k", "y")).answer == b"y"


def test_a_full_store_refuses_and_catches_up_when_there_is_space(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(batch: object) -> None:
        raise StorageFull("no space for the projections")

    monkeypatch.setattr("dvid_es.projections.store.Batch.commit", full)
    with pytest.raises(StorageFull):
        world.do(Append("k", "x"))
    assert world.value("k") is None
    monkeypatch.undo()
    # What was refused had reached the log: unacknowledged, so it may be there, and wholly.
    assert world.do(Append("k", "y")).answer == b"xy"
    assert world.log.end == 3


def test_a_repository_whose_creation_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.writer.start()
    try:
        write = Write(root=ROOT, command=Refused(), creates=True)
        with pytest.raises(InvalidRequest):
            submitted(world.writer, write).result(10)
        assert world.streams.all() == []
    finally:
        world.writer.stop()
        world.store.close()
