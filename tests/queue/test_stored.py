from __future__ import annotations

from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.report import Outcome
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import clear_stored, stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry


def test_without_a_file_nothing_waits_and_none_is_made(path: Path) -> None:
    assert stored_entries(path) == []
    assert clear_stored(path) == 0
    assert list(path.parent.iterdir()) == []


async def test_the_queue_can_be_listed_beside_the_daemon(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        await store.put([entry(2), entry(1)])
        assert stored_entries(path, clock) == [entry(1), entry(2)]
        await store.put(entry(3))
        assert len(stored_entries(path)) == 3
    assert len(stored_entries(path)) == 3


async def test_the_queue_cannot_be_cleared_under_a_daemon(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        await store.put(entry(1))
        with pytest.raises(StorageError, match="another kugel-bridge"):
            clear_stored(path)
    assert len(stored_entries(path)) == 1


async def test_what_is_cleared_has_its_outcome(path: Path, clock: ManualClock) -> None:
    async with QueueStore(path, clock) as store:
        await store.put([entry(1), entry(2)])
    assert clear_stored(path, clock) == 2
    async with QueueStore(path, clock) as store:
        assert store.entries() == []
        report = store.ended("a1", "hall")
        assert report is not None
        assert (report.event, report.reason) == (Outcome.SKIPPED, "cleared")


@pytest.mark.parametrize("act", [stored_entries, clear_stored])
def test_a_damaged_file_is_a_storage_error(path: Path, act: object) -> None:
    assert callable(act)
    path.write_bytes(b"noise" * 1_000)
    with pytest.raises(StorageError, match=r"queue\.db"):
        act(path)


async def test_a_name_with_special_characters_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20d ü.db"
    async with QueueStore(path, ManualClock()) as store:
        await store.put(entry(1))
        assert len(stored_entries(path)) == 1
    assert len(stored_entries(path)) == 1
