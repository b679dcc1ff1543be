"""Servers in processes of their own, started by the command that users type."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
START_SECONDS = 240
"""A first start compiles all kernels."""


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "dvid_es", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    found = dict(os.environ)  # noqa: TID251 - what a child process gets
    found.pop("DVID_ADMIN_TOKEN", None)
    path = os.pathsep.join([str(ROOT), found.get("PYTHONPATH", "")])
    return {**found, "PYTHONPATH": path.rstrip(os.pathsep), "PYTHONWARNINGS": "default", **more}


def dvid_es(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=START_SECONDS, cwd=cwd,
        env=environment(), check=False,
    )  # fmt: skip


class ServerProcess:
    """A running `dvid-es serve`."""

    def __init__(self, data: Path, *options: str | Path, **more: Any) -> None:
        self.errors = data.parent / f"{data.name}.stderr"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command("serve", "--data", data, "--port", "0", *options),
                stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(), **more,
            )  # fmt: skip
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            assert self._ready.wait(START_SECONDS), "the server did not start"
            self.url = self._url()
        except BaseException:
            self.kill()
            raise
        self.port = int(self.url.rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "durability" in line:
                self._ready.set()
        self._ready.set()

    def _url(self) -> str:
        for line in self.lines:
            if found := re.search(r"serves (http://\S+)", line):
                return found[1]
        raise AssertionError(f"no server: {self.lines} {self.errors.read_text()[-2000:]}")

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: bytes | None = None) -> bytes:
        status, _, data = self.call(method, path, body)
        assert status == 200, f"{method} {path}: {status} {data[:400]!r}"
        return data

    def new_repo(self, alias: str = "test") -> str:
        answer = json.loads(self.ok("POST", "/api/repos", json.dumps({"alias": alias}).encode()))
        root: str = answer["root"]
        return root

    def new_instance(self, uuid: str, typename: str, name: str, **more: str) -> str:
        body = json.dumps({"typename": typename, "dataname": name, **more}).encode()
        self.ok("POST", f"/api/repo/{uuid}/instance", body)
        return f"/api/node/{uuid}/{name}"

    def kill(self) -> None:
        """End the process as kill -9 does."""
        self.process.kill()
        self._finish()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the process to end and return its exit code."""
        self.process.send_signal(number)
        return self._finish()

    def _finish(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        elif self.process.stdout is not None:
            self.process.stdout.close()
