"""What a workload is, and the two shapes that most of them have."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from dvid_es.bench.client import Answer
from dvid_es.bench.figures import MILLISECONDS, PER_SECOND, Bar, Sample
from dvid_es.bench.target import Target
from dvid_es.bench.volume import Segmentation

REPEAT_SECONDS = 0.4
"""How long a repeat of small operations lasts about: long against the 10 ms tick of CPU times."""

MOST_OPERATIONS = 40_000
"""Of a repeat, even if they are so fast that more would fit."""

WARM_UP = 8
"""Requests of each client before a rate is measured."""

Request = tuple[str, str, bytes]
"""Method, path, body."""


@dataclass
class Finding:
    """What a check of one server's answers found."""

    fingerprint: str = ""
    """Of the answers, reduced so that right servers agree; servers are compared by it."""

    problems: list[str] = field(default_factory=list)
    """Differences from numpy's own answer."""

    def add(self, problem: str) -> None:
        """Note a problem unless the text is empty."""
        if problem:
            self.problems.append(problem)


class Workload(ABC):
    """A named thing to time. One object serves all servers of a run; state per server is a fixture."""

    name: str
    title: str
    unit: str
    bar: Bar | None = None

    def __init__(self, data: Segmentation) -> None:
        """Take the segmentation to work on."""
        self.data = data
        self.rounds: dict[str, int] = {}
        """By server, how many times a repeat does the smallest piece of work."""

    @abstractmethod
    def prepare(self, target: Target) -> None:
        """Make what the workload needs and warm the server up; not timed."""

    @abstractmethod
    def measure(self, target: Target) -> Sample:
        """Do one repeat."""

    @abstractmethod
    def check(self, target: Target) -> Finding:
        """Compare the answers, or what the repeats left behind, with numpy's own answer."""


class Latency(Workload):
    """GET requests of one client, one after the other: mean time of a request."""

    unit = MILLISECONDS

    @abstractmethod
    def requests(self, target: Target) -> list[Request]:
        """Return the requests of one round."""

    @abstractmethod
    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare one answer with numpy's own."""

    def prepare(self, target: Target) -> None:
        """Send two rounds; the second tells how many make a repeat."""
        target.timed(self.requests(target))
        sample, _ = target.timed(self.requests(target))
        self.rounds[target.name] = rounds_of(sample)

    def measure(self, target: Target) -> Sample:
        """Send as many rounds as a repeat takes."""
        return target.timed(self.requests(target) * self.rounds[target.name])[0]

    def check(self, target: Target) -> Finding:
        """Judge the answer to each request of one round (of at most 20)."""
        whole = Finding()
        for request in self.requests(target)[:20]:
            finding = self.judge(target, request, target.send(*request))
            whole.fingerprint += finding.fingerprint + ";"
            whole.problems += finding.problems
        return whole


class Rate(Workload):
    """The same small GET requests of many clients at once: requests per second."""

    unit = PER_SECOND
    clients = 32

    @abstractmethod
    def requests(self, target: Target) -> list[Request]:
        """Return the requests that clients send in turn, each starting at another."""

    @abstractmethod
    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare one answer with the right one."""

    def prepare(self, target: Target) -> None:
        """Send some, twice; the second time tells how many make a repeat."""
        target.loaded(self.queues(target, WARM_UP))
        sample, _ = target.loaded(self.queues(target, WARM_UP))
        self.rounds[target.name] = WARM_UP * rounds_of(sample)

    def measure(self, target: Target) -> Sample:
        """Let all clients send."""
        return target.loaded(self.queues(target, self.rounds[target.name]))[0]

    def check(self, target: Target) -> Finding:
        """Judge the answer to each request (of at most 20)."""
        whole = Finding()
        for request in self.requests(target)[:20]:
            finding = self.judge(target, request, target.send(*request))
            whole.fingerprint += finding.fingerprint + ";"
            whole.problems += finding.problems
        return whole

    def queues(self, target: Target, each: int) -> list[list[bytes]]:
        """Return so many requests for each client."""
        whole = [target.address.request(*request) for request in self.requests(target)]
        return [
            [whole[(client * 7 + turn) % len(whole)] for turn in range(each)]
            for client in range(self.clients)
        ]


def rounds_of(sample: Sample) -> int:
    """Return how many times what a sample did makes a repeat; at least once."""
    rounds = int(REPEAT_SECONDS / max(sample.seconds, 1e-6))
    return max(1, min(rounds, MOST_OPERATIONS // sample.operations))


def as_json(value: object) -> bytes:
    """Return compact JSON bytes for a request."""
    return json.dumps(value, separators=(",", ":")).encode()
