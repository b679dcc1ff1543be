from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_client import Cluster, Connection
from tests.kafka import broker as real
from tests.kafka import mock

CHOICE = os.environ.get("DVID_ES_TEST_KAFKA", "mock")  # noqa: TID251 - what tests run against
_ran_on: set[str] = set()


def note(what: str) -> None:
    """Say at the end of the run what tests ran on."""
    _ran_on.add(what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "no_brokers" not in item.fixturenames:
            item.add_marker(pytest.mark.kafka)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in sorted(_ran_on):
        terminalreporter.write_line(f"Kafka tests ran on: {line}")


@pytest.fixture
def no_brokers() -> None:
    """Marks tests that need none: they run wherever Python does."""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.Broker]:
    """A real broker, shared: whoever stops it starts it again."""
    if CHOICE != "broker":
        pytest.skip("DVID_ES_TEST_KAFKA=broker runs this on a real broker")
    if why := real.missing():
        pytest.fail(f"no broker can be had: {why}")
    made = real.Broker(tmp_path_factory.mktemp("kafka") / "broker")
    try:
        made.start()
        _ran_on.add(f"a real broker, Apache Kafka {real.VERSION}")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def mock_brokers() -> Iterator[mock.MockBrokers]:
    if why := mock.missing():
        pytest.skip(why)
    made = mock.MockBrokers()
    _ran_on.add("librdkafka's mock cluster")
    yield made
    made.close()


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """Make connections to the broker that this run has; closed at the end."""
    made: list[Cluster] = []

    def make(timeout_s: float = 20, servers: tuple[str, ...] = ()) -> Cluster:
        if CHOICE == "broker":
            found = servers or request.getfixturevalue("broker").servers
            made.append(Cluster(Connection(found, timeout_s=timeout_s)))
        else:
            brokers = request.getfixturevalue("mock_brokers")
            made.append(mock.MockCluster(Connection(brokers.servers, timeout_s=timeout_s), brokers))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster()


@pytest.fixture
def topic() -> str:
    return f"test-{uuid.uuid4().hex}"  # noqa: TID251 - a name that no other run has


OpenLog = Callable[..., KafkaLog]


@pytest.fixture
def open_log(cluster: Cluster, topic: str) -> Iterator[OpenLog]:
    """Open logs of one stream; those that are still open at the end are closed."""
    made: list[KafkaLog] = []

    def open_one(folder: Path, **more: object) -> KafkaLog:
        given = {"cluster": cluster, "topic": topic, **more}
        made.append(KafkaLog(folder, "stream", **given))  # type: ignore[arg-type]
        return made[-1]

    yield open_one
    for log in made:
        log.close()


class Outage:
    """The brokers of this run, which can be away; the real one is killed."""

    def __init__(self, real_one: real.Broker | None, mocked: mock.MockBrokers | None) -> None:
        self._real, self._mock = real_one, mocked
        self._away = False
        self.servers = (real_one or mocked).servers  # type: ignore[union-attr]

    def begin(self) -> None:
        self._away = True
        if self._real is not None:
            self._real.kill()
        elif self._mock is not None:
            self._mock.down()

    def end(self) -> None:
        if self._away and self._real is not None:
            self._real.start()
        elif self._away and self._mock is not None:
            self._mock.up()
        self._away = False


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> Iterator[Outage]:
    if CHOICE == "broker":
        made = Outage(request.getfixturevalue("broker"), None)
    else:
        made = Outage(None, request.getfixturevalue("mock_brokers"))
    yield made
    made.end()
