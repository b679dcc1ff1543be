"""Servers that start while no broker answers: reads go on, writes wait, and nothing is lost or doubled."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dvid_es.bootstrap
from dvid_es import writer
from dvid_es.bootstrap import make_projector, row_kinds
from dvid_es.errors import LogUnavailable, WritesHalted
from dvid_es.events import decode
from dvid_es.logs.base import Entry
from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_client import Cluster, Connection
from dvid_es.logs.kafka_read import KafkaReader
from dvid_es.projections.store import Store
from dvid_es.replay.digest import digests
from dvid_es.replay.rebuild import build
from dvid_es.settings import Settings
from dvid_es.streams import Stream
from tests.conftest import Live
from tests.kafka import conftest, mock
from tests.kafka.conftest import Outage

LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def on_kafka(
    tmp_path: Path,
    outage: Outage,
    make_cluster: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    monkeypatch.setattr(dvid_es.bootstrap, "make_cluster", lambda _: make_cluster(2))
    return Settings(
        data=tmp_path / "data",
        log_backend="kafka",
        kafka_servers=outage.servers,
        log_topic_prefix=f"start-{tmp_path.name[-20:]}-",
        log_timeout_seconds=2,
    )


def fill(live: Live, root: str, start: int, stop: int) -> None:
    for number in range(start, stop):
        live.ok("POST", f"/api/node/{root}/kv/key/{number % 7}", b"%d" % number)


def made(live: Live, count: int) -> str:
    root = live.new_repo()
    live.new_instance(root, "keyvalue", "kv")
    fill(live, root, 0, count)
    return root


def refused(live: Live, root: str) -> None:
    answer = live.call("POST", f"/api/node/{root}/kv/key/x", b"too early")
    assert answer.status == 503, answer.body
    assert int(answer.headers["retry-after"]) > 0


def granted(live: Live, root: str, value: bytes) -> int:
    """Write as a client that comes back when it is told to; return the sequence."""
    deadline = time.monotonic() + 90
    while (answer := live.call("POST", f"/api/node/{root}/kv/key/x", value)).status == 503:
        assert time.monotonic() < deadline, answer.body
    assert answer.status == 200, answer.body
    return int(answer.headers["x-dvid-es-seq"])


def check(live: Live, settings: Settings, root: str, folder: Path) -> list[Any]:
    """Offsets are dense, and live is what a rebuild from the topic makes; return the events."""
    cluster = dvid_es.bootstrap.make_cluster(settings)
    reader = KafkaReader(settings.data / "repos" / root / "log", cluster)
    events = [decode(*event) for event in reader.read()]
    assert [event.offset for event in events] == list(range(len(events)))
    packs = live.engine.streams.get(root).packs
    build(folder, [Stream(root, reader, packs)], make_projector())  # type: ignore[arg-type]
    store = Store(folder, read_only=True)
    try:
        mine = [part for part in digests(live.engine.store, row_kinds()) if part.root == root]
        assert digests(store, row_kinds()) == mine
    finally:
        store.close()
    return events


def keys(live: Live, root: str) -> dict[str, bytes]:
    base = f"/api/node/{root}/kv"
    names = live.ok("GET", f"{base}/keys").json()
    return {name: live.ok("GET", f"{base}/key/{name}").body for name in names}


def test_reads_go_on_and_writes_wait_until_a_broker_is_back(
    on_kafka: Settings, outage: Outage, run_server: Any, tmp_path: Path
) -> None:
    with run_server(on_kafka) as live:
        root, other = made(live, 30), made(live, 3)
        before = keys(live, root)
    outage.begin()
    with run_server(on_kafka) as live:
        assert keys(live, root) == before
        assert live.ok("GET", f"/api/node/{other}/kv/key/2").body == b"2"
        refused(live, root)
        refused(live, other)
        assert live.call("POST", "/api/repos", json_body={"alias": "new"}).status == 503
        assert live.call("GET", f"/api/repo/{root}/events", headers=LINES).status == 503
        assert live.call("GET", f"/api/node/{'f' * 32}/kv/key/x").status == 400
        outage.end()
        assert granted(live, root, b"late") == 32
        assert granted(live, other, b"late") == 5
        assert keys(live, root) == {**before, "x": b"late"}
        lines = live.ok("GET", f"/api/repo/{root}/events", headers=LINES).body.splitlines()
        assert len(list(filter(None, lines))) == 33
        made(live, 1)
        events = check(live, on_kafka, root, tmp_path / "rebuilt")
        assert len(events) == 33, "what was refused is not in the log"


def test_a_server_that_ends_before_a_broker_is_back_has_changed_nothing(
    on_kafka: Settings, outage: Outage, run_server: Any, tmp_path: Path
) -> None:
    with run_server(on_kafka) as live:
        root = made(live, 10)
    outage.begin()
    for _ in range(2):
        with run_server(on_kafka) as live:
            refused(live, root)
    outage.end()
    with run_server(on_kafka) as live:
        assert granted(live, root, b"late") == 12
        check(live, on_kafka, root, tmp_path / "rebuilt")


def behind(settings: Settings, run_server: Any, tmp_path: Path) -> tuple[str, dict[str, bytes]]:
    """Make projections that lack the last 60 of 92 events; return what they show."""
    with run_server(settings) as live:
        root = made(live, 30)
        old = keys(live, root)
    shutil.copytree(settings.data / "projections", tmp_path / "old")
    with run_server(settings) as live:
        fill(live, root, 30, 90)
    shutil.rmtree(settings.data / "projections")
    shutil.copytree(tmp_path / "old", settings.data / "projections")
    return root, old


def test_what_the_projections_lack_is_applied_before_the_first_write_and_without_one(
    on_kafka: Settings,
    outage: Outage,
    run_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "EVENTS_PER_TURN", 25)
    root, old = behind(on_kafka, run_server, tmp_path)
    outage.begin()
    with run_server(on_kafka) as live:
        assert keys(live, root) == old, "projections are shown as they are"
        refused(live, root)
        outage.end()
        last = f"/api/node/{root}/kv/key/{89 % 7}"
        assert live.ok("GET", last, min_seq=91).body == b"89", "nobody had to write"
        assert granted(live, root, b"late") == 92
        assert len(check(live, on_kafka, root, tmp_path / "rebuilt")) == 93


def test_a_writer_that_did_not_catch_up_first_would_be_caught(
    on_kafka: Settings,
    outage: Outage,
    run_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The planted bug: the log is there again, so writing goes on from what the projections hold."""

    def careless(self: Any, root: str) -> None:
        stream = self._streams.get(root)
        stream.log.settle()
        self._doubtful.discard(root)
        stream.awaited = False

    monkeypatch.setattr(writer.Writer, "_settle", careless)
    root, _ = behind(on_kafka, run_server, tmp_path)
    outage.begin()
    with run_server(on_kafka) as live:
        refused(live, root)
        outage.end()
        with pytest.raises(AssertionError):
            granted(live, root, b"late")


