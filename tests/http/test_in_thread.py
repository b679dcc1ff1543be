from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from dvid_es.http.node import NodeRequest


@pytest.fixture
def request_with_one_thread() -> Any:
    with ThreadPoolExecutor(1) as pool:
        yield SimpleNamespace(engine=SimpleNamespace(pool=pool))


async def test_work_in_a_thread_ends_before_a_cancelled_request_does(
    request_with_one_thread: Any,
) -> None:
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_end.wait()
        ended.set()
        raise ValueError("nobody hears of this")

    task = asyncio.ensure_future(NodeRequest.in_thread(request_with_one_thread, work))
    await asyncio.to_thread(started.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_waiting_work_of_a_cancelled_request_is_never_begun(
    request_with_one_thread: Any,
) -> None:
    may_end = threading.Event()
    begun: list[int] = []
    first = asyncio.ensure_future(NodeRequest.in_thread(request_with_one_thread, may_end.wait))
    second = asyncio.ensure_future(NodeRequest.in_thread(request_with_one_thread, begun.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    may_end.set()
    assert await first is True
    assert begun == []


async def test_errors_and_results_come_through(request_with_one_thread: Any) -> None:
    assert await NodeRequest.in_thread(request_with_one_thread, pow, 2, 5) == 32
    with pytest.raises(ZeroDivisionError):
        await NodeRequest.in_thread(request_with_one_thread, divmod, 1, 0)
