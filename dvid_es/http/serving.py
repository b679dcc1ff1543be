"""Running the application in this process: from a listening socket to the last answer."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

from sanic import Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP
from sanic.server import AsyncioServer

from dvid_es.http.quick import QuickProtocol

_POLL_SECONDS = 0.02


def run(
    application: Sanic,
    listener: socket.socket,
    *,
    grace_seconds: float,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish.

    Args:
        application: the server's.
        listener: a socket that listens; it is closed at the end.
        grace_seconds: how long requests may go on after the signal. A second signal ends that.
        started: called when requests are answered.
    """
    factory = _loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(application, listener, grace_seconds, started))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    application: Sanic,
    listener: socket.socket,
    grace_seconds: float,
    started: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server = await open_server(application, listener)
    started()
    await stop.wait()
    server.close()
    application.ctx.server.feed.close()
    await _drain(server, loop.time() + grace_seconds, hurry)


async def open_server(application: Sanic, listener: socket.socket) -> AsyncioServer:
    """Let an application answer on a listening socket, from the running loop."""
    # Sanic takes its empty Alt-Svc out of every answer only when it knows what it serves.
    settings = {"version": HTTP.VERSION_1}
    application.state.server_info.append(ApplicationServerInfo(settings=settings))
    server = await application.create_server(
        sock=listener, protocol=QuickProtocol, return_asyncio_server=True
    )
    assert server is not None
    await server.startup()
    await server.start_serving()
    return server


async def _drain(server: AsyncioServer, deadline: float, hurry: asyncio.Event) -> None:
    """Close idle connections at once, and the others when they have their answer."""
    loop = asyncio.get_running_loop()
    connections: set[Any] = server.connections
    # Sanic tells nobody when an answer is out or a connection gone; its own server polls too.
    while True:
        for connection in list(connections):
            if not connection.recv_buffer:  # no request that came before the end
                connection.close_if_idle()
        if not connections or loop.time() >= deadline or hurry.is_set():
            break
        await asyncio.sleep(_POLL_SECONDS)
    for connection in list(connections):
        connection.close(timeout=0)
