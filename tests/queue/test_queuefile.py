from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.queuefile import (
    LOG_BYTES,
    PAGE_BYTES,
    RESERVE_BYTES,
    DamagedError,
    InUseError,
    Lock,
    connect,
    open_read_only,
    prepare,
    reserve_space,
    set_aside,
    transaction,
)
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry
from tests.queue.remains import leave, remains_of


def aside(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.glob("*.aside-*"))


def contents(path: Path) -> bytes:
    return path.read_bytes()


async def fill(path: Path, count: int = 50) -> None:
    async with QueueStore(path, ManualClock()) as store:
        await store.put([entry(n) for n in range(count)])


def damage_header(path: Path) -> None:
    path.write_bytes(b"This is not a database at all. " * 40)


def damage_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5_000)


def make_newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def drop_a_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE history")
    connection.close()


@pytest.mark.parametrize(
    "spoil", [damage_header, damage_pages, cut_short, make_newer, drop_a_table]
)
async def test_an_unusable_file_is_set_aside_and_the_queue_starts_empty(
    path: Path, spoil: object
) -> None:
    assert callable(spoil)
    await fill(path)
    spoil(path)
    spoilt = contents(path)
    async with QueueStore(path, ManualClock()) as store:
        assert store.entries() == []
        assert str(path) in store.set_aside
        assert "moved to" in store.set_aside
        assert store.problem == ""
        await store.put(entry(1))
    (name,) = [name for name in aside(path) if not name.endswith(("-wal", "-shm"))]
    assert contents(path.with_name(name)) == spoilt
    async with QueueStore(path, ManualClock()) as store:
        assert [one.sequence for one in store.entries()] == [1]
        assert store.set_aside == ""


async def test_the_log_of_a_damaged_file_goes_with_it(path: Path) -> None:
    async with QueueStore(path, ManualClock()) as store:
        await store.put(entry(1))
        remains = remains_of(path)
    leave(remains)
    damage_header(path)
    async with QueueStore(path, ManualClock(wall_s=0.0)) as store:
        assert store.set_aside
        await store.put(entry(2))
    assert aside(path) == [
        "queue.db.aside-19700101T000000Z",
        "queue.db.aside-19700101T000000Z-shm",
        "queue.db.aside-19700101T000000Z-wal",
    ]
    log = contents(path.with_name("queue.db.aside-19700101T000000Z-wal"))
    assert b"Announcement number 1" in log
    assert [one.sequence for one in stored_entries(path)] == [2]


def test_one_earlier_generation_is_kept(path: Path) -> None:
    # The last one has a clock that went back, and is the newest all the same.
    for number, wall_s in enumerate([0.0, 100.0, 100.0, 50.0]):
        path.write_text(str(number))
        path.with_name(path.name + "-wal").write_text("log")
        set_aside(path, wall_s)
    kept = [path.with_name(name) for name in aside(path) if not name.endswith("-wal")]
    assert sorted(one.read_text() for one in kept) == ["2", "3"]
    assert len(aside(path)) == 4


async def test_an_empty_file_is_a_new_queue(path: Path) -> None:
    make_empty(path)
    async with QueueStore(path, ManualClock()) as store:
        assert store.set_aside == ""
        await store.put(entry(1))


