import asyncio
import threading
from collections.abc import Callable

import pytest

from dvid_es.commands import Write, Written
from dvid_es.errors import InvalidRequest
from dvid_es.http.delivery import Deliveries


class Writers:
    """Keeps what is submitted until it is told what to say."""

    def __init__(self) -> None:
        self.submitted: list[Write] = []

    def submit(self, write: Write) -> None:
        self.submitted.append(write)

    def say(self, *what: Callable[[], None]) -> None:
        thread = threading.Thread(target=lambda: [one() for one in what])
        thread.start()
        thread.join()


def write() -> Write:
    return Write(root="r", command=None)  # type: ignore[arg-type]


@pytest.fixture
def writer() -> Writers:
    return Writers()


@pytest.fixture
def deliveries(writer: Writers) -> Deliveries:
    return Deliveries(writer)  # type: ignore[arg-type]


async def begun(deliveries: Deliveries, count: int) -> list[asyncio.Task[Written]]:
    tasks = [asyncio.create_task(deliveries.written(write())) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_each_request_hears_of_its_own_write(writer: Writers, deliveries: Deliveries) -> None:
    one, two, three = await begun(deliveries, 3)
    first, second, third = writer.submitted
    writer.say(
        lambda: third.succeed(Written(b"c", 3)),
        lambda: first.succeed(Written(b"a", 1)),
        lambda: second.fail(InvalidRequest("no")),
    )
    assert await three == Written(b"c", 3)
    assert await one == Written(b"a", 1)
    with pytest.raises(InvalidRequest, match="no"):
        await two


async def test_a_batch_of_answers_wakes_the_loop_once(
    writer: Writers, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = await begun(deliveries, 5)
    woken = []
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe

    def counted(*args: object) -> object:
        woken.append(args)
        return wake(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    writer.say(*(lambda one=one: one.succeed(Written(b"", 0)) for one in writer.submitted))
    await asyncio.gather(*tasks)
    assert len(woken) == 1


async def test_what_nobody_waits_for_is_withdrawn(writer: Writers, deliveries: Deliveries) -> None:
    gone, stays = await begun(deliveries, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    left, kept = writer.submitted
    assert (left.withdrawn, kept.withdrawn) == (True, False)
    writer.say(lambda: left.succeed(Written(b"", 1)), lambda: kept.succeed(Written(b"", 2)))
    assert await stays == Written(b"", 2)


def test_the_writer_goes_on_when_nobody_listens_any_more(
    writer: Writers, deliveries: Deliveries
) -> None:
    async def leave() -> None:
        await begun(deliveries, 2)

    asyncio.run(leave())
    one, two = writer.submitted
    one.succeed(Written(b"", 1))
    two.fail(InvalidRequest("no"))

    async def come_again() -> Written:
        (task,) = await begun(deliveries, 1)
        writer.say(lambda: writer.submitted[-1].succeed(Written(b"again", 3)))
        return await task

    assert asyncio.run(come_again()) == Written(b"again", 3)
