"""Brokers that die, stop, answer late, twice or never, under sixteen writers of a server.

Each write has a key of its own and is sent again until it is granted: so each must be in the log exactly
once, where its answer said, and the projections must be what the log makes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

import dvid_es.bootstrap
from dvid_es.bootstrap import make_projector, row_kinds
from dvid_es.errors import CorruptLog, LogUnavailable
from dvid_es.events import decode
from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_client import Cluster, Connection, Producer
from dvid_es.logs.kafka_fold import Fold
from dvid_es.logs.kafka_message import Message
from dvid_es.logs.kafka_read import KafkaReader
from dvid_es.projections.store import Store
from dvid_es.replay.digest import digests
from dvid_es.replay.rebuild import build
from dvid_es.settings import Settings
from dvid_es.streams import Stream
from tests.conftest import Live
from tests.kafka import broker as real
from tests.kafka import conftest, mock
from tests.kafka.proxy import Proxy

WRITERS = 16
GIVE_UP_S = 90
GIVE_UP_WITH_A_BUG_S = 20
FOUND = (AssertionError, CorruptLog)
"""How a planted bug shows."""


class Writers:
    """Clients that write until each of their writes is granted."""

    def __init__(self, live: Live, root: str, each: int) -> None:
        self.live, self.root, self.each = live, root, each
        self.granted: dict[tuple[int, int], int] = {}
        self.problems: list[str] = []
        self.refused = threading.Event()
        """Somebody heard 503."""
        self._some = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(client,)) for client in range(WRITERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _write(self, client: int) -> None:
        for number in range(self.each):
            path = f"/api/node/{self.root}/kv/key/{client}"
            headers = {"Idempotency-Key": f"{client}-{number}"}
            while not self._stop.is_set():
                answer = self.live.call("POST", path, b"%d-%d" % (client, number), headers=headers)
                if answer.status == 200:
                    with self._some:
                        self.granted[client, number] = int(answer.headers["x-dvid-es-seq"])
                        self._some.notify_all()
                    break
                if answer.status != 503 or "retry-after" not in answer.headers:
                    self.problems.append(f"{answer.status} {answer.body!r}")
                    self._stop.set()
                self.refused.set()
                self._stop.wait(0.05)  # a client that is told to wait does so, here not for long

    def wait_for(self, count: int) -> None:
        """Wait until so many writes are granted."""
        with self._some:
            enough = self._some.wait_for(
                lambda: len(self.granted) >= count or self._stop.is_set(), GIVE_UP_S
            )
        assert enough, "no writes are granted any more"
        assert not self.problems, self.problems

    def finish(self) -> None:
        """Wait for all writes, or give up."""
        try:
            self.wait_for(WRITERS * self.each)
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def check(self, settings: Settings) -> None:
        """Everything granted is in the topic once and in its place, and live equals rebuilt."""
        assert not self.problems, self.problems
        cluster = dvid_es.bootstrap.make_cluster(settings)
        try:
            folder = settings.data / "repos" / self.root / "log"
            # Not the server's own log: that has the last events in memory.
            self._check(KafkaReader(folder, cluster), settings.data.parent / "rebuilt")
        finally:
            cluster.close()

    def _check(self, log: KafkaReader, folder: Path) -> None:
        events = [decode(*event) for event in log.read()]
        assert [event.offset for event in events] == list(range(len(events)))
        found = [
            (event.header.idempotency_key, event.offset)
            for event in events
            if event.header.idempotency_key
        ]
        keys = [key for key, _ in found]
        assert len(set(keys)) == len(keys), "a write was applied twice"
        places = dict(found)
        for (client, number), offset in self.granted.items():
            assert places.get(f"{client}-{number}") == offset, "a granted write is lost"
        for client in range(WRITERS):
            mine = [int(key.split("-")[1]) for key in keys if key.startswith(f"{client}-")]
            assert mine == sorted(mine), "the order of a client's writes was not kept"
            value = self.live.ok("GET", f"/api/node/{self.root}/kv/key/{client}").body
            assert value == b"%d-%d" % (client, mine[-1])
        packs = self.live.engine.streams.get(self.root).packs
        build(folder, [Stream(self.root, log, packs)], make_projector())  # type: ignore[arg-type]
        store = Store(folder, read_only=True)
        try:
            assert digests(store, row_kinds()) == digests(self.live.engine.store, row_kinds())
        finally:
            store.close()


MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings_for(tmp_path: Path) -> MakeSettings:
    def make(servers: tuple[str, ...], timeout_seconds: int = 2) -> Settings:
        return Settings(
            data=tmp_path / "data",
            log_backend="kafka",
            kafka_servers=servers,
            log_topic_prefix=f"faults-{tmp_path.name}-",
            log_timeout_seconds=timeout_seconds,
        )

    return make


def run(live: Live, settings: Settings, each: int, trouble: Callable[[Writers], None]) -> None:
    """Write while `trouble` is made, then look at what has come of it."""
    root = live.new_repo()
    live.new_instance(root, "keyvalue", "kv")
    writers = Writers(live, root, each)
    writers.start()
    try:
        writers.wait_for(WRITERS)
        trouble(writers)
    finally:
        writers.finish()
    writers.check(settings)
    live.ok("POST", f"/api/node/{root}/kv/key/last", b"x")


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bugs often show as writes that are granted no more."""
    if request.node.name.endswith("]") and not request.node.name.endswith("[None]"):
        monkeypatch.setattr(sys.modules[__name__], "GIVE_UP_S", GIVE_UP_WITH_A_BUG_S)


