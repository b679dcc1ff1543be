"""One server under measurement: its repository, its instances, its CPU time.

A bench works in a repository of its own and leaves it behind; it touches no other.
"""

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from dvid_es.bench import process
from dvid_es.bench.answer import MalformedAnswer
from dvid_es.bench.client import Address, Answer, Connection
from dvid_es.bench.figures import Sample
from dvid_es.bench.load import Load, drive

LABELMAP = {"typename": "labelmap", "BlockSize": "64,64,64", "VoxelSize": "8,8,8"}


class TargetError(Exception):
    """A server cannot be reached, or refused what a bench needs."""


class TargetUnreachable(TargetError):
    """No server answers there, or it hung up."""


class Target:
    """A server and the bench's repository on it."""

    def __init__(self, name: str, url: str, admintoken: str = "", pid: int | None = None) -> None:
        """Take the server's URL; `prepare` is the first to speak to it.

        Args:
            name: `base` or `against`.
            url: like http://127.0.0.1:8000.
            admintoken: sent with the making of the repository; empty for none.
            pid: the server's process; looked up by its port when None and on this machine.
        """
        self.name = name
        self.address = Address(url)
        self.pid = pid
        self.root = ""
        self.about: dict[str, Any] = {}
        self.connection = Connection(self.address)
        self._admintoken = admintoken
        self._fixtures: dict[str, Any] = {}
        self._instances = 0

    def prepare(self) -> None:
        """Ask what the server is, find its process, and make the repository.

        Raises:
            TargetError: unreachable, or it refuses.
        """
        self.about = json.loads(self.get("/api/server/info"))
        if self.pid is None:
            self.pid = process.find_listener(self.address.host, self.address.port)
        elif process.cpu_seconds(self.pid) is None:
            raise TargetError(f"{self.name}: there is no process {self.pid} on this machine")
        token = f"?admintoken={quote(self._admintoken)}" if self._admintoken else ""
        made = self.post_json(
            f"/api/repos{token}", {"alias": "bench", "description": "dvid-es bench"}
        )
        self.root = made["root"]

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def node(self, rest: str) -> str:
        """Return the path of something in the bench's version."""
        return f"/api/node/{self.root}/{rest}"

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "") -> Answer:
        """Send one request and return its answer, which is 200.

        Raises:
            TargetError: any other answer, or none.
        """
        try:
            answer = self.connection.send(method, path, body, kind)
        except (OSError, MalformedAnswer) as error:
            self.connection.close()
            raise TargetUnreachable(f"{self.name}: {method} {path}: {error}") from error
        if answer.status != 200:
            text = answer.body()[:400].decode("utf-8", "replace").strip()
            raise TargetError(f"{self.name}: {method} {path}: {answer.status} {text}")
        return answer

    def get(self, path: str, body: bytes = b"") -> bytes:
        """Return the body of a GET (which may carry a body itself)."""
        return self.send("GET", path, body, "application/json").body()

    def get_json(self, path: str, body: Any = None) -> Any:
        """Return the parsed answer of a GET, with JSON as its body if that is not None."""
        return json.loads(self.get(path, b"" if body is None else json.dumps(body).encode()))

    def post_json(self, path: str, body: Any) -> Any:
        """Post JSON and return the parsed answer."""
        data = json.dumps(body).encode()
        return json.loads(self.send("POST", path, data, "application/json").body() or b"null")

    def new_instance(self, **settings: str) -> str:
        """Make an instance under a name of its own and return that name.

        Args:
            settings: `typename` and what else the datatype takes, as strings.
        """
        self._instances += 1
        name = f"bench{self._instances}"
        self.post_json(f"/api/repo/{self.root}/instance", {"dataname": name, **settings})
        return name

    def new_labelmap(self, levels: int = 0) -> str:
        """Make a labelmap instance of 64^3 blocks with so many lower resolutions."""
        return self.new_instance(**LABELMAP, MaxDownresLevel=str(levels))

    def fixture(self, name: str, make: Callable[["Target"], Any]) -> Any:
        """Return what `make` gave for this name, making it at the first call."""
        if name not in self._fixtures:
            self._fixtures[name] = make(self)
        return self._fixtures[name]

    def cpu_seconds(self) -> float | None:
        """Return the CPU seconds of the server so far, or None if its process is not known."""
        return None if self.pid is None else process.cpu_seconds(self.pid)

    def timed(self, requests: list[tuple[str, str, bytes]]) -> tuple[Sample, Answer]:
        """Send requests (method, path, body) one after the other; return figures, last answer.

        What the client does between an answer and the next request is not counted.
        """
        cpu_before = self.cpu_seconds()
        seconds = 0.0
        answer: Answer | None = None
        for method, path, body in requests:
            answer = self.send(method, path, body)
            seconds += answer.seconds
        assert answer is not None, "no requests to time"
        return Sample(len(requests), seconds, self._cpu_since(cpu_before)), answer

    def loaded(self, queues: list[list[bytes]], *, keep: bool = False) -> tuple[Sample, Load]:
        """Send queues of whole requests at the same time; return figures and answers."""
        cpu_before = self.cpu_seconds()
        load = drive(self.address, queues, keep=keep)
        cpu = self._cpu_since(cpu_before)
        return Sample(load.requests, load.seconds, cpu, load.client_cpu_s), load

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Ask again and again, at growing intervals, until something holds.

        Raises:
            TargetError: it does not within the time.
        """
        end, pause = time.perf_counter() + seconds, 0.01
        while not holds():
            if time.perf_counter() > end:
                raise TargetError(f"{self.name}: {what} did not come within {seconds:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _cpu_since(self, before: float | None) -> float | None:
        after = self.cpu_seconds()
        return None if before is None or after is None else after - before
