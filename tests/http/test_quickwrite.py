"""Small writes on live connections: their handlers are run by hand."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dvid_es.commands import Write
from dvid_es.errors import WritesHalted
from dvid_es.http.quickwrite import QuickWrite


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
    path: str = live.new_instance(live.new_repo(), "keyvalue", "kv")
    return path


@pytest.fixture
def client(live: Any, kv: str) -> Iterator[Client]:
    found = Client(live, kv)
    yield found
    found.close()


def test_each_write_is_there_for_the_next_request(live: Any, client: Client) -> None:
    sequences = []
    for number in range(50):
        status, headers, body = client.ask("POST", f"key/k{number % 5}", b"%d" % number)
        assert (status, body, headers["connection"]) == (200, b"", "keep-alive")
        sequences.append(int(headers["x-dvid-es-seq"]))
        assert client.ask("GET", f"key/k{number % 5}")[2] == b"%d" % number
    assert sequences == list(range(sequences[0], sequences[0] + 50))
    assert live.application.ctx.server.monitor.active == 0


def test_what_a_client_sends_meanwhile_is_answered_next(client: Client) -> None:
    for number in range(20):
        client.send("POST", "key/a", b"%d" % number)
        client.send("GET", "key/a")
        client.send("POST", "key/b", b"b")
        assert client.receive()[0] == 200
        assert client.receive()[2] == b"%d" % number
        assert client.receive()[0] == 200


def test_a_full_queue_is_an_answer(
    live: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(write: Write) -> None:
        raise WritesHalted("too many writes are waiting")

    server = live.application.ctx.server
    with monkeypatch.context() as patched:
        patched.setattr(server.deliveries, "submit", full)
        status, _, body = client.ask("POST", "key/a", b"1")
    assert status == 500
    assert b"too many writes are waiting" in body
    assert server.monitor.active == 0
    assert client.ask("POST", "key/a", b"1")[0] == 200


def test_a_client_that_hangs_up_takes_its_write_back(
    live: Any, kv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = live.application.ctx.server
    held: list[Write] = []
    came, gone = threading.Semaphore(0), threading.Semaphore(0)

    def hold(write: Write) -> None:
        held.append(write)
        came.release()

    withdraw = QuickWrite.withdraw

    def withdrawn(write: QuickWrite) -> None:
        withdraw(write)
        gone.release()

    monkeypatch.setattr(QuickWrite, "withdraw", withdrawn)
    with monkeypatch.context() as patched:
        patched.setattr(server.deliveries, "submit", hold)
        for _ in range(5):
            client = Client(live, kv)
            client.send("POST", "key/a", b"1")
            assert came.acquire(timeout=60)
            client.close()
            assert gone.acquire(timeout=60)
    for write in held:
        server.deliveries.submit(write)
    live.ok("POST", f"{kv}/key/b", b"1")  # answered behind them
    assert json.loads(live.ok("GET", f"{kv}/keys").body) == ["b"]
    assert server.monitor.active == 0


def test_many_write_and_read_what_they_wrote(live: Any, kv: str) -> None:
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
    keys = json.loads(live.ok("GET", f"{kv}/keys").body)
    assert keys == [f"t{n}" for n in range(8)]
    assert live.application.ctx.server.monitor.active == 0