def test_a_repository_without_projections_is_not_said_to_be_none(
    on_kafka: Settings, outage: Outage, run_server: Any, tmp_path: Path
) -> None:
    with run_server(on_kafka) as live:
        root = made(live, 30)
        before = keys(live, root)
    shutil.rmtree(on_kafka.data / "projections")
    outage.begin()
    with run_server(on_kafka) as live:
        for path in (f"/api/node/{root}/kv/keys", f"/api/repo/{root}/info"):
            answer = live.call("GET", path)
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
        again = live.call("POST", "/api/repos", json_body={"alias": "again", "root": root})
        assert again.status in (400, 503)
        outage.end()
        live.engine.streams.get(root)
        deadline = time.monotonic() + 90
        while live.call("GET", f"/api/repo/{root}/info").status == 503:
            assert time.monotonic() < deadline
        assert live.ok("GET", f"/api/node/{root}/kv/keys", min_seq=31).json() == sorted(before)
        assert keys(live, root) == before
        check(live, on_kafka, root, tmp_path / "rebuilt")


def test_who_wrote_before_is_heard_first_and_then_replaced(
    on_kafka: Settings, outage: Outage, run_server: Any, tmp_path: Path, cluster: Cluster
) -> None:
    with run_server(on_kafka) as live:
        root = made(live, 5)
        stream = live.engine.streams.get(root)
        topic, (last,) = stream.log.topic, stream.log.read(6, 7)
    folder = on_kafka.data / "repos" / root / "log"
    shutil.copytree(folder, tmp_path / "copy")
    other = KafkaLog(tmp_path / "copy", root, cluster, topic)
    entry = Entry(last.kind, last.schema, last.time_ns, last.header, last.facts)
    assert other.append([entry, entry]) == 7
    outage.begin()
    with run_server(on_kafka) as live:
        refused(live, root)
        outage.end()
        assert granted(live, root, b"late") == 9, "behind what the other one wrote"
        with pytest.raises(WritesHalted, match="another server has taken over"):
            append(other, entry)
        assert granted(live, root, b"later") == 10
        assert len(check(live, on_kafka, root, tmp_path / "rebuilt")) == 11
    other.close()


