"""librdkafka's mock cluster: Kafka's protocol in memory, within this process, and errors on demand.

It is no broker: nothing survives, old messages are dropped, topics are made by a call of its own and there is
no administration. What is asked of it here is that clients meet answers that a broker gives rarely.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from dvid_es.logs.kafka_client import Cluster, Connection

PRODUCE = 0
NOT_LEADER, REQUEST_TIMED_OUT = 6, 7


def missing() -> str:
    try:
        _library()
    except (ImportError, OSError, IndexError) as problem:
        return f"no mock cluster: {problem!r}"
    return ""


def _library() -> Any:
    import confluent_kafka

    root = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(sorted(root.glob("librdkafka-*.so*"))[0]))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_topic_create.argtypes = [
        pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    for name in ("down", "up"):
        getattr(library, f"rd_kafka_mock_broker_set_{name}").argtypes = [pointer, number]
    library.rd_kafka_mock_broker_set_rtt.argtypes = [pointer, number, ctypes.c_int]
    library.rd_kafka_mock_partition_set_leader.argtypes = [
        pointer, ctypes.c_char_p, number, number,
    ]  # fmt: skip
    library.rd_kafka_mock_cluster_destroy.argtypes = [pointer]
    library.rd_kafka_destroy.argtypes = [pointer]
    return library


class MockBrokers:
    """Some brokers in memory."""

    def __init__(self, count: int = 3) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(0, self._library.rd_kafka_conf_new(), error, 512)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, count)
        self.count = count
        self.topics: set[str] = set()
        found = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.servers = tuple(found.split(","))

    def create_topic(self, topic: str) -> None:
        if topic not in self.topics:
            self._library.rd_kafka_mock_topic_create(
                self._cluster, topic.encode(), 1, min(3, self.count)
            )
            self.topics.add(topic)

    def push_errors(self, api: int, *codes: int) -> None:
        """The next answers to requests of this kind are these errors."""
        self._library.rd_kafka_mock_push_request_errors(
            ctypes.c_void_p(self._cluster),
            ctypes.c_int16(api),
            ctypes.c_size_t(len(codes)),
            *map(ctypes.c_int, codes),
        )

    def down(self) -> None:
        for broker in range(1, self.count + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self) -> None:
        for broker in range(1, self.count + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def answer_after(self, milliseconds: int) -> None:
        for broker in range(1, self.count + 1):
            self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds)

    def lead(self, topic: str, broker: int) -> None:
        """Let another broker lead the partition."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), 0, broker)

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


class MockCluster(Cluster):
    """A cluster whose topics are made through the mock's own calls: it knows no administration."""

    def __init__(self, connection: Connection, brokers: MockBrokers) -> None:
        super().__init__(connection)
        self._brokers = brokers

    def topics(self) -> list[str]:
        return sorted(self._brokers.topics)

    def create_topic(self, topic: str) -> None:
        self._brokers.create_topic(topic)

    def check_topic(self, topic: str) -> None:
        assert topic in self._brokers.topics
