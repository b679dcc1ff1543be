"""A way to a broker on which answers come late, twice or never, and requests are sent twice."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading

PRODUCE = 0


class Proxy:
    """Passes whole frames of Kafka's protocol; makes trouble when it is told to."""

    def __init__(self, seed: int) -> None:
        self.trouble = 0.0
        self.done: dict[str, int] = {}
        self._rng = random.Random(seed)
        self._target = ("127.0.0.1", 0)
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def servers(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.port}",)

    def start(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._spawn(self._accept)

    def _spawn(self, work, *words) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._sockets += [client, broker]
            produced: set[int] = set()
            self._spawn(self._pass, client, broker, produced, True)
            self._spawn(self._pass, broker, client, produced, False)

    def _pass(
        self, source: socket.socket, sink: socket.socket, produced: set[int], asks: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while (frame := _frame(source)) is not None:
                times = self._asked(frame, produced) if asks else self._answered(frame, produced)
                if times < 0:
                    break
                sink.sendall(times * frame)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _asked(self, frame: bytes, produced: set[int]) -> int:
        api, _, number = struct.unpack_from(">hhi", frame, 4)
        if api == PRODUCE:
            produced.add(number)
            if self._happens():
                return self._note("requests sent twice", 2)
        return 1

    def _answered(self, frame: bytes, produced: set[int]) -> int:
        (number,) = struct.unpack_from(">i", frame, 4)
        if number not in produced or not self._happens():
            return 1
        what = self._rng.choice(("answers late", "answers twice", "answers lost"))
        if what == "answers late":
            self._closing.wait(self._rng.random())
            return self._note(what, 1)
        return self._note(what, 2 if what == "answers twice" else -1)

    def _happens(self) -> bool:
        return self._rng.random() < self.trouble

    def _note(self, what: str, result: int) -> int:
        self.done[what] = self.done.get(what, 0) + 1
        return result

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()


def _frame(source: socket.socket) -> bytes | None:
    head = _exactly(source, 4)
    if head is None:
        return None
    rest = _exactly(source, struct.unpack(">i", head)[0])
    return None if rest is None else head + rest


def _exactly(source: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            return None
        data += more
    return data