async def test_what_waits_is_for_its_owner_only(path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with QueueStore(path, ManualClock()) as store:
            await store.put([entry(1)])
            modes = {one: one.stat().st_mode & 0o777 for one in path.parent.glob(f"{path.name}*")}
    finally:
        os.umask(before)
    assert [mode for one, mode in modes.items() if one.suffix != ".lock"] == [0o600] * 3


async def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = contents(path)
    async with QueueStore(path, ManualClock(), retry_s=0.05) as store:
        assert "another program" in store.problem
        with pytest.raises(StorageError, match="another program"):
            await store.put(entry(1))
    assert contents(path) == before
    assert aside(path) == []


@pytest.mark.parametrize("kind", ["folder", "folder is a file", "dangling link", "FIFO"])
async def test_start_never_fails_because_of_the_path(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "queue.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "folder is a file":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "queue.db"
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere" / "queue.db")
    async with QueueStore(path, ManualClock(), retry_s=0.05) as store:
        assert store.problem
        assert store.entries() == []
        assert await store.alive()
        with pytest.raises(StorageError):
            await store.put(entry(1))


async def test_rows_are_synced_to_the_disk(path: Path) -> None:
    connection = connect(path)
    prepare(connection, path)
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    connection.close()


def test_a_transaction_that_fails_leaves_nothing(path: Path) -> None:
    connection = connect(path)
    prepare(connection, path)
    with pytest.raises(KeyError), transaction(connection):
        connection.execute("INSERT INTO usage VALUES ('2027-01-01', 1, 1, 1, 1)")
        raise KeyError
    assert connection.execute("SELECT count(*) FROM usage").fetchone()[0] == 0
    connection.close()


def test_reading_only_refuses_what_is_no_queue(path: Path) -> None:
    sqlite3.connect(path).close()
    with pytest.raises(StorageError, match="not a queue"):
        open_read_only(path)


def test_damage_has_an_error_of_its_own(path: Path) -> None:
    path.write_bytes(b"x" * 4096)
    connection = connect(path)
    with pytest.raises(DamagedError, match="damaged"):
        prepare(connection, path)
    connection.close()


# --- one process at a time --------------------------------------------------------------


async def test_a_second_store_is_refused_until_the_first_is_closed(path: Path) -> None:
    async with QueueStore(path, ManualClock()) as first:
        await first.put(entry(1))
        second = QueueStore(path, ManualClock())
        with pytest.raises(StorageError, match="another kugel-bridge uses"):
            await second.open()
        await first.put(entry(2))  # it was not disturbed
    async with QueueStore(path, ManualClock()) as third:
        assert len(third.entries()) == 2


def test_another_process_is_refused_and_a_killed_one_leaves_no_lock(path: Path) -> None:
    code = (
        "import sys, pathlib; from kugel_bridge.queue.queuefile import Lock;"
        "Lock(pathlib.Path(sys.argv[1])).take(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = Lock(path)
        with pytest.raises(InUseError, match=str(path)):
            lock.take()
        holder.kill()
        holder.wait()
        lock.take()
        lock.take()  # to hold it twice is to hold it
        lock.release()


# --- the reserve ----------------------------------------------------------------------------


def reserved(path: Path) -> int:
    """Pages that a start writes into the log for the reserve."""
    connection = connect(path)
    prepare(connection, path)
    reserve_space(connection, path)
    log = path.with_name(path.name + "-wal").stat()
    assert log.st_blocks * 512 >= LOG_BYTES, "the log has its room"
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.close()
    return int(pages)


def test_a_reserve_is_written_once_and_kept_over_later_starts(path: Path) -> None:
    assert reserved(path) > 0
    size = path.stat().st_size
    assert size >= RESERVE_BYTES
    assert reserved(path) == 0
    assert path.stat().st_size == size


def test_a_reserve_that_rows_have_taken_is_made_good(path: Path) -> None:
    reserved(path)
    connection = connect(path)
    connection.execute("CREATE TABLE taken (space BLOB)")
    connection.execute("INSERT INTO taken VALUES (zeroblob(?))", (RESERVE_BYTES,))
    connection.close()
    assert reserved(path) > 0
    assert reserved(path) == 0


def test_a_reserve_whose_making_was_cut_short_is_freed_at_the_next_start(path: Path) -> None:
    connection = connect(path)
    prepare(connection, path)
    connection.execute("CREATE TABLE reserve (space BLOB)")
    connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (RESERVE_BYTES,))
    connection.close()
    reserved(path)
    connection = connect(path)
    free_pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
    connection.close()
    assert free_pages * PAGE_BYTES >= RESERVE_BYTES
