"""Small requests: values of 1 KB and the server's JSON read by 32 clients, values written by some."""

import json

from dvid_es.bench.client import Answer
from dvid_es.bench.figures import PER_SECOND, Bar, Sample
from dvid_es.bench.target import Target
from dvid_es.bench.truth import fingerprint
from dvid_es.bench.volume import Segmentation
from dvid_es.bench.workloads.base import (
    WARM_UP,
    Finding,
    Rate,
    Request,
    Workload,
    rounds_of,
)

KEYS = 64
VALUE_BYTES = 1024


def value_of(number: int) -> bytes:
    """Return the value of a key: 1 KB that no two keys share."""
    return (f"value {number} ".encode() * VALUE_BYTES)[:VALUE_BYTES]


def make_values(target: Target) -> str:
    """Make a keyvalue instance with KEYS values and return its name."""
    name = target.new_instance(typename="keyvalue")
    for number in range(KEYS):
        target.send("POST", target.node(f"{name}/key/key{number}"), value_of(number))
    return name


class GetKeyvalue(Rate):
    """Values of 1 KB, 32 clients."""

    name = "get-keyvalue"
    title = "GET keyvalue 1 KB, 32 clients"
    bar = Bar(0.7, 1.0)

    def requests(self, target: Target) -> list[Request]:
        """Return one GET per key."""
        name = target.fixture("values", make_values)
        return [("GET", target.node(f"{name}/key/key{number}"), b"") for number in range(KEYS)]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare with what was written."""
        number = int(request[1].rpartition("key")[2])
        body = answer.body()
        finding = Finding(fingerprint(body))
        if body != value_of(number):
            finding.add(f"{request[1]}: not the {VALUE_BYTES} bytes that were written")
        return finding


class GetInfo(Rate):
    """The description of an instance as JSON, 32 clients."""

    name = "get-info"
    title = "GET instance info (JSON), 32 clients"
    bar = Bar(0.7, 1.0)

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        return [("GET", target.node(f"{target.fixture('values', make_values)}/info"), b"")]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """Compare type and name; UUIDs and numbers differ between servers."""
        base = json.loads(answer.body()).get("Base", {})
        finding = Finding(str(base.get("TypeName")))
        if base.get("Name") != target.fixture("values", make_values):
            finding.add(f"{request[1]}: the instance is called {base.get('Name')!r}")
        return finding


class GetServerInfo(Rate):
    """The description of the server, 32 clients."""

    name = "get-server-info"
    title = "GET server/info (JSON), 32 clients"
    bar = Bar(0.7, 1.0)

    def requests(self, target: Target) -> list[Request]:
        """Return the one GET."""
        return [("GET", "/api/server/info", b"")]

    def judge(self, target: Target, request: Request, answer: Answer) -> Finding:
        """See that it is DVID's: everything in it differs between servers."""
        finding = Finding("a version")
        if "DVID Version" not in json.loads(answer.body()):
            finding.add('server/info has no "DVID Version"')
        return finding


class PutKeyvalue(Workload):
    """New values of 1 KB from some clients, each waiting for its answer."""

    unit = PER_SECOND
    clients = 1

    def __init__(self, data: Segmentation) -> None:
        """Start with no keys written."""
        super().__init__(data)
        self._names: dict[str, str] = {}
        self._written: dict[str, int] = {}

    def prepare(self, target: Target) -> None:
        """Write some; it tells how many make a repeat."""
        self._names[target.name] = target.new_instance(typename="keyvalue")
        sample, _ = target.loaded(self._queues(target, WARM_UP))
        self.rounds[target.name] = WARM_UP * rounds_of(sample)

    def measure(self, target: Target) -> Sample:
        """Let all clients write."""
        return target.loaded(self._queues(target, self.rounds[target.name]))[0]

    def check(self, target: Target) -> Finding:
        """Read back all keys, and a hundred of the values."""
        name = self._names[target.name]
        count = self._written[target.name]
        keys = target.get_json(target.node(f"{name}/keys"))
        finding = Finding("all values were there")
        if sorted(keys) != sorted(f"key{number}" for number in range(count)):
            finding.add(f"{count} keys were acknowledged, {len(keys)} are there")
        for number in range(0, count, max(1, count // 100)):
            if target.get(target.node(f"{name}/key/key{number}")) != value_of(number):
                finding.add(f"key{number} does not hold what was acknowledged")
        return finding

    def _queues(self, target: Target, each: int) -> list[list[bytes]]:
        name = self._names[target.name]
        first = self._written.get(target.name, 0)
        self._written[target.name] = first + each * self.clients
        numbers = [
            range(first + client * each, first + (client + 1) * each)
            for client in range(self.clients)
        ]
        return [
            [
                target.address.request(
                    "POST", target.node(f"{name}/key/key{number}"), value_of(number)
                )
                for number in mine
            ]
            for mine in numbers
        ]


class PutKeyvalue1(PutKeyvalue):
    """One client."""

    name = "put-keyvalue-1"
    title = "POST keyvalue 1 KB, 1 client"


class PutKeyvalue16(PutKeyvalue):
    """16 clients."""

    name = "put-keyvalue-16"
    title = "POST keyvalue 1 KB, 16 clients"
    bar = Bar(3.0, 5.0)
    clients = 16


class PutKeyvalue64(PutKeyvalue):
    """64 clients."""

    name = "put-keyvalue-64"
    title = "POST keyvalue 1 KB, 64 clients"
    clients = 64


SMALL_REQUESTS = (
    GetKeyvalue,
    GetInfo,
    GetServerInfo,
    PutKeyvalue1,
    PutKeyvalue16,
    PutKeyvalue64,
)
