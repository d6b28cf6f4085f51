from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import re
import signal
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest

from kugel_bridge.gateway import usage as usage_module
from kugel_bridge.gateway import usagefile
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.messages import Usage
from kugel_bridge.queue.queuefile import Lock
from tests.clock import ManualClock
from tests.gateway_server import WAIT_S
from tests.queue.test_disk import fill_up

DAY_S = 86_400
USAGE = Usage(audio_s=1.5, characters=20, cost_cents=0.25)


def rows(path: Path) -> list[tuple[object, ...]]:
    """What is on the disk, as another process sees it."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT * FROM key_usage ORDER BY account, day").fetchall()
    connection.close()
    return found


def today(clock: ManualClock) -> str:
    now = datetime.datetime.fromtimestamp(clock.now().wall_s, datetime.UTC)
    return now.astimezone().date().isoformat()


async def test_what_is_added_is_on_the_disk_when_add_returns(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "deep" / "usage.db"
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
        await ledger.add("a", USAGE)
        await ledger.add("b", Usage(audio_s=0.5, characters=1, cost_cents=None))
        assert rows(path) == [
            ("a", today(clock), 2, 40, 3.0, 0.5),
            ("b", today(clock), 1, 1, 0.5, 0.0),
        ]


async def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with Ledger(tmp_path / "usage.db", ManualClock()) as ledger:
            await ledger.add("a", USAGE)
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.glob("usage.db*")}
    finally:
        os.umask(before)
    assert modes.pop("usage.db.lock")
    assert set(modes.values()) == {0o600}


async def test_it_is_known_again_after_a_restart(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
        clock.advance(DAY_S)
        await ledger.add("a", USAGE)
        before = ledger.days("a")
    async with Ledger(path, clock) as ledger:
        assert ledger.days("a") == before
        assert [day.requests for day in before] == [1, 1]
        assert ledger.characters_today("a") == 20
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 40
        assert len(rows(path)) == 2


async def test_many_at_once_share_a_commit_and_all_are_counted(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger, asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(ledger.add(f"key{number % 4}", USAGE))
    assert [row[2] for row in rows(path)] == [50, 50, 50, 50]


async def test_the_budget_of_a_day_is_of_the_local_day(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = Ledger(None, clock)
    await ledger.add("a", USAGE)
    assert (ledger.characters_today("a"), ledger.characters_today("b")) == (20, 0)
    clock.advance(DAY_S)
    assert ledger.characters_today("a") == 0
    clock.jump_wall(-DAY_S)
    assert ledger.characters_today("a") == 20


async def test_days_beyond_the_last_that_had_any_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usagefile, "KEPT_DAYS", 3)
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger:
        for key in ("a", "b", "b"):
            await ledger.add(key, USAGE)
            clock.advance(DAY_S)
        assert len(rows(path)) == 3
        clock.advance(1000 * DAY_S)
        await ledger.add("c", USAGE)
        assert [row[0] for row in rows(path)] == ["b", "b", "c"]


async def test_a_request_under_a_wrong_clock_costs_no_other_day(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
        for ahead_s in (12 * 365 * DAY_S, -12 * 365 * DAY_S):
            clock.jump_wall(ahead_s)
            await ledger.add("a", USAGE)
        clock.advance(DAY_S)
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 20
    async with Ledger(path, clock) as ledger:
        assert ledger.characters_today("a") == 20
        assert [day.requests for day in ledger.days("a")] == [1, 1, 2]


async def test_one_that_stops_waiting_for_a_commit_takes_it_from_nobody_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "usage.db"
    async with Ledger(path, ManualClock()) as ledger:
        await ledger.add("a", USAGE)
        with sqlite3.connect(path, isolation_level=None) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            # What waits is written together: the first is with the thread, two share the next.
            tasks = [asyncio.create_task(ledger.add("a", USAGE)) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
            assert not tasks[2].done()
            blocker.execute("ROLLBACK")
        blocker.close()
        async with asyncio.timeout(WAIT_S):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert rows(path)[0][2] == 4


async def test_what_comes_after_the_end_is_not_waited_for_and_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A wait would be one without end.
    monkeypatch.setattr(usage_module, "COMMIT_WAIT_S", WAIT_S)
    ledger, path = Ledger(tmp_path / "usage.db", ManualClock()), tmp_path / "usage.db"
    async with ledger:
        await ledger.add("a", USAGE)
    async with asyncio.timeout(WAIT_S / 2):
        await ledger.add("a", USAGE)
    assert ledger.characters_today("a") == 40
    async with ledger:
        await ledger.add("b", USAGE)
    assert [row[2:4] for row in rows(path)] == [(2, 40), (1, 20)]


async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "usage.db"
    path.write_bytes(b"this is no database, and long enough to be taken for one" * 100)
    async with Ledger(path, ManualClock()) as ledger:
        await ledger.add("a", USAGE)
        assert len(rows(path)) == 1
    assert list(tmp_path.glob("usage.db.aside-*"))
    assert "it was moved to" in caplog.text


async def test_a_file_that_is_deleted_meanwhile_gets_everything_back(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
        clock.advance(DAY_S)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        await ledger.add("a", USAGE)
        assert len(rows(path)) == 2


@pytest.mark.parametrize("version", [0, 1])
async def test_a_database_of_another_program_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int
) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    async with Ledger(path, ManualClock()) as ledger:
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 20
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()
    assert "set gateway.usage_path" in caplog.text


async def test_a_disk_that_cannot_be_used_is_logged_once_and_caught_up_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "usage.db"
    held = Lock(path)
    held.take()
    async with Ledger(path, ManualClock(), retry_s=0.01) as ledger:
        for _ in range(3):
            await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 60
        assert caplog.text.count("kept in memory only") == 1
        assert "gateway.usage_path" in caplog.text
        held.release()
        async with asyncio.timeout(WAIT_S):
            while "is written to" not in caplog.text:
                await asyncio.to_thread(lambda: None)
    assert [row[2:4] for row in rows(path)] == [(3, 60)]


async def test_rows_found_late_are_added_to_what_was_counted_before(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "usage.db"
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
    held = Lock(path)
    held.take()
    async with Ledger(path, clock) as ledger:
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 20
        held.release()
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 60
    assert [row[2:4] for row in rows(path)] == [(3, 60)]


async def test_a_disk_that_hangs_holds_up_no_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.db"
    monkeypatch.setattr(usage_module, "COMMIT_WAIT_S", 0.05)
    async with Ledger(path, ManualClock()) as ledger:
        await ledger.add("a", USAGE)
        # Somebody else holds the write lock: the commit waits.
        with sqlite3.connect(path, isolation_level=None) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(WAIT_S):
                await ledger.add("a", USAGE)
            assert ledger.characters_today("a") == 40
            assert rows(path)[0][2] == 1
            blocker.execute("ROLLBACK")
        blocker.close()


async def test_the_same_ledger_can_be_opened_again(tmp_path: Path) -> None:
    ledger, path = Ledger(tmp_path / "usage.db", ManualClock()), tmp_path / "usage.db"
    for count in (1, 2):
        async with ledger:
            await ledger.add("a", USAGE)
            assert ledger.days("a")[0].requests == count
    assert rows(path)[0][2] == 2


async def test_a_finished_request_survives_a_kill(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "KUGEL_BRIDGE_CONFIG": os.devnull,
        "KUGEL_BRIDGE_GATEWAY__KEYS": "a-key-of-mine",
        "KUGEL_BRIDGE_GATEWAY__USAGE_PATH": str(tmp_path / "usage.db"),
    }
    asked = {"text": "Kill me.", "voice_id": "espeak-en-male", "language": "en"}
    seen = []
    async with asyncio.timeout(3 * WAIT_S):
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kugel_bridge", "gateway", "--port", "0"),
                stderr=asyncio.subprocess.PIPE,
                env=environment,
            )
            assert process.stderr is not None
            line = (await process.stderr.readline()).decode()
            found = re.search(r"http://\S+", line)
            assert found, line
            async with httpx.AsyncClient(
                base_url=found[0], trust_env=False, headers={"X-API-Key": "a-key-of-mine"}
            ) as client:
                answer = await client.post("/v1/tts/generate", json=asked)
                assert answer.status_code == 200
                process.send_signal(signal.SIGKILL)
            await process.wait()
            seen += [row[2:4] for row in rows(tmp_path / "usage.db")]
    assert seen == [(1, 8), (2, 16)]
    assert "a-key-of-mine" not in json.dumps(rows(tmp_path / "usage.db"))


async def test_a_full_disk_stops_no_speech_and_is_caught_up_with(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = ManualClock(), small_disk / "usage.db"
    async with Ledger(path, clock, retry_s=0.02) as ledger:
        await ledger.add("a", USAGE)
        filler = fill_up(small_disk)
        count = 1
        while "no space left" not in caplog.text:
            # Keys of their own, for each needs room of its own.
            await ledger.add(f"key{count:0500}", USAGE)
            count += 1
            assert count < 5_000
        await ledger.add("a", USAGE)
        assert ledger.characters_today("a") == 40
        assert caplog.text.count("kept in memory only") == 1
        filler.unlink()
        await ledger.add("a", USAGE)
    found = rows(path)
    assert len(found) == count
    assert found[0][2:4] == (3, 60)
