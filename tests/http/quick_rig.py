"""A server whose connections a test feeds by hand, byte by byte, on the short way and on the long one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from sanic.http.constants import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from dvid_es.bootstrap import make_application, make_engine
from dvid_es.clock import SystemClock
from dvid_es.http.quick import QuickProtocol
from dvid_es.http.serving import open_server
from dvid_es.settings import Settings


class LongProtocol(QuickProtocol):
    __slots__ = ()
    data_received = HttpProtocol.data_received


class StoppedClock(SystemClock):
    def now_ns(self) -> int:
        return 1_700_000_000_123_456_789


class Wire(asyncio.Transport):
    """What a protocol writes, without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.7", 1234) if name in ("peername", "sockname") else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Rig:
    """A server in the loop of the test, whose connections are fed by hand."""

    def __init__(self, settings: Settings) -> None:
        self.loop = asyncio.new_event_loop()
        self.engine = make_engine(settings, StoppedClock())
        self.app = make_application(settings, self.engine)
        self.server = self.app.ctx.server
        self.quick_answers = 0
        long = self.server.answer_quickly

        def counted(head: Any) -> Any:
            found = long(head)
            self.quick_answers += found is not None
            return found

        self.server.answer_quickly = counted
        write = self.server.write_quickly

        def counted_write(head: Any) -> Any:
            found = write(head)
            self.quick_answers += found is not None
            return found

        self.server.write_quickly = counted_write
        self.transactions = 0
        store: Any = self.engine.store
        begin, finish = store.begin_read, store.finish_read

        def counted_begin(*words: Any) -> Any:
            self.transactions += 1
            return begin(*words)

        def counted_finish(txn: Any) -> None:
            self.transactions -= 1
            finish(txn)

        store.begin_read, store.finish_read = counted_begin, counted_finish
        listener = socket.create_server(("127.0.0.1", 0))
        self.listening = self.loop.run_until_complete(open_server(self.app, listener))

    def close(self) -> None:
        self.listening.close()
        self.loop.run_until_complete(self.listening.wait_closed())
        self.loop.close()
        self.engine.close()

    async def settled(self, protocol: Any) -> None:
        """Wait until a connection waits for bytes, or is over."""
        deadline = self.loop.time() + 10
        while self.loop.time() < deadline:
            http = protocol._http
            waiting = any(not waiter.done() for waiter in protocol._data_received._waiters)
            if protocol._task is None or (
                protocol._writing is None
                and http is not None
                and http.stage in (Stage.IDLE, Stage.REQUEST, Stage.HANDLER)
                and waiting
            ):
                return
            await asyncio.sleep(0)
        raise AssertionError("the connection neither waits nor ends")

    async def connect(self, kind: type[QuickProtocol]) -> tuple[Any, Wire]:
        protocol: Any = kind(loop=self.loop, app=self.app, connections=set())
        wire = Wire()
        protocol.connection_made(wire)
        await self.settled(protocol)
        return protocol, wire

    async def exchange(
        self, kind: type[QuickProtocol], parts: Sequence[bytes], hurried: bool
    ) -> tuple[bytes, int]:
        protocol, wire = await self.connect(kind)
        for part in parts:
            if wire.closed:
                break
            protocol.data_received(part)
            if not hurried:
                await self.settled(protocol)
        await self.settled(protocol)
        written = wire.written
        await self.hang_up(protocol, wire)
        assert wire.written == written
        return wire.written, protocol.state["requests_count"]

    async def hang_up(self, protocol: Any, wire: Wire) -> None:
        wire.closed = True
        task = protocol._task
        protocol.connection_lost(None)
        if task is not None:
            await task

    def ask(
        self, kind: type[QuickProtocol], *parts: bytes, hurried: bool = False
    ) -> tuple[bytes, int]:
        return self.loop.run_until_complete(self.exchange(kind, parts, hurried))

    def post(self, path: str, body: bytes = b"{}") -> Any:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        written, _ = self.ask(LongProtocol, head.encode() + body)
        assert written.startswith(b"HTTP/1.1 200"), written
        return written.partition(b"\r\n\r\n")[2]

    def same(self, *parts: bytes, hurried: bool = False) -> tuple[bytes, bool]:
        """Send the same both ways; return the answers and whether one of them was quick.

        A hurried client sends each part before anything has looked at the one before.
        """
        monitor = self.server.monitor
        results = []
        for kind in (LongProtocol, QuickProtocol):
            before = (monitor.gets, monitor.puts, monitor.bytes_out, self.quick_answers)
            answers = self.ask(kind, *parts, hurried=hurried)
            after = (monitor.gets, monitor.puts, monitor.bytes_out, self.quick_answers)
            results.append((answers, [b - a for a, b in zip(before, after, strict=True)]))
        (long, long_counts), (quick, quick_counts) = results
        assert quick == long
        assert quick_counts[:3] == long_counts[:3], "the load is counted the same"
        assert long_counts[3] == 0
        assert monitor.active == 0
        assert self.transactions == 0
        return quick[0], quick_counts[3] > 0


def get(target: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x:80", *lines, "", "")).encode()


def at(kv: str, data: bytes) -> bytes:
    return data.replace(b"KV", kv.encode())
