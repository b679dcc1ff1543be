from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import msgspec
import numpy as np
import pytest
from sanic.http.constants import Stage

from dvid_es.http import budget as budgets
from dvid_es.http.budget import SMALL_BYTES, Budget

MB = 1 << 20


class Client:
    """Stands for a request whose answer is under way."""

    def __init__(self) -> None:
        self.stage = Stage.RESPONSE
        self.left = 1000
        self._time = 0.0
        self.task: asyncio.Task[None] | None = None

    stream = protocol = transport = property(lambda self: self)

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        assert self.task is not None
        self.task.cancel()


class Scene:
    """Answers that begin and end when the test says so."""

    def __init__(self, limit: int) -> None:
        self.budget = Budget(limit)
        self.begun: list[str] = []
        self.clients: dict[str, Client] = {}
        self.doors: dict[str, asyncio.Event] = {}

    async def answer(self, name: str, size: int, real: int | None = None) -> None:
        async with self.budget.share(size, self.clients[name]) as share:  # type: ignore[arg-type]
            self.begun.append(name)
            if real is not None:
                await share.resize(real)
                self.begun.append(f"{name} {real // MB}")
            await self.doors[name].wait()

    async def start(self, name: str, size: int, real: int | None = None) -> None:
        self.clients[name], self.doors[name] = Client(), asyncio.Event()
        self.clients[name].task = asyncio.ensure_future(self.answer(name, size, real))
        await self.rest()

    async def rest(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self, *names: str) -> None:
        for name in names:
            self.doors[name].set()
        await self.rest()

    async def cancel(self, name: str) -> None:
        self.clients[name].abort()
        await self.rest()


async def test_answers_that_do_not_fit_wait_in_their_order() -> None:
    scene = Scene(100 * MB)
    for name, size in (("a", 60), ("b", 50), ("c", 10), ("d", 40)):
        await scene.start(name, size * MB)
    assert scene.begun == ["a"], "c would fit, but b was first"
    await scene.end("a")
    assert scene.begun == ["a", "b", "c", "d"]
    assert scene.budget.taken == scene.budget.most == 100 * MB
    await scene.end("b", "c", "d")
    assert scene.budget.taken == 0
    assert scene.budget._timer is not None
    scene.budget._timer.cancel()


async def test_small_answers_wait_for_nobody() -> None:
    scene = Scene(100 * MB)
    await scene.start("a", 100 * MB)
    await scene.start("b", SMALL_BYTES)
    assert scene.begun == ["a", "b"]
    assert scene.budget.taken == 100 * MB


async def test_an_answer_beyond_the_budget_is_made_alone() -> None:
    scene = Scene(100 * MB)
    await scene.start("a", 10 * MB)
    await scene.start("huge", 1000 * MB)
    assert scene.begun == ["a"]
    await scene.end("a")
    assert scene.begun == ["a", "huge"]
    await scene.start("c", 10 * MB)
    await scene.end("huge")
    assert scene.begun == ["a", "huge", "c"]
    assert scene.budget.most == 100 * MB


async def test_what_an_answer_turns_out_to_take_is_given_back_or_waited_for() -> None:
    scene = Scene(100 * MB)
    await scene.start("a", 90 * MB, real=20 * MB)
    await scene.start("b", 10 * MB, real=95 * MB)
    await scene.start("c", 10 * MB)
    assert scene.begun == ["a", "a 20", "b"]
    assert scene.budget.taken == 20 * MB
    await scene.end("a")
    assert scene.begun[3:] == ["b 95"]
    await scene.end("b")
    assert scene.begun[4:] == ["c"]
    await scene.start("d", 50 * MB)
    await scene.start("e", 40 * MB, real=60 * MB)
    await scene.cancel("e")
    assert scene.budget.taken == 60 * MB
    await scene.end("c", "d")
    assert scene.budget.taken == 0
    assert not scene.budget._holders


async def test_whoever_gives_up_waiting_takes_nothing_and_holds_up_nobody() -> None:
    scene = Scene(100 * MB)
    await scene.start("a", 60 * MB)
    await scene.start("b", 50 * MB)
    await scene.start("c", 40 * MB)
    await scene.cancel("b")
    assert scene.begun == ["a", "c"]
    # Cancelled at the moment when it was its turn.
    await scene.start("d", 80 * MB)
    await scene.start("e", 80 * MB)
    scene.doors["a"].set()
    scene.doors["c"].set()
    while scene.budget.taken != 80 * MB:
        await asyncio.sleep(0)
    await scene.cancel("d")
    assert scene.begun[-1] == "e"
    await scene.end("e")
    assert scene.budget.taken == 0
    assert not scene.budget._holders


