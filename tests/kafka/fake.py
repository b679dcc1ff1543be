"""Brokers in a list, which do on demand what real ones do rarely."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence

from dvid_es.errors import LogUnavailable

ACTIONS = ("lost", "unanswered", "late", "late", "twice", "partial", "down")


class FakeBrokers:
    """Topics, and messages that are still on their way into them."""

    def __init__(self, rng: random.Random | None = None, trouble: float = 0.0) -> None:
        self.topics: dict[str, list[bytes]] = {}
        self.late: list[tuple[str, list[bytes]]] = []
        self.next_actions: list[str] = []
        self.lock = threading.RLock()
        self._rng = rng or random.Random(0)
        self._trouble = trouble

    def action(self) -> str:
        if self.next_actions:
            return self.next_actions.pop(0)
        return self._rng.choice(ACTIONS) if self._rng.random() < self._trouble else "ok"

    def arrive(self, share: float = 1.0) -> None:
        """Some of what is on its way gets there, in any order."""
        with self.lock:
            self._rng.shuffle(self.late)
            for _ in range(round(share * len(self.late))):
                topic, values = self.late.pop()
                self.topics[topic] += values


class FakeCluster:
    """What `Cluster` is, over such brokers."""

    name = "fake"

    def __init__(self, brokers: FakeBrokers) -> None:
        self.brokers = brokers

    def topics(self) -> list[str]:
        return list(self.brokers.topics)

    def create_topic(self, topic: str) -> None:
        self.brokers.topics.setdefault(topic, [])

    def check_topic(self, topic: str) -> None:
        assert topic in self.brokers.topics

    def ends(self, topic: str) -> tuple[int, int]:
        if self.brokers.action() == "down":
            raise LogUnavailable("down")
        return 0, len(self.brokers.topics[topic])

    def read(self, topic: str, start: int, stop: int) -> Iterator[list[tuple[int, bytes]]]:
        messages = self.brokers.topics[topic][start:stop]
        for at in range(0, len(messages), 3):
            yield list(enumerate(messages[at : at + 3], start + at))

    def producer(self) -> FakeProducer:
        return FakeProducer(self.brokers)


class FakeProducer:
    def __init__(self, brokers: FakeBrokers) -> None:
        self._brokers = brokers

    def send(self, topic: str, values: Sequence[bytes]) -> list[int]:
        with self._brokers.lock:
            return self._send(self._brokers.topics[topic], topic, list(values))

    def _send(self, stored: list[bytes], topic: str, values: list[bytes]) -> list[int]:
        action = self._brokers.action()
        self._brokers.arrive(0.3)
        if action in ("lost", "down"):
            raise LogUnavailable(action)
        if action == "late":
            self._brokers.late.append((topic, values))
            raise LogUnavailable(action)
        if action == "partial":
            stored += values[: len(values) // 2]
            raise LogUnavailable(action)
        first = len(stored)
        stored += values
        if action == "twice":
            stored += values
        if action == "unanswered":
            raise LogUnavailable(action)
        return list(range(first, first + len(values)))

    def close(self) -> None:
        pass
