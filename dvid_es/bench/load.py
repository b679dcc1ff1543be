"""Many clients at once from one thread: prepared requests, `poll`, and next to nothing else.

A client sends its next request as soon as its last answer is complete (a closed loop). The thread's
own CPU time is measured too: a rate at which the client is busy all the time says more about the
client than about the server.
"""

import select
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dvid_es.bench.answer import HEAD_END, AnswerReader, parse_head
from dvid_es.bench.client import Address


class LoadFailed(Exception):
    """An answer under load was not 200, or a connection broke."""


@dataclass
class Load:
    """What came of a load."""

    requests: int = 0
    seconds: float = 0.0
    client_cpu_s: float = 0.0
    bodies: list[list[bytes]] = field(default_factory=list)
    """Bodies of the answers, by client, in order; empty unless they were asked for."""


class _Client:
    """One connection of the load and the answer it waits for."""

    __slots__ = ("bodies", "buffer", "queue", "reader", "socket")

    def __init__(self, connection: socket.socket, queue: Iterator[bytes], keep: bool) -> None:
        self.socket = connection
        self.queue = queue
        self.buffer: bytearray | None = None
        self.reader = AnswerReader()
        self.bodies: list[bytes] | None = [] if keep else None

    def receive(self) -> bool:
        """Take what has arrived and say whether the answer is complete."""
        data = self.socket.recv(262_144)
        if self.buffer is None:
            # Nearly every small answer is complete after one recv; no parser object is needed.
            end = data.find(HEAD_END)
            if end >= 0:
                status, length, closes = parse_head(data[:end])
                if 0 <= length == len(data) - end - 4 and not closes:
                    self.take(status, data[end + 4 :] if self.bodies is not None else b"", data)
                    return True
            self.buffer, self.reader = bytearray(), AnswerReader()
        self.buffer += data
        if not self.reader.feed(self.buffer, len(self.buffer), ended=not data):
            return False
        body = b"".join([bytes(self.buffer[a:b]) for a, b in self.reader.spans])
        self.take(self.reader.status, body, self.buffer)
        self.buffer = None
        return True

    def take(self, status: int, body: bytes, whole: bytes | bytearray) -> None:
        """Keep the body if wanted; anything but 200 ends the load."""
        if status != 200:
            text = bytes(whole).partition(HEAD_END)[2][:400].decode("utf-8", "replace")
            raise LoadFailed(f"answer {status} under load: {text}")
        if self.bodies is not None:
            self.bodies.append(body)


def drive(
    address: Address,
    queues: Iterable[Iterable[bytes]],
    *,
    keep: bool = False,
    timeout_s: float = 120.0,
) -> Load:
    """Send each queue of whole requests over a connection of its own, all at the same time.

    Args:
        address: the server.
        queues: per client its requests, as `Address.request` makes them.
        keep: return the bodies of all answers.
        timeout_s: fail when no answer comes for so long.

    Raises:
        LoadFailed: an answer that is not 200, or none for `timeout_s`.
    """
    clients: dict[int, _Client] = {}
    try:
        for queue in queues:
            connection = address.connect(timeout_s)
            clients[connection.fileno()] = _Client(connection, iter(queue), keep)
        everyone = list(clients.values())
        load = _run(clients, timeout_s)
        load.bodies = [client.bodies or [] for client in everyone] if keep else []
        return load
    except OSError as error:
        raise LoadFailed(f"a connection broke under load: {error}") from error
    finally:
        for client in clients.values():
            client.socket.close()


def _run(clients: dict[int, _Client], timeout_s: float) -> Load:
    load = Load()
    poller = select.poll()
    cpu_started, started = time.thread_time(), time.perf_counter()
    active = 0
    for fd, client in clients.items():
        request = next(client.queue, None)
        if request is not None:
            poller.register(fd, select.POLLIN)
            client.socket.sendall(request)
            active += 1
    while active:
        events = poller.poll(timeout_s * 1000)
        if not events:
            raise LoadFailed(f"no answer for {timeout_s:.0f} s under load")
        for fd, _ in events:
            client = clients[fd]
            if not client.receive():
                continue
            load.requests += 1
            request = next(client.queue, None)
            if request is None:
                poller.unregister(fd)
                active -= 1
            else:
                client.socket.sendall(request)
    load.seconds = time.perf_counter() - started
    load.client_cpu_s = time.thread_time() - cpu_started
    return load
