"""Talking to Kafka: the one home of aiokafka, behind calls that block.

All of it runs in one thread with an event loop of its own, so that neither a slow broker nor a closed
connection is noticed anywhere else. Every call has a limit of time.
"""

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    for_code,
)

from dvid_es.errors import CorruptLog, LogUnavailable, SettingsError
from dvid_es.logs.kafka_fold import Fetched

# It writes several lines for every attempt, hundreds in a second without a broker; what matters reaches
# our own messages as exceptions.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

T = TypeVar("T")

MESSAGE_BYTES = 1_048_588
"""Longest batch of a topic: what Kafka has for a default, said so that it is true."""

_FETCH_BYTES = 8 << 20
_FAILED = (KafkaError, OSError, asyncio.TimeoutError, CancelledError, asyncio.CancelledError)


class Connection(NamedTuple):
    """Where the brokers are, and how they know who calls."""

    servers: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""

    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    ca_file: str = ""
    """Certificates that are trusted; empty: those of this machine."""

    cert_file: str = ""
    key_file: str = ""
    """Certificate and key that this server shows, if any."""

    timeout_s: float = 10
    """How long one call may take."""

    def options(self) -> dict[str, Any]:
        """Return the arguments of a client of aiokafka.

        Raises:
            SettingsError: a certificate cannot be read.
        """
        found: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": "dvid-es",
            "request_timeout_ms": max(int(self.timeout_s * 1000), 1000),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            found["sasl_mechanism"] = self.sasl_mechanism
            found["sasl_plain_username"] = self.sasl_username
            found["sasl_plain_password"] = self.sasl_password
        if self.security_protocol.endswith("SSL"):
            try:
                context = ssl.create_default_context(cafile=self.ca_file or None)
                if self.cert_file:
                    context.load_cert_chain(self.cert_file, self.key_file or None)
            except (OSError, ssl.SSLError) as problem:
                raise SettingsError(f"[kafka] certificates cannot be read: {problem}") from problem
            found["ssl_context"] = context
        return found


