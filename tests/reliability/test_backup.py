"""A copy of a running server's folder, made as docs/operations.md says, holds all that was answered before."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.forked import ForkedServer, Zygote
from tests.reliability.test_kill_server import CLIENTS, GONE, Client, prepared, stored
from tests.servers import dvid_es

ACKNOWLEDGED = 80
"""Writes before the copy begins."""


def load(
    server: ForkedServer,
    base: str,
    client: Client,
    stop: threading.Event,
    written: threading.Semaphore,
) -> None:
    connection = server.connect()
    try:
        while not stop.is_set():
            client.write(connection, base)
            written.release()
    except GONE:
        pass
    finally:
        connection.close()


def copy(data: Path, target: Path, order: tuple[str, str], between: Callable[[], None]) -> None:
    for part in order:
        for source in sorted((data / "repos").glob(f"*/{part}")):
            shutil.copytree(source, target / "repos" / source.parent.name / part)
        between()


def back_up(
    zygote: Zygote, data: Path, target: Path, order: tuple[str, str], writes_between: int = 0
) -> None:
    stop, written = threading.Event(), threading.Semaphore(0)
    with zygote.start(data) as server:
        base = prepared(server)
        clients = [Client(number, 5) for number in range(CLIENTS)]
        threads = [
            threading.Thread(target=load, args=(server, base, client, stop, written))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for _ in range(ACKNOWLEDGED):
            assert written.acquire(timeout=60)
        before = [dict(client.known.values) for client in clients]
        sequences = [client.known.sequence for client in clients]

        def wait_for_writes() -> None:
            for _ in range(writes_between):
                assert written.acquire(timeout=60)

        copy(data, target, order, wait_for_writes)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert server.stop() == 0
    assert sum(map(len, before)) > 10
    with zygote.start(target) as server:
        answer = server.ok("GET", f"{base}/kv/keys")
        assert answer.sequence >= max(sequences)
        for values in before:
            for key, value in values.items():
                found = stored(server, base, key)  # written, or deleted, again meanwhile
                if found is not None and value is not None:
                    assert int(found.split(b":")[0]) >= int(value.split(b":")[0])
        assert server.stop() == 0
    done = dvid_es("log", "verify", "--data", target)
    assert "record" not in done.stdout


def test_logs_then_packs_is_a_backup_of_a_running_server(
    zygote: Zygote, data: Path, tmp_path: Path
) -> None:
    for number in range(3):
        back_up(
            zygote, data.with_name(f"data-{number}"), tmp_path / f"copy-{number}", ("log", "packs")
        )


def test_the_recipe_catches_a_copy_in_the_wrong_order(
    zygote: Zygote, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        back_up(zygote, data, tmp_path / "copy", ("packs", "log"), writes_between=80)
