"""`serve`: the server itself, in this process.

The socket listens before anything heavy is imported or opened: clients that start a server and connect
a second later wait for their answer instead of being refused.
"""

import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvid_es import __version__
from dvid_es.cli.output import config_option, data_option, progress_bar
from dvid_es.cli.process import (
    log_to_file,
    pid_file,
    raise_malloc_thresholds,
    switch_threads_sooner,
)
from dvid_es.errors import DvidError, SettingsError
from dvid_es.settings import Settings, is_loopback, load

if TYPE_CHECKING:
    from dvid_es.engine import Engine

DEMO_FOLDER = Path("dvid-demo")


@click.command()
@data_option
@click.option("--host", help="Address to listen on. Default: 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port. Default: 8000; 0 for a free one."
)
@config_option
@click.option("--demo", is_flag=True, help="Make a small segmentation and print what to try.")
@click.option(
    "--insecure-bind",
    is_flag=True,
    help="Listen to other machines though anybody may read and write: for trusted networks, or"
    " behind a proxy that checks who calls.",
)
def serve(
    data: Path | None,
    host: str | None,
    port: int | None,
    config: Path | None,
    demo: bool,
    insecure_bind: bool,
) -> None:
    """Serve a data folder over HTTP until SIGTERM or Ctrl-C."""
    if demo and data is None and config is None:
        data = DEMO_FOLDER
    settings = load(config, data=data, host=host, port=port, allow_open_bind=insecure_bind or None)
    refuse_open_bind(settings)
    for notice in settings.notices:
        click.echo(f"note: {notice}", err=True)
    log_to_file(settings)
    if settings.start_webhook or settings.start_janelia_config:
        from dvid_es.http.webhooks import announce_start

        announce_start(settings)
    with bind(settings.host, settings.port) as listener, pid_file(settings):
        raise_malloc_thresholds()
        switch_threads_sooner()
        _serve(settings, listener, demo)


def refuse_open_bind(settings: Settings) -> None:
    """Refuse to listen to other machines unless it was asked for in so many words.

    Raises:
        SettingsError: saying what to do instead.
    """
    if settings.allow_open_bind or is_loopback(settings.host):
        return
    raise SettingsError(
        f"{settings.host} can be reached from other machines, and this server asks nobody to log in:"
        " anybody there could read and change everything. Listen on 127.0.0.1 and put a proxy that"
        " checks who calls in front, or say --insecure-bind where every machine is trusted"
    )


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens already, so that clients may connect while the data is opened.

    Raises:
        SettingsError: the address is in use or is not one of this machine.
    """
    listener: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as problem:
        if listener is not None:
            listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {problem.strerror}") from problem
    return listener


def _serve(settings: Settings, listener: socket.socket, demo: bool) -> None:
    # A signal while the data is opened ends this process in order, not in the middle of a write.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from dvid_es.bootstrap import make_application, make_engine
    from dvid_es.http.serving import run

    with progress_bar("replaying") as progress:
        engine = make_engine(settings, progress=progress)
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def started() -> None:
        _announce(settings, engine, url)
        if demo:
            threading.Thread(target=_demonstrate, args=(url,), name="demo", daemon=True).start()

    try:
        run(
            make_application(settings, engine),
            listener,
            grace_seconds=settings.shutdown_seconds,
            started=started,
        )
    finally:
        engine.close()


def _announce(settings: Settings, engine: "Engine", url: str) -> None:
    repos = engine.repos()
    events = sum(repo.sequence + 1 for _, repo in repos)
    click.echo(f"dvid-es {__version__} serves {url}")
    click.echo(
        f"data: {settings.data.absolute()}, {len(repos)} repositories, {events} events\n"
        f"durability: {settings.durability}",
    )


def _demonstrate(url: str) -> None:
    from dvid_es.cli.demo import make_demo

    try:
        click.echo(make_demo(url))
    except DvidError as problem:
        click.echo(f"the demonstration could not be made: {problem}", err=True)
