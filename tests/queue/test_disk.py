from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry, finished
from tests.queue.remains import leave, remains_of

RETRY_S = 0.02


class Finds:
    """Remembers what a store found late, and lets a test wait for it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.came = asyncio.Event()

    def __call__(self, entries: list[Entry]) -> None:
        self.entries += entries
        self.came.set()


def fill_up(folder: Path) -> Path:
    """Take all space there is; deleting the returned file gives it back."""
    filler = folder / "filler"
    fd = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (65_536, 4_096, 512):
            while True:
                os.write(fd, bytes(size))
    except OSError:
        pass
    finally:
        os.close(fd)
    return filler


async def until_fine(store: QueueStore) -> None:
    """Wait until the store's own looks have found the disk usable."""
    async with asyncio.timeout(30):
        while store.problem:
            await asyncio.sleep(RETRY_S)


async def put_until_full(store: QueueStore) -> int:
    """Put entries one by one until the disk refuses; returns how many it took."""
    for n in range(100_000):
        try:
            await store.put(entry(n))
        except StorageError as error:
            assert "no space left" in str(error)
            return n
    raise AssertionError("the disk never filled up")


# --- full -----------------------------------------------------------------------------------


async def test_a_full_disk_refuses_rows_keeps_the_old_ones_and_recovers(small_disk: Path) -> None:
    path, clock = small_disk / "queue.db", ManualClock()
    async with QueueStore(path, clock, retry_s=RETRY_S) as store:
        await store.put(entry(0))
        filler = fill_up(small_disk)
        taken = await put_until_full(store)
        assert taken > 20, "the reserve takes some rows"
        assert "no space left" in store.problem
        assert await store.alive()
        store.end(finished(entry(0)))
        filler.unlink()
        await until_fine(store)
        await store.put(entry(200_000))
        assert store.problem == ""
    async with QueueStore(path, clock) as store:
        assert [one.sequence for one in store.entries()] == [*range(1, taken), 200_000]


async def test_the_reserve_is_there_at_a_later_start_too(small_disk: Path) -> None:
    path, clock = small_disk / "queue.db", ManualClock()
    for _ in range(2):
        async with QueueStore(path, clock) as store:
            assert await store.alive()
    async with QueueStore(path, clock, retry_s=RETRY_S) as store:
        assert await store.alive()
        fill_up(small_disk)
        assert await put_until_full(store) > 100


async def test_a_disk_full_at_the_start_is_used_once_there_is_space(small_disk: Path) -> None:
    path = small_disk / "queue.db"
    filler = fill_up(small_disk)
    async with QueueStore(path, ManualClock(), retry_s=RETRY_S) as store:
        assert store.problem
        with pytest.raises(StorageError):
            await store.put(entry(1))
        filler.unlink()
        await until_fine(store)
        await store.put(entry(2))
    assert [one.sequence for one in stored_entries(path)] == [2]


async def test_a_disk_full_at_the_start_still_gives_what_it_holds(small_disk: Path) -> None:
    path, clock = small_disk / "queue.db", ManualClock()
    async with QueueStore(path, clock) as store:
        await store.put([entry(1), entry(2)])
    fill_up(small_disk)
    async with QueueStore(path, clock) as store:
        assert [one.sequence for one in store.entries()] == [1, 2]


