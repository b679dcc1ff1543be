from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings as hypothesis_settings
from sanic import Sanic

from dvid_es.bootstrap import make_application, make_engine
from dvid_es.clock import Clock
from dvid_es.engine import Engine
from dvid_es.http.serving import open_server
from dvid_es.settings import Settings

# The same examples each time: what passed once passes again, and a change alone can make it fail.
hypothesis_settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis_settings.load_profile("repeatable")

_rewritten = threading.Event()
Sanic.test_mode = True  # one application after the other may have the same name


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Live:
    """A server on a real socket of this process; `call` is one request."""

    def __init__(self, engine: Engine, application: Sanic, port: int) -> None:
        self.engine = engine
        self.application = application
        self.port = port
        self.base = f"http://127.0.0.1:{port}"

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        json_body: Any = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        if json_body is not None:
            body = json.dumps(json_body).encode()
        if query:
            path += ("&" if "?" in path else "?") + urllib.parse.urlencode(query)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            data = answer.read()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, data)
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: bytes | None = None, **more: Any) -> Answer:
        answer = self.call(method, path, body, **more)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.body[:400]!r}"
        return answer

    def new_repo(self, **more: str) -> str:
        return self.ok("POST", "/api/repos", json_body={"alias": "test", **more}).json()["root"]

    def new_instance(self, uuid: str, typename: str, dataname: str, **config: Any) -> str:
        config = {"typename": typename, "dataname": dataname, **config}
        self.ok("POST", f"/api/repo/{uuid}/instance", json_body=config)
        return f"/api/node/{uuid}/{dataname}"

    def commit(self, uuid: str) -> None:
        self.ok("POST", f"/api/node/{uuid}/commit", json_body={"note": "done"})

    def new_version(self, uuid: str) -> str:
        return self.ok("POST", f"/api/node/{uuid}/newversion", json_body={}).json()["child"]


@contextmanager
def running(settings: Settings, clock: Clock | None = None) -> Iterator[Live]:
    """Serve a data folder from a thread of this process; closes everything at the end."""
    engine = make_engine(settings, clock)
    application = make_application(settings, engine)
    # Sanic rewrites its classes by their sources with each start. Once is enough, and parsing in a
    # thread beside others sometimes fails in CPython 3.11 ("AST constructor recursion depth mismatch").
    application.config.TOUCHUP = not _rewritten.is_set()
    _rewritten.set()
    started = threading.Event()
    state: dict[str, Any] = {}

    def serve() -> None:
        async def main() -> None:
            # A socket of our own: Sanic takes port 0 for its default port.
            listener = socket.create_server(("127.0.0.1", 0))
            server = await open_server(application, listener)
            state["port"] = server.server.sockets[0].getsockname()[1]
            state["loop"] = asyncio.get_running_loop()
            state["stop"] = asyncio.Event()
            started.set()
            await state["stop"].wait()
            server.close()
            await server.wait_closed()

        asyncio.run(main())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(30), "the server did not start"
    try:
        yield Live(engine, application, state["port"])
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)
        engine.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", admin_token="secret")


@pytest.fixture
def live(settings: Settings) -> Iterator[Live]:
    with running(settings) as server:
        yield server


@pytest.fixture(scope="session")
def run_server() -> Any:
    """The context manager `running`, for tests that start servers themselves."""
    return running