def append(log: KafkaLog, entry: Entry) -> int:
    """Append when brokers answer: a log that they left may hear only now that they are back."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return log.append([entry])
        except LogUnavailable:
            assert time.monotonic() < deadline


class Restored:
    """Brokers that came back with less than they had: with the first messages of a topic."""

    def __init__(self, settings: Settings, outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.outage, self.monkeypatch = settings, outage, monkeypatch
        self.brokers: mock.MockBrokers | None = None

    def begin(self, topic: str, keep: Callable[[int], int], first: bytes = b"") -> None:
        """Go away, to come back with some messages; `first` takes the place of the first one."""
        cluster = dvid_es.bootstrap.make_cluster(self.settings)
        batches = cluster.read(topic, *cluster.ends(topic))
        values = [value or b"" for batch in batches for _, value in batch]
        values = values[: keep(len(values))]
        if first:
            values[0] = first
        if conftest.CHOICE == "broker":
            cluster.delete_topic(topic)
            deadline = time.monotonic() + 60
            while topic in cluster.topics():
                assert time.monotonic() < deadline
            cluster.create_topic(topic)
        else:
            self.brokers = mock.MockBrokers(1)
            connection = Connection(self.brokers.servers, timeout_s=2)
            cluster.close()
            cluster = mock.MockCluster(connection, self.brokers)
            cluster.create_topic(topic)
            brokers = self.brokers
            self.monkeypatch.setattr(
                dvid_es.bootstrap, "make_cluster", lambda _: mock.MockCluster(connection, brokers)
            )
        producer = cluster.producer()
        for value in values:
            producer.send(topic, [value])
        producer.close()
        cluster.close()
        if self.brokers is not None:
            self.brokers.down()
        else:
            self.outage.begin()

    def end(self) -> None:
        if self.brokers is not None:
            self.brokers.up()
        else:
            self.outage.end()


@pytest.fixture
def restored(
    on_kafka: Settings, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Restored]:
    found = Restored(on_kafka, outage, monkeypatch)
    yield found
    if found.brokers is not None:
        found.brokers.close()


def end_of(settings: Settings, topic: str) -> int:
    cluster = dvid_es.bootstrap.make_cluster(settings)
    try:
        return cluster.ends(topic)[1]
    finally:
        cluster.close()


@pytest.mark.parametrize("case", ["cut", "cut, no index", "another"])
def test_a_topic_that_comes_back_with_less_is_refused_and_reads_go_on(
    case: str, on_kafka: Settings, restored: Restored, run_server: Any
) -> None:
    with run_server(on_kafka) as live:
        root = made(live, 20)
        topic = live.engine.streams.get(root).log.topic
        before = keys(live, root)
    if case == "cut, no index":
        (on_kafka.data / "repos" / root / "log" / "kafka.index").unlink()
    if case == "another":
        restored.begin(topic, lambda count: count, b"not what was first")
    else:
        restored.begin(topic, lambda count: count - 5)
    with run_server(on_kafka) as live:
        refused(live, root)
        restored.end()
        deadline = time.monotonic() + 90
        path = f"/api/node/{root}/kv/key/x"
        while (answer := live.call("POST", path, b"late")).status == 503:
            assert time.monotonic() < deadline
        assert answer.status == 500
        reason = {
            "cut": b"has gone back",
            "cut, no index": b"the projections hold 22 events, its log only 17",
            "another": b"is not the one",
        }[case]
        assert reason in answer.body, answer.body
        assert keys(live, root) == before
        held = end_of(on_kafka, topic)
        assert live.call("POST", path, b"again").status == 500
        assert keys(live, root) == before
        assert end_of(on_kafka, topic) == held, "nothing is added to it"