async def test_a_stalled_client_is_cut_only_while_others_wait(monkeypatch: Any) -> None:
    monkeypatch.setattr(budgets, "CHECK_SECONDS", 1e9)
    now = 1000.0
    scene = Scene(100 * MB)
    loop: Any = type("Loop", (), {"time": lambda _: now, "call_later": lambda *_: None})()

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        scene.budget._check(loop)
        await scene.rest()

    await scene.start("stalled", 50 * MB)
    await scene.start("reading", 50 * MB)
    for _ in range(100):
        await pass_time(1)
    assert scene.budget.taken == 100 * MB, "nobody waits"
    await scene.start("waiting", 10 * MB)
    for _ in range(10):
        scene.clients["reading"].left -= 1
        await pass_time(1)
    assert scene.begun == ["stalled", "reading"]
    scene.clients["reading"].left -= 1
    await pass_time(1.5)
    assert scene.clients["stalled"].task.cancelled()  # type: ignore[union-attr]
    assert scene.begun == ["stalled", "reading", "waiting"]
    await scene.start("more", 50 * MB)
    for name in ("reading", "waiting"):
        scene.clients[name].stage = Stage.HANDLER
    for _ in range(30):
        await pass_time(1)
    assert "more" not in scene.begun, "who makes an answer is not stalled"
    await scene.end("reading")
    assert "more" in scene.begun


@pytest.fixture
def small_budget(settings: Any) -> Any:
    return msgspec.structs.replace(settings, answer_bytes=20 * MB)


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("sparsevol/7", 16 << 20),
        ("raw/0_1_2/128_128_128/0_0_0", 12 << 20),
        ("raw/0_1_2/128_128_128/0_0_0?compression=gzip", 16 << 20),
        ("raw/0_1_2/128_128_128/0_0_0?compression=google", 16 << 20),
        ("blocks/128_128_128/0_0_0?compression=uncompressed", 16 << 20),
    ],
)
def test_large_answers_never_take_more_than_the_budget_and_none_is_held_up_for_ever(
    small_budget: Any, run_server: Any, monkeypatch: Any, path: str, taken: int
) -> None:
    monkeypatch.setattr(budgets, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(budgets, "PATIENCE_SECONDS", 0.1)
    with run_server(small_budget) as live:
        seg = live.new_instance(live.new_repo(), "labelmap", "seg")
        z, y, x = np.indices((128, 128, 128))
        voxels = ((x + y + z) % 2 * 7).astype("<u8")  # a body of as many runs as there can be
        live.ok("POST", f"{seg}/raw/0_1_2/128_128_128/0_0_0", voxels.tobytes())
        body = live.ok("GET", f"{seg}/{path}").body
        budget = live.application.ctx.server.budget
        assert budget.most == taken
        stalled = []
        for _ in range(4):
            link = socket.create_connection(("127.0.0.1", live.port), timeout=60)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.sendall(b"GET %s/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (seg.encode(), path.encode()))
            stalled.append(link)
        try:
            assert live.ok("GET", f"{seg}/{path}").body == body, "those that do not read are cut"
            size = live.ok("GET", f"{seg}/size/7").json()
            assert size == {"voxels": int(np.count_nonzero(voxels))}
        finally:
            for link in stalled:
                link.close()
        assert budget.most <= 20 * MB


def test_a_random_order_of_answers_never_overdraws_and_ends_at_nothing() -> None:
    async def walk(seed: int) -> None:
        rnd = random.Random(seed)
        scene = Scene(100 * MB)
        going: list[str] = []
        for step in range(120):
            if rnd.random() < 0.5 or not going:
                name = str(step)
                await scene.start(name, rnd.randrange(1, 120) * MB)
                going.append(name)
            else:
                name = going.pop(rnd.randrange(len(going)))
                await (scene.cancel if rnd.random() < 0.4 else scene.end)(name)
            assert scene.budget.taken <= 100 * MB
        await scene.end(*going)
        tasks = [client.task for client in scene.clients.values()]
        await asyncio.gather(*tasks, return_exceptions=True)  # type: ignore[arg-type]
        assert scene.budget.taken == 0
        assert not scene.budget._waiting
        assert not scene.budget._holders
        if scene.budget._timer is not None:
            scene.budget._timer.cancel()

    for seed in range(20):
        asyncio.run(walk(seed))
