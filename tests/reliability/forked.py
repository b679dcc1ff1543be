"""Servers forked from a process that has imported everything; see zygote.py."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.servers import START_SECONDS, environment


class Died(AssertionError):
    """The server ended before it answered; with what it said."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def sequence(self) -> int:
        return int(self.headers["x-dvid-es-seq"])


class Zygote:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def start(self, data: Path, *, limit: int = 0, bug: str = "-") -> ForkedServer:
        """Start a server and wait until it answers; a dead one raises `Died`."""
        self._count += 1
        output = self._folder / f"output-{self._count}"
        os.mkfifo(output)
        pid = int(self._ask("start", data, output, limit, bug))
        lines = []
        # Reading a fifo ends when its writer, the server, is gone.
        stream = output.open()
        for line in stream:
            lines.append(line)
            if "durability" in line:
                break
        found = re.search(r"serves http://127.0.0.1:(\d+)", "".join(lines))
        server = ForkedServer(self, pid, stream, int(found[1]) if found else 0)
        if found is None:
            code = server.wait()
            said = data.with_name(data.name + ".stderr").read_text()[-2000:]
            raise Died(f"the server ended with {code}: {said}")
        return server

    def end(self, pid: int, how: str) -> int:
        return int(self._ask(how, pid))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class ForkedServer:
    def __init__(self, zygote: Zygote, pid: int, output: object, port: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.port = port
        self._output = output
        self._gone = False

    def connect(self) -> Connection:
        return Connection(self.port)

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        connection = self.connect()
        try:
            return connection.call(method, path, body)
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: bytes | None = None) -> Answer:
        answer = self.call(method, path, body)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.body[:400]!r}"
        return answer

    def new_repo(self) -> str:
        root: str = json.loads(self.ok("POST", "/api/repos", b"{}").body)["root"]
        return root

    def new_instance(self, uuid: str, typename: str, name: str, **more: str) -> str:
        body = json.dumps({"typename": typename, "dataname": name, **more}).encode()
        self.ok("POST", f"/api/repo/{uuid}/instance", body)
        return f"/api/node/{uuid}/{name}"

    def kill(self) -> None:
        if not self._gone:
            self._gone = True
            self._zygote.end(self.pid, "kill")
            self._output.close()  # type: ignore[attr-defined]

    def wait(self) -> int:
        self._gone = True
        code = self._zygote.end(self.pid, "wait")
        self._output.close()  # type: ignore[attr-defined]
        return code

    def stop(self) -> int:
        os.kill(self.pid, 15)
        return self.wait()

    def __enter__(self) -> ForkedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Connection:
    """One client: its requests go over one connection, one after the other."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        self._http.request(method, path, body)
        answer = self._http.getresponse()
        data = answer.read()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, data)

    def close(self) -> None:
        self._http.close()


def now() -> float:
    return time.monotonic()
