from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue import rows, writer
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry, finished


@pytest.fixture
def hanging_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], threading.Event]]:
    """Makes a step of the thread hang, as on a network disk, until the returned event is set."""
    held: list[threading.Event] = []

    def hang(step: str) -> threading.Event:
        go, real = threading.Event(), getattr(rows, step)
        held.append(go)

        def slow(*args: Any) -> Any:
            go.wait(30)
            return real(*args)

        monkeypatch.setattr(rows, step, slow)
        return go

    yield hang
    for go in held:
        go.set()
    for thread in threading.enumerate():
        if thread.name == "queue writer":
            thread.join(30)


async def test_a_hanging_disk_hangs_nobody_but_the_thread(
    path: Path,
    hanging_disk: Callable[[str], threading.Event],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = QueueStore(path, ManualClock())
    await store.open()
    await store.put(entry(1))
    go = hanging_disk("save_reports")
    put = store.put(entry(2))
    assert not await store.alive(timeout_s=0.05)
    assert not put.done()
    store.end(finished(entry(3)))
    assert store.ended("a3", "hall") is not None
    await store.close(timeout_s=0.05)
    assert any("slow" in record.message for record in caplog.records)
    go.set()
    await asyncio.wait_for(put, 10)


async def test_a_disk_that_is_slow_to_open_brings_its_entries_later(
    path: Path, hanging_disk: Callable[[str], threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with QueueStore(path, ManualClock()) as store:
        await store.put(entry(1))
    monkeypatch.setattr("kugel_bridge.queue.store.OPEN_TIMEOUT_S", 0.05)
    go = hanging_disk("load_entries")
    found: asyncio.Queue[list[Entry]] = asyncio.Queue()
    async with QueueStore(path, ManualClock(), on_found=found.put_nowait) as store:
        assert store.entries() == []
        put = store.put(entry(2))
        go.set()
        assert [one.sequence for one in await asyncio.wait_for(found.get(), 10)] == [1]
        await put


async def test_what_comes_during_a_commit_goes_into_the_next_one(store: QueueStore) -> None:
    first = store.put(entry(0))
    await first
    commits = store.status.commits
    puts = [store.put(entry(n)) for n in range(1, 200)]
    await asyncio.gather(*puts)
    # The thread may see the first few before the rest has come.
    assert store.status.commits - commits < 20


async def test_the_hand_over_is_bounded_but_takes_the_end_of_a_row(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_HANDED_OVER", 10)
    async with QueueStore(path, ManualClock()) as store:
        await store.put([entry(n) for n in range(5)])
        # Nothing below lets the event loop turn; what the thread takes away meanwhile is little.
        puts = [store.put([entry(n, id=f"{n}.{i}") for i in range(4)]) for n in range(100, 1_100)]
        for n in range(5):
            store.end(finished(entry(n)))
        results = await asyncio.gather(*puts, return_exceptions=True)
        refused = [error for error in results if isinstance(error, StorageError)]
        assert refused
        assert "too slow" in str(refused[0])
        assert await store.alive()
        assert store.status.handed_over == 0
    left = {one.sequence for one in stored_entries(path)}
    assert not left & set(range(5))
    assert len(left) == len(puts) - len(refused)


async def test_usage_alone_is_written_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "USAGE_FLUSH_S", 0.05)
    async with QueueStore(path, ManualClock()) as store:
        store.add_usage(datetime.date(2027, 1, 11), characters=3)
        async with asyncio.timeout(30):
            while not store.status.commits:
                # The watch over the writer asks for nothing to be put off.
                assert await store.alive()
                await asyncio.sleep(0.01)


async def test_a_fault_of_ours_in_one_batch_spares_the_next(
    store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(row: rows.Row) -> int:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "size_of", buggy)
        with pytest.raises(StorageError, match="fault in kugel-bridge"):
            await store.put(entry(1))
    await store.put(entry(2))
    assert await store.alive()
