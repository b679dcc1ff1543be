"""kill -9 of the server over HTTP under load: what was acknowledged is there, the rest wholly or not at all."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.forked import Connection, Died, ForkedServer, Zygote
from tests.servers import dvid_es

CLIENTS = 4
GONE = (OSError, http.client.HTTPException)
GRID = 16
"""Supervoxels along each axis of the block; each is a cube of 4^3 voxels."""


def segmentation() -> bytes:
    cells = np.arange(1, GRID**3 + 1, dtype=np.uint64).reshape(GRID, GRID, GRID)
    return cells.repeat(4, 0).repeat(4, 1).repeat(4, 2).tobytes()


@dataclass
class Known:
    """What one client was told, and the one request that it has no answer to."""

    values: dict[str, bytes | None] = field(default_factory=dict)
    """By key; None after an acknowledged delete."""

    bodies: dict[int, int] = field(default_factory=dict)
    """Body of each supervoxel that was merged or cleaved."""

    open_value: tuple[str, bytes | None] | None = None
    open_merge: tuple[int, int] | None = None
    """Supervoxel and the body that it may belong to now."""

    sequence: int = -1
    acknowledged: int = 0


class Client:
    """Writes values of its own keys, and merges its own supervoxels into its own body."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.known = Known()
        self.dice = random.Random(seed * 100 + number)
        self.count = 0
        first = 1 + number * (GRID**3 // CLIENTS)
        self.body = first
        self.free = list(range(first + 1, first + GRID**3 // CLIENTS))

    def settle(self) -> None:
        """Forget the open request once the restarted server has shown what became of it."""
        known = self.known
        known.open_value = known.open_merge = None

    def write(self, connection: Connection, base: str) -> None:
        known, dice = self.known, self.dice
        self.count += 1
        if dice.random() < 0.25 and self.free:
            supervoxel = self.free.pop(dice.randrange(len(self.free)))
            known.open_merge = (supervoxel, self.body)
            body = json.dumps([self.body, supervoxel]).encode()
            answer = connection.call("POST", f"{base}/segmentation/merge", body)
            assert answer.status == 200, answer
            known.bodies[supervoxel] = self.body
            known.open_merge = None
        else:
            key = f"{self.number}-{dice.randrange(20)}"
            if dice.random() < 0.1:
                known.open_value = (key, None)
                answer = connection.call("DELETE", f"{base}/kv/key/{key}")
                value = None
            else:
                size = dice.choice((10, 300, 3000, 60_000))
                value = b"%d:" % self.count + dice.randbytes(size)
                known.open_value = (key, value)
                answer = connection.call("POST", f"{base}/kv/key/{key}", value)
            assert answer.status == 200, answer
            known.values[key] = value
            known.open_value = None
        assert answer.sequence > known.sequence
        known.sequence = answer.sequence
        known.acknowledged += 1

    def run(self, server: ForkedServer, base: str) -> None:
        connection = server.connect()
        try:
            while True:
                self.write(connection, base)
        except GONE:
            pass
        finally:
            connection.close()

    def check(self, server: ForkedServer, base: str) -> None:
        known = self.known
        for key, value in known.values.items():
            found = stored(server, base, key)
            allowed = [value]
            if known.open_value is not None and known.open_value[0] == key:
                allowed.append(known.open_value[1])
            assert found in allowed, f"{key}: {found and found[:20]!r}"
            known.values[key] = found
        if known.open_value is not None and known.open_value[0] not in known.values:
            key, value = known.open_value
            found = stored(server, base, key)
            assert found in (None, value), f"{key} is there in part"
            known.values[key] = found
        asked = [*known.bodies]
        if known.open_merge is not None:
            asked.append(known.open_merge[0])
        if asked:
            answer = server.ok("GET", f"{base}/segmentation/mapping", json.dumps(asked).encode())
            mapped = dict(zip(asked, json.loads(answer.body), strict=True))
            for supervoxel, body in known.bodies.items():
                assert mapped[supervoxel] == body, f"supervoxel {supervoxel} lost its merge"
            if known.open_merge is not None:
                supervoxel, body = known.open_merge
                assert mapped[supervoxel] in (supervoxel, body)
                if mapped[supervoxel] == body:
                    known.bodies[supervoxel] = body
                else:
                    self.free.append(supervoxel)
            inside = [s for s, body in known.bodies.items() if body == self.body]
            answer = server.ok("GET", f"{base}/segmentation/supervoxels/{self.body}")
            assert sorted(json.loads(answer.body)) == sorted([self.body, *inside])
            answer = server.ok("GET", f"{base}/segmentation/size/{self.body}")
            assert json.loads(answer.body)["voxels"] == 64 * (len(inside) + 1)
        self.settle()


def stored(server: ForkedServer, base: str, key: str) -> bytes | None:
    answer = server.call("GET", f"{base}/kv/key/{key}")
    if answer.status == 404:
        return None
    assert answer.status == 200, answer
    return answer.body


def prepared(server: ForkedServer) -> str:
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    path = server.new_instance(root, "labelmap", "segmentation")
    server.ok("POST", f"{path}/raw/0_1_2/64_64_64/0_0_0", segmentation())
    return f"/api/node/{root}"


def run_cycles(zygote: Zygote, data: Path, cycles: int, bug: str = "-", seed: int = 1) -> int:
    """Return how many writes were acknowledged; an assertion fails if one is lost."""
    with zygote.start(data) as server:
        base = prepared(server)
        assert server.stop() == 0
    dice = random.Random(seed)
    clients = [Client(number, seed) for number in range(CLIENTS)]
    for _ in range(cycles):
        server = zygote.start(data, bug=bug)
        try:
            for client in clients:
                client.check(server, base)
            threads = [
                threading.Thread(target=client.run, args=(server, base)) for client in clients
            ]
            for thread in threads:
                thread.start()
            # The moment of the kill is what varies; nothing waits for anything here.
            threading.Event().wait(dice.uniform(0.02, 0.25))
        finally:
            server.kill()
        for thread in threads:
            thread.join(60)
        if dice.random() < 0.15:
            shutil.rmtree(data / "projections")
    with zygote.start(data) as server:
        for client in clients:
            client.check(server, base)
        assert server.stop() == 0
    return sum(client.known.acknowledged for client in clients)


def test_no_acknowledged_write_is_lost_by_killing_the_server(zygote: Zygote, data: Path) -> None:
    acknowledged = run_cycles(zygote, data, cycles=100)
    assert acknowledged > 100
    done = dvid_es("verify", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
def test_no_acknowledged_write_is_lost_in_thousands_of_kills(zygote: Zygote, data: Path) -> None:
    for seed in range(20):
        run_cycles(zygote, data.with_name(f"data-{seed}"), cycles=1000, seed=seed)


def test_the_recipe_catches_a_writer_that_answers_too_early(zygote: Zygote, data: Path) -> None:
    with pytest.raises((Died, AssertionError)):
        run_cycles(zygote, data, cycles=10, bug="late")