def _grant_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: what was sent is taken for stored, as with acks=0."""
    ends: dict[str, int] = {}
    genuine = Producer.send

    def send(self: Producer, topic: str, values: list[bytes]) -> list[int]:
        try:
            ends[topic] = genuine(self, topic, values)[-1] + 1
        except LogUnavailable:
            self.close()
            ends[topic] += len(values)
        return list(range(ends[topic] - len(values), ends[topic]))

    monkeypatch.setattr(Producer, "send", send)


def _believe_that_nothing_was_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: an append without an answer is taken for one that was never made."""

    def resume(self: KafkaLog) -> Fold:
        place = self._fold.position
        assert place is not None
        _, end = self._cluster.ends(self._topic)
        self._producer = self._cluster.producer()
        return Fold(self._topic, place._replace(kafka=end))

    monkeypatch.setattr(KafkaLog, "_resume", resume)


def _count_what_is_stored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: a producer that is not idempotent, and readers who trust it."""
    genuine_init, genuine_data = AIOKafkaProducer.__init__, Fold._data

    def init(self: AIOKafkaProducer, **given: Any) -> None:
        genuine_init(self, **{**given, "enable_idempotence": False})

    def data(self: Fold, offset: int, message: Message, whole: Any) -> None:
        genuine_data(self, offset, message._replace(serial=self.serial), whole)

    monkeypatch.setattr(AIOKafkaProducer, "__init__", init)
    monkeypatch.setattr(Fold, "_data", data)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[real.Broker]:
    if conftest.CHOICE != "broker":
        pytest.skip("needs a real broker")
    made = real.Broker(tmp_path / "broker")
    conftest.note(f"a real broker, Apache Kafka {real.VERSION}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _kill_twice(broker: real.Broker, each: int) -> Callable[[Writers], None]:
    def trouble(writers: Writers) -> None:
        for part in (1, 2):
            writers.wait_for(WRITERS * each * part // 4)
            broker.kill()
            broker.start()

    return trouble


@pytest.mark.parametrize("plant", [None, _grant_without_an_answer])
def test_a_broker_is_killed_and_started_again(
    plant, own_broker, settings_for, run_server, monkeypatch
):
    settings = settings_for(own_broker.servers)
    if plant is None:
        with run_server(settings) as live:
            run(live, settings, 40, _kill_twice(own_broker, 40))
        return
    plant(monkeypatch)
    with run_server(settings) as live, pytest.raises(FOUND):
        run(live, settings, 40, _kill_twice(own_broker, 40))


def _pause(broker: real.Broker) -> Callable[[Writers], None]:
    def trouble(writers: Writers) -> None:
        for _ in range(2):
            writers.refused.clear()
            broker.pause()
            try:
                assert writers.refused.wait(60), "a silent broker is no reason to wait for ever"
                reads = writers.live.ok("GET", f"/api/node/{writers.root}/kv/keys")
                assert reads.json()
            finally:
                broker.resume()
            writers.wait_for(len(writers.granted) + WRITERS)

    return trouble


@pytest.mark.parametrize("plant", [None, _believe_that_nothing_was_stored])
def test_a_broker_falls_silent_and_comes_back(
    plant, own_broker, settings_for, run_server, monkeypatch
):
    settings = settings_for(own_broker.servers)
    if plant is None:
        with run_server(settings) as live:
            run(live, settings, 30, _pause(own_broker))
        return
    plant(monkeypatch)
    with run_server(settings) as live, pytest.raises(FOUND):
        run(live, settings, 30, _pause(own_broker))


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Proxy]:
    """A broker that says that it is to be found at the proxy."""
    if conftest.CHOICE != "broker":
        pytest.skip("needs a real broker")
    proxy = Proxy(seed=1)
    made = real.Broker(tmp_path / "broker", advertised_port=proxy.port)
    try:
        made.start()
        proxy.start(made.port)
        yield proxy
    finally:
        proxy.close()
        made.stop()


def _bad_answers(proxy: Proxy) -> Callable[[Writers], None]:
    def trouble(writers: Writers) -> None:
        proxy.trouble = 0.15
        writers.wait_for(WRITERS * writers.each * 3 // 4)
        proxy.trouble = 0

    return trouble


@pytest.mark.parametrize("plant", [None, _count_what_is_stored_twice])
def test_answers_come_late_or_twice_or_never_and_requests_twice(
    plant, proxied, settings_for, run_server, monkeypatch
):
    settings = settings_for(proxied.servers, timeout_seconds=1)
    if plant is None:
        with run_server(settings) as live:
            run(live, settings, 40, _bad_answers(proxied))
        assert len(proxied.done) == 4, "each kind of trouble was made"
        return
    plant(monkeypatch)
    with run_server(settings) as live, pytest.raises(FOUND):
        run(live, settings, 40, _bad_answers(proxied))


@pytest.fixture
def own_mock(settings_for, monkeypatch) -> Iterator[tuple[mock.MockBrokers, Settings]]:
    if conftest.CHOICE != "mock" or mock.missing():
        pytest.skip("runs on the mock cluster")
    made = mock.MockBrokers()
    conftest.note("librdkafka's mock cluster")

    def cluster(settings: Settings) -> Cluster:
        connection = Connection(made.servers, timeout_s=settings.log_timeout_seconds)
        return mock.MockCluster(connection, made)

    monkeypatch.setattr(dvid_es.bootstrap, "make_cluster", cluster)
    yield made, settings_for(made.servers)
    made.close()


def test_mock_brokers_go_down_lead_in_turn_and_answer_with_errors(own_mock, run_server):
    brokers, settings = own_mock

    def trouble(writers: Writers) -> None:
        for round_number in range(2):
            (topic,) = brokers.topics
            brokers.push_errors(mock.PRODUCE, mock.NOT_LEADER, mock.REQUEST_TIMED_OUT)
            writers.wait_for(len(writers.granted) + WRITERS)
            brokers.lead(topic, 1 + round_number)
            brokers.answer_after(20)
            writers.wait_for(len(writers.granted) + WRITERS)
            brokers.answer_after(0)
            writers.refused.clear()
            brokers.down()
            assert writers.refused.wait(60)
            writers.live.ok("GET", f"/api/node/{writers.root}/kv/keys")
            brokers.up()
            writers.wait_for(len(writers.granted) + WRITERS)

    with run_server(settings) as live:
        run(live, settings, 30, trouble)
