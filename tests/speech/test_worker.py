from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from kugel_bridge.speech.worker import Worker


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("test")
    worker.start()
    yield worker
    await worker.stop(5)


async def test_calls_are_done_in_order_in_one_other_thread(worker: Worker) -> None:
    done: list[int] = []
    worker.post(done.append, 1)
    worker.post(done.append, 2)
    assert await worker.call(threading.get_ident) != threading.get_ident()
    assert done == [1, 2]


async def test_an_error_comes_back(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0)
    worker.post(lambda: 1 // 0)
    assert await worker.call(lambda: 5) == 5


async def test_a_call_given_up_is_skipped_and_one_to_finish_is_done(worker: Worker) -> None:
    gate, done = threading.Event(), list[str]()
    worker.post(gate.wait)
    for kind, job in ((worker.call, "skipped"), (worker.finish, "finished")):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kind(done.append, job)
    gate.set()
    await worker.call(lambda: None)
    assert done == ["finished"]


async def test_it_tells_how_long_it_has_been_busy(worker: Worker) -> None:
    assert worker.busy_s == 0
    gate, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def job() -> None:
        loop.call_soon_threadsafe(begun.set)
        gate.wait()

    worker.post(job)
    await begun.wait()
    assert worker.busy_s > 0
    gate.set()
    await worker.call(lambda: None)


async def test_stopping_ends_the_thread() -> None:
    before = set(threading.enumerate())
    worker = Worker("test")
    worker.start()
    [own] = [t for t in set(threading.enumerate()) - before if t.name.startswith("test")]
    await worker.stop(5)
    assert not own.is_alive()


async def test_stopping_does_not_wait_for_a_disk_that_hangs() -> None:
    gate = threading.Event()
    worker = Worker("test")
    worker.start()
    worker.post(gate.wait)
    async with asyncio.timeout(30):
        await worker.stop(0.01)
    gate.set()