class Cluster:
    """The brokers; shared by all logs of a process."""

    def __init__(self, connection: Connection) -> None:
        """Start the thread; nothing is asked of a broker yet."""
        self.connection = connection
        self._options = connection.options()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The addresses, for people."""
        return ",".join(self.connection.servers)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run `work` in the loop and return what it returns.

        Raises:
            LogUnavailable: it failed, or took longer than it may: whether it was done is unknown.
        """
        limit = self.connection.timeout_s if timeout_s is None else timeout_s
        try:
            return asyncio.run_coroutine_threadsafe(_limited(work, limit), self._loop).result()
        except _FAILED as problem:
            said = str(problem) or type(problem).__name__
            raise LogUnavailable(f"Kafka at {self.name} does not answer: {said}") from problem

    def topics(self) -> list[str]:
        """Return the names of all topics; asking for one by name might make it."""
        return self.call(self._topics())

    async def _topics(self) -> list[str]:
        async with self._admin() as admin:
            return list(await admin.list_topics())

    @contextlib.asynccontextmanager
    async def _admin(self) -> Any:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    def create_topic(self, topic: str) -> None:
        """Make a topic of one partition that keeps everything; none happens if it is there."""
        self.call(self._create_topic(topic))

    async def _create_topic(self, topic: str) -> None:
        async with self._admin() as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
            configs = {
                "cleanup.policy": "delete",
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "max.message.bytes": str(MESSAGE_BYTES),
                "unclean.leader.election.enable": "false",
                "min.insync.replicas": "2" if brokers > 2 else "1",
            }
            if brokers == 1:
                configs["flush.messages"] = "1"  # no other broker has it: sync before the answer
            new = NewTopic(topic, 1, min(brokers, 3), topic_configs=configs)
            answer = await admin.create_topics([new])
            for _, code, *_ in answer.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(f"topic {topic} cannot be made")

    def check_topic(self, topic: str) -> None:
        """Refuse a topic that forgets what was written.

        Raises:
            SettingsError: naming what it is set to.
        """
        found = self.call(self._configs(topic))
        wrong = {
            name: found[name]
            for name, right in (
                ("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1"),
            )
            if found.get(name, right) != right
        }  # fmt: skip
        if wrong:
            raise SettingsError(
                f"topic {topic} would lose events: {wrong}. Set cleanup.policy=delete,"
                " retention.ms=-1 and retention.bytes=-1"
            )

    async def _configs(self, topic: str) -> dict[str, str]:
        async with self._admin() as admin:
            asked = ConfigResource(ConfigResourceType.TOPIC, topic)
            (answer,) = await admin.describe_configs([asked])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}

    def delete_topic(self, topic: str) -> None:
        """Remove a topic and all that is in it."""
        self.call(self._delete_topic(topic))

    async def _delete_topic(self, topic: str) -> None:
        async with self._admin() as admin:
            await admin.delete_topics([topic])

    def ends(self, topic: str) -> tuple[int, int]:
        """Return Kafka's offsets of the first message that is kept, and after the last."""
        return self.call(self._ends(topic))

    async def _ends(self, topic: str) -> tuple[int, int]:
        partition = TopicPartition(topic, 0)
        async with self._consumer(partition) as consumer:
            first = await consumer.beginning_offsets([partition])
            last = await consumer.end_offsets([partition])
        return first[partition], last[partition]

    @contextlib.asynccontextmanager
    async def _consumer(self, partition: TopicPartition) -> Any:
        consumer = self._make_consumer()
        try:
            await consumer.start()
            consumer.assign([partition])
            yield consumer
        finally:
            await consumer.stop()

    def _make_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=2 * _FETCH_BYTES,
            fetch_max_wait_ms=100,
        )

    def read(self, topic: str, start: int, stop: int) -> Iterator[list[Fetched]]:
        """Return the messages `start` ... `stop` (Kafka's offsets, exclusive), as they come.

        Raises:
            CorruptLog: the topic does not hold them, or the broker says that they are damaged.
            LogUnavailable: nothing came for too long.
        """
        if start >= stop:
            return
        reader = self.call(_Reader.open(self._make_consumer, TopicPartition(topic, 0), start, stop))
        try:
            while (batch := self._next(reader, topic)) is not None:
                yield batch
        finally:
            self._quietly(reader.close())

    def _next(self, reader: "_Reader", topic: str) -> list[Fetched] | None:
        try:
            return self.call(reader.next())
        except LogUnavailable as problem:
            cause = problem.__cause__
            lost = (OffsetOutOfRangeError, NoOffsetForPartitionError, CorruptRecordException)
            if isinstance(cause, lost):
                raise CorruptLog(
                    f"topic {topic}, Kafka offset {reader.position}: {cause!r}. Messages of it were"
                    " lost or damaged: restore the topic from a copy or a mirror"
                ) from problem
            raise

    def producer(self) -> "Producer":
        """Return a new idempotent producer.

        Raises:
            LogUnavailable: no broker answers.
        """
        return self.call(self._producer())

    async def _producer(self) -> "Producer":
        return Producer(self, await self._started())

    def publisher(self) -> "Publisher":
        """Return a connection for messages to any topics.

        Raises:
            LogUnavailable: no broker answers.
        """
        return self.call(self._publisher())

    async def _publisher(self) -> "Publisher":
        return Publisher(self, await self._started())

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            max_batch_size=MESSAGE_BYTES - 100,
            max_request_size=MESSAGE_BYTES - 100,
        )
        try:
            await producer.start()
        except BaseException:
            await _drop(producer)
            raise
        return producer

    def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what may fail: the connection is given up in any case."""
        with contextlib.suppress(LogUnavailable):
            self.call(work, 5)

    def close(self) -> None:
        """Stop the thread; who has a producer or a reader closes it before."""
        if self._thread.is_alive():
            self._quietly(_cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Producer:
    """One idempotent producer of a log."""

    def __init__(self, cluster: Cluster, producer: AIOKafkaProducer) -> None:
        """Take over a started producer."""
        self._cluster = cluster
        self._producer = producer

    def send(self, topic: str, values: Sequence[bytes]) -> list[int]:
        """Add messages in this order; return Kafka's offset of each when all replicas have them.

        Raises:
            LogUnavailable: which of them are stored, or will be later, is unknown.
        """
        return self._cluster.call(self._send(topic, values))

    async def _send(self, topic: str, values: Sequence[bytes]) -> list[int]:
        sent = [await self._producer.send(topic, value, partition=0) for value in values]
        return [(await future).offset for future in sent]

    def close(self) -> None:
        """Let go, without waiting for what is on its way."""
        self._cluster._quietly(_drop(self._producer))


class Sent(Protocol):
    """One message for a topic."""

    @property
    def topic(self) -> str:
        """Where it goes."""

    @property
    def key(self) -> bytes:
        """Of the message."""

    @property
    def value(self) -> bytes:
        """Of the message."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Of the message."""