async def test_a_disk_in_trouble_is_worth_one_line(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kugel_bridge.queue")
    async with QueueStore(small_disk / "queue.db", ManualClock(), retry_s=RETRY_S) as store:
        filler = fill_up(small_disk)
        await put_until_full(store)
        for n in range(5):
            with pytest.raises(StorageError):
                await store.put(entry(200_000 + n))
        assert len(caplog.records) == 1
        filler.unlink()
        await until_fine(store)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


# --- read-only ------------------------------------------------------------------------------


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


async def test_a_disk_that_turns_read_only_refuses_and_recovers(small_disk: Path) -> None:
    path, clock = small_disk / "queue.db", ManualClock()
    # A start on a read-only disk: what waits there is found.
    async with QueueStore(path, clock) as store:
        await store.put([entry(1), entry(2)])
        store.end(finished(entry(9)))
    remount(small_disk, "ro")
    async with QueueStore(path, clock, retry_s=RETRY_S) as store:
        assert store.problem
        assert [one.sequence for one in store.entries()] == [1, 2]
        assert store.ended("a9", "hall") is not None
        with pytest.raises(StorageError):
            await store.put(entry(3))
        store.end(finished(entry(1)))
        remount(small_disk, "rw")
        await until_fine(store)
        await store.put(entry(4))
    assert [one.sequence for one in stored_entries(path)] == [2, 4]


async def test_a_killed_daemons_rows_are_read_from_a_read_only_disk(small_disk: Path) -> None:
    """The log file of a daemon that did not close it is left, and holds the newest rows."""
    path, clock = small_disk / "queue.db", ManualClock()
    async with QueueStore(path, clock) as store:
        await store.put(entry(1))
        remains = remains_of(path)
    leave(remains)
    assert path.with_name("queue.db-wal").stat().st_size > 0
    remount(small_disk, "ro")
    async with QueueStore(path, clock) as store:
        assert [one.sequence for one in store.entries()] == [1]
    assert len(stored_entries(path)) == 1
    remount(small_disk, "rw")


# --- gone, replaced, locked -----------------------------------------------------------------


async def test_a_disk_that_comes_late_brings_its_entries(tmp_path: Path) -> None:
    disk, place, clock = tmp_path / "disk", tmp_path / "place", ManualClock()
    async with QueueStore(disk / "queue.db", clock) as store:
        await store.put([entry(7), entry(8)])
        store.end(finished(entry(6)))
    place.touch()  # something in the way of the folder
    finds = Finds()
    async with QueueStore(place / "queue.db", clock, on_found=finds, retry_s=RETRY_S) as store:
        assert store.entries() == []
        clock.advance(1)
        store.end(finished(entry(8), clock.now()))  # the broker had sent it again
        place.unlink()
        disk.rename(place)
        async with asyncio.timeout(30):
            await finds.came.wait()
        assert [one.sequence for one in finds.entries] == [7]
        assert store.next_sequence == 9
        assert store.ended("a6", "hall") is not None
    assert [one.sequence for one in stored_entries(place / "queue.db")] == [7]


async def test_a_file_deleted_under_the_daemon_is_written_anew(
    path: Path, store: QueueStore
) -> None:
    await store.put([entry(1), entry(2)])
    for one in path.parent.glob("queue.db*"):
        if one.suffix != ".lock":
            one.unlink()
    await store.put(entry(3))
    store.end(finished(entry(1)))
    assert await store.alive()
    assert [one.sequence for one in stored_entries(path)] == [2, 3]


def scramble(path: Path) -> None:
    """Fold the log into the main file, and overwrite that with noise."""
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    # A change of another connection makes the writer forget the pages it has in memory.
    other.execute("DELETE FROM broken")
    other.execute("CREATE TABLE noise (x)")
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(path.stat().st_size - 100))
    other.close()


async def test_damage_while_running_costs_no_row(path: Path, store: QueueStore) -> None:
    await store.put([entry(n) for n in range(200)])
    scramble(path)
    store.end(finished(entry(0)))
    await store.put(entry(1_000))
    assert "damaged" in store.set_aside
    assert [one.sequence for one in stored_entries(path)] == [*range(1, 200), 1_000]


async def test_a_file_locked_by_another_program_is_used_when_it_is_free(path: Path) -> None:
    async with QueueStore(path, ManualClock()) as store:
        await store.put(entry(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    async with QueueStore(path, ManualClock(), retry_s=RETRY_S) as store:
        assert [one.sequence for one in store.entries()] == [1]
        with pytest.raises(StorageError, match="locked"):
            await store.put(entry(2))
        other.execute("COMMIT")
        other.close()
        await until_fine(store)
        await store.put(entry(3))
    assert [one.sequence for one in stored_entries(path)] == [1, 3]


# --- rows that cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE waiting SET announcement = '{' WHERE id = 'a2'",
        "UPDATE waiting SET announcement = replace(announcement, 'a2', 'a9') WHERE id = 'a2'",
        "UPDATE waiting SET announcement = CAST(x'7bff7d' AS TEXT) WHERE id = 'a2'",
        "UPDATE waiting SET announcement = x'00ff' WHERE id = 'a2'",
        "UPDATE waiting SET deadline_s = 'soon' WHERE id = 'a2'",
        "UPDATE waiting SET id = CAST(x'ff' AS TEXT) WHERE id = 'a2'",
        "UPDATE waiting SET sequence = 'first' WHERE id = 'a2'",
    ],
)
async def test_a_row_that_cannot_be_read_is_set_aside_and_the_others_load(
    path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    async with QueueStore(path, clock) as store:
        await store.put([entry(1), entry(2), entry(3)])
    other = sqlite3.connect(path)
    other.execute(spoil)
    other.commit()
    other.close()
    async with QueueStore(path, clock) as store:
        assert [one.sequence for one in store.entries()] == [1, 3]
        assert store.status.broken_rows == 1
        assert store.set_aside == ""
        assert any("unreadable" in record.message for record in caplog.records)
    async with QueueStore(path, clock) as store:
        assert store.status.broken_rows == 0
    other = sqlite3.connect(path)
    other.text_factory = bytes
    assert other.execute("SELECT count(*) FROM broken").fetchone() == (1,)
    assert other.execute("SELECT problem FROM broken").fetchone()[0]
    other.close()


async def test_a_history_row_that_cannot_be_read_is_passed_over(path: Path) -> None:
    clock = ManualClock()
    async with QueueStore(path, clock) as store:
        store.end(finished(entry(1)))
        store.end(finished(entry(2)))
        await store.put(entry(3))
    other = sqlite3.connect(path)
    other.execute("UPDATE history SET details = '[]' WHERE id = 'a1'")
    other.commit()
    other.close()
    async with QueueStore(path, clock) as store:
        assert [one.announcement.id for one in store.history()] == ["a2"]
