from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue import writer
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry, finished


class SlowClock(ManualClock):
    """Lets the writer thread, and it alone, wait for the test: a disk that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def now(self):  # type: ignore[no-untyped-def]
        if threading.current_thread().name == "queue writer":
            self.go.wait(30)
        return super().now()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A path on which opening hangs, as on a network disk that is gone."""
    path = tmp_path / "queue.db.lock"
    os.mkfifo(path)
    yield tmp_path / "queue.db"


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
    import datetime

    monkeypatch.setattr(writer, "USAGE_FLUSH_S", 0.05)
    async with QueueStore(path, ManualClock()) as store:
        store.add_usage(datetime.date(2027, 1, 11), characters=3)
        async with asyncio.timeout(10):
            while not store.status.commits:  # noqa: ASYNC110 (the thread tells no event)
                await asyncio.sleep(0.01)


async def test_a_fault_of_ours_in_one_batch_spares_the_next(
    store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unwritable:
        """Stands for a value that no code of ours expected."""

        def isoformat(self) -> str:
            raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("kugel_bridge.queue.rows.size_of", Unwritable().isoformat)
        with pytest.raises(StorageError, match="fault in kugel-bridge"):
            await store.put(entry(1))
    await store.put(entry(2))
    assert await store.alive()
