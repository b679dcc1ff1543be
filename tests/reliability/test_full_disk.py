"""A full disk: writes are refused with 507, reads go on, and no restart is needed when space returns."""

from __future__ import annotations

import json
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.forked import Answer, ForkedServer, Zygote
from tests.servers import dvid_es

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")


def small_values(server: ForkedServer, path: str, number: int) -> Answer:
    """Fills the log and the projections: nothing here is large enough for a pack."""
    return server.call("POST", f"{path}/key/k{number}", random.Random(number).randbytes(400))


def large_values(server: ForkedServer, path: str, number: int) -> Answer:
    """Fills the packs."""
    return server.call("POST", f"{path}/key/k{number}", random.Random(number).randbytes(300_000))


def content(write: Callable[..., Answer], number: int) -> bytes:
    return random.Random(number).randbytes(400 if write is small_values else 300_000)


def until_full(server: ForkedServer, path: str, write: Callable[..., Answer], most: int) -> int:
    """Write until the disk is full; return the number of acknowledged writes."""
    for number in range(most):
        answer = write(server, path, number)
        if answer.status != 200:
            assert answer.status == 507, answer
            assert b"space" in answer.body or b"grow" in answer.body
            return number
    raise AssertionError("the disk did not fill up")


@pytest.mark.parametrize("write", [small_values, large_values])
def test_a_full_disk_refuses_writes_serves_reads_and_needs_no_restart(
    zygote: Zygote, data: Path, write: Callable[..., Answer]
) -> None:
    run(zygote, data, write)
    done = dvid_es("verify", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_recipe_catches_a_server_that_needs_a_restart(zygote: Zygote, data: Path) -> None:
    with pytest.raises(AssertionError):
        run(zygote, data, small_values, bug="halts-when-full")


def run(zygote: Zygote, data: Path, write: Callable[..., Answer], bug: str = "-") -> None:
    limit = MIB if write is small_values else 2 * MIB
    with zygote.start(data, limit=limit, bug=bug) as server:
        path = server.new_instance(server.new_repo(), "keyvalue", "kv")
        filled = until_full(server, path, write, 20_000)
        assert filled > 3
        for _ in range(5):
            assert write(server, path, filled).status == 507
        for number in range(0, filled, max(1, filled // 20)):
            assert server.ok("GET", f"{path}/key/k{number}").body == content(write, number)
        keys = json.loads(server.ok("GET", f"{path}/keys").body)
        assert len(keys) == filled
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1 << 40, resource.RLIM_INFINITY))
        for number in range(filled, filled + 20):
            answer = write(server, path, number)
            assert answer.status == 200, answer
        assert len(json.loads(server.ok("GET", f"{path}/keys").body)) == filled + 20
        server.kill()
    with zygote.start(data) as server:
        for number in range(filled + 20):
            assert server.ok("GET", f"{path}/key/k{number}").body == content(write, number)
        assert server.stop() == 0