class Publisher:
    """Sends messages that others read."""

    def __init__(self, cluster: Cluster, producer: AIOKafkaProducer) -> None:
        """Take over a started producer."""
        self._cluster = cluster
        self._producer = producer

    def send(self, messages: Sequence[Sent]) -> None:
        """Send messages; those of a topic stay in this order. Return when all replicas have them.

        Raises:
            LogUnavailable: which of them are stored, or will be later, is unknown.
        """
        self._cluster.call(self._send(messages))

    async def _send(self, messages: Sequence[Sent]) -> None:
        # Whole batches: sent one by one, each message would cost as much as it takes to make it. One
        # partition: the order of a topic is the order of the log.
        by_topic: dict[str, list[Sent]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        sent = [
            await self._producer.send_batch(batch, topic, partition=0)
            for topic, some in by_topic.items()
            for batch in self._batches(some)
        ]
        for future in sent:
            await future

    def _batches(self, messages: Sequence[Sent]) -> Iterator[Any]:
        """Iterate over full batches of messages, in their order."""
        batch, empty = self._producer.create_batch(), True
        for one in messages:
            fields = {"timestamp": None, "key": one.key, "value": one.value}
            headers = list(one.headers)
            if batch.append(**fields, headers=headers) is None and not empty:
                yield batch
                batch = self._producer.create_batch()
                batch.append(**fields, headers=headers)
            empty = False
        yield batch

    def close(self) -> None:
        """Let go, without waiting for what is on its way."""
        self._cluster._quietly(_drop(self._producer))


class _Reader:
    """A consumer on its way from one offset to another."""

    def __init__(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, stop: int
    ) -> None:
        self._consumer = consumer
        self._partition = partition
        self.position = start
        self._stop = stop

    @classmethod
    async def open(cls, make: Any, partition: TopicPartition, start: int, stop: int) -> "_Reader":
        consumer = make()
        try:
            await consumer.start()
            consumer.assign([partition])
            consumer.seek(partition, start)
        except BaseException:
            await consumer.stop()
            raise
        return cls(consumer, partition, start, stop)

    async def next(self) -> list[Fetched] | None:
        while self.position < self._stop:
            self._consumer.resume(self._partition)
            found = await self._consumer.getmany(self._partition, timeout_ms=1000)
            # Fetching on while the caller computes is slower: this thread would wait for its turn after
            # every piece that a socket gives.
            self._consumer.pause(self._partition)
            # Also past what is no message, such as a marker of a transaction.
            self.position = await self._consumer.position(self._partition)
            if records := found.get(self._partition):
                stop = self._stop
                return [(record.offset, record.value) for record in records if record.offset < stop]
        return None

    async def close(self) -> None:
        await self._consumer.stop()


async def _limited(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    async with asyncio.timeout(limit_s):
        return await work


async def _cancel_all() -> None:
    """End what calls that took too long have left behind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _drop(producer: AIOKafkaProducer) -> None:
    """Close a producer at once: its `stop` would first send what waits, as long as that may take."""
    producer._closed = True
    try:
        with contextlib.suppress(KafkaError, IllegalStateError):
            if producer._sender is not None:
                await producer._sender.close()
    finally:
        await producer.client.close()
