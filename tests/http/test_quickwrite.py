"""Small writes on live connections, answered by the writer's thread or by the event loop."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dvid_es.commands import Write, Written
from dvid_es.http import quickwrite


class Sent:
    """Which threads have written answers by themselves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[str] = []
        self.write: Callable[[int, bytes], int] = os.write
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.ended = threading.Semaphore(0)
        replaced = SimpleNamespace(dup=self.dup, close=self.close, write=self.noted)
        monkeypatch.setattr(quickwrite, "os", replaced)

    def dup(self, number: int) -> int:
        self.opened.append(os.dup(number))
        return self.opened[-1]

    def close(self, number: int) -> None:
        self.closed.append(number)
        os.close(number)
        self.ended.release()

    def wait(self) -> None:
        """Wait until everything that was opened is closed."""
        for _ in self.opened:
            assert self.ended.acquire(timeout=60)

    def noted(self, number: int, data: bytes) -> int:
        self.threads.append(threading.current_thread().name)
        return self.write(number, data)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


class Client:
    def __init__(self, live: Any, kv: str) -> None:
        self.kv = kv
        self.socket = socket.create_connection(("127.0.0.1", live.port), timeout=60)
        self.file = self.socket.makefile("rb")

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {self.kv}/{path} HTTP/1.1\r\nHost: x\r\n{length}\r\n"
        self.socket.sendall(head.encode() + body)

    def receive(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value.strip()
        return status, headers, self.file.read(int(headers["content-length"]))

    def ask(self, *words: Any) -> tuple[int, dict[str, str], bytes]:
        self.send(*words)
        return self.receive()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def kv(live: Any) -> str:
    root = json.loads(live.ok("POST", "/api/repos", b"{}").body)["root"]
    live.ok("POST", f"/api/repo/{root}/instance", b'{"typename": "keyvalue", "dataname": "kv"}')
    return f"/api/node/{root}/kv"


@pytest.fixture
def client(live: Any, kv: str) -> Iterator[Client]:
    found = Client(live, kv)
    yield found
    found.close()


def test_who_writes_alone_is_answered_by_the_writer(client: Client, sent: Sent) -> None:
    sequences = []
    for number in range(50):
        status, headers, body = client.ask("POST", f"key/k{number % 5}", b"%d" % number)
        assert (status, body, headers["connection"]) == (200, b"", "keep-alive")
        sequences.append(int(headers["x-dvid-es-seq"]))
        assert client.ask("GET", f"key/k{number % 5}")[2] == b"%d" % number
    assert sequences == list(range(sequences[0], sequences[0] + 50))
    assert sent.threads == ["writer"] * 50


def test_a_refusal_is_sent_the_same_way(client: Client, sent: Sent) -> None:
    client.ask("POST", "key/a", b"1")
    client.send("POST", "key/a?dryrun=true", b"2")
    assert json.loads(client.receive()[2])["dryrun"] is True
    client.socket.sendall(
        f"POST {client.kv}/key/a HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert client.receive()[0] == 412
    assert client.ask("GET", "key/a")[2] == b"1"
    assert sent.threads == ["writer"] * 3


@pytest.mark.parametrize("taken", [0, 1, 40, None], ids=["nothing", "a byte", "some", "an error"])
def test_what_the_writer_cannot_send_is_sent_by_the_loop(
    client: Client, sent: Sent, taken: int | None
) -> None:
    def write(number: int, data: bytes) -> int:
        if not taken:
            raise BlockingIOError if taken == 0 else OSError("no buffers")
        return os.write(number, data[:taken])

    sent.write = write
    for number in range(5):
        status, headers, body = client.ask("POST", "key/a", b"%d" % number)
        assert (status, body, headers["content-length"]) == (200, b"", "0")
        assert client.ask("GET", "key/a")[2] == b"%d" % number
    assert len(sent.threads) == 5


def test_what_a_client_sends_meanwhile_is_answered_next(client: Client, sent: Sent) -> None:
    for number in range(20):
        client.send("POST", "key/a", b"%d" % number)
        client.send("GET", "key/a")
        client.send("POST", "key/b", b"b")
        assert client.receive()[0] == 200
        assert client.receive()[2] == b"%d" % number
        assert client.receive()[0] == 200
    assert "writer" in sent.threads


def test_a_client_that_hangs_up_leaves_nothing_open(
    live: Any, kv: str, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = live.application.ctx.server
    held: list[Write] = []
    came = threading.Semaphore(0)

    def hold(write: Write) -> None:
        held.append(write)
        came.release()

    monkeypatch.setattr(server.deliveries, "submit", hold)
    for _ in range(10):
        client = Client(live, kv)
        client.send("POST", "key/a", b"1")
        assert came.acquire(timeout=60)
        client.close()
    submit = server.engine.writer.submit
    monkeypatch.setattr(server.deliveries, "submit", submit)
    for write in held:
        submit(write)
    sent.wait()
    assert server.monitor.active == 0
    assert len(sent.opened) == 10
    assert sent.closed == sent.opened


@pytest.mark.parametrize("alone", [False, True])
def test_who_is_not_alone_is_answered_by_the_loop(
    live: Any, client: Client, sent: Sent, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    def answer(write: Write) -> None:
        write.alone = alone
        told = threading.Thread(target=lambda: write.succeed(Written(b"", 7)), name="told")
        told.start()

    monkeypatch.setattr(live.application.ctx.server.deliveries, "submit", answer)
    for _ in range(3):
        status, headers, _ = client.ask("POST", "key/a", b"1")
        assert (status, headers["x-dvid-es-seq"]) == (200, "7")
    assert sent.threads == (["told"] * 3 if alone else [])


def test_many_write_and_read_what_they_wrote(live: Any, kv: str, sent: Sent) -> None:
    def write(name: str) -> None:
        client = Client(live, kv)
        for number in range(100):
            assert client.ask("POST", f"key/{name}", b"%d" % number)[0] == 200
            assert client.ask("GET", f"key/{name}")[2] == b"%d" % number
        client.close()

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(sent.threads) <= {"writer"}
    sent.wait()
    keys = json.loads(live.ok("GET", f"{kv}/keys").body)
    assert keys == [f"t{n}" for n in range(8)]
    assert live.application.ctx.server.monitor.active == 0
