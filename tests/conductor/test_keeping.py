"""When a sender may forget its announcement, and what is on the disk by then."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.model.announcement import ReplyAddress
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.queue.stored import stored_entries
from tests.clock import ManualClock
from tests.queue.entries import entry, finished


class Desk:
    """A keeping over a real store; its clock stands still unless it is moved."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, ManualClock()
        self.store = QueueStore(path, self.clock, boot_id="this boot", retry_s=0.01)
        self.keeping = Keeping(self.store, self.clock, retry_s=0.01)
        self.settled: Counter[str] = Counter()

    def owe(self, *entries: Entry) -> None:
        for owed in entries:
            name = owed.announcement.id
            self.keeping.owe(owed.key, functools.partial(self.settled.update, [name]))

    def wait(self, *entries: Entry) -> None:
        """They arrived, and have to wait."""
        self.owe(*entries)
        for waiting in entries:
            self.keeping.watch(waiting)

    @property
    def rows(self) -> list[str]:
        return [row.announcement.id for row in stored_entries(self.path)]

    async def until_settled(self, *names: str) -> None:
        async with asyncio.timeout(30):
            while not all(self.settled[name] for name in names):
                await asyncio.sleep(0.001)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "folder" / "queue.db")
    desk.path.parent.mkdir()
    async with desk.store, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.keeping.run())
        yield desk
        running.cancel()


async def test_spoken_before_it_was_written_costs_no_row(desk: Desk) -> None:
    one = entry(1)
    desk.wait(one)
    assert desk.keeping.unsafe == 1
    desk.keeping.ended(finished(one))
    assert (desk.settled, desk.keeping.unsafe) == ({"a1": 1}, 0)
    desk.clock.advance(10)
    assert await desk.store.alive()
    assert desk.rows == []


@pytest.mark.parametrize(("delivery", "after_s"), [("", 0.2), ("m1", 1.5)])
async def test_what_waits_is_written_sooner_if_nobody_else_has_it(
    desk: Desk, delivery: str, after_s: float
) -> None:
    one = entry(1, delivery=delivery)
    desk.clock.advance(after_s - 0.1)
    desk.wait(one)
    desk.clock.advance(after_s - 0.1)
    desk.keeping._wake.set()
    await asyncio.sleep(0.02)
    assert (desk.settled, desk.rows) == ({}, [])
    desk.clock.advance(0.11)
    desk.keeping._wake.set()
    await desk.until_settled("a1")
    assert desk.rows == ["a1"]


async def test_one_whose_turn_came_is_not_written(desk: Desk) -> None:
    one = entry(1)
    desk.wait(one)
    desk.keeping.unwatch(one)
    desk.clock.advance(10)
    other = entry(2)
    desk.wait(other)
    desk.clock.advance(10)
    desk.keeping._wake.set()
    await desk.until_settled("a2")
    assert desk.rows == ["a2"]
    assert desk.settled["a1"] == 0


async def test_eight_unsafe_ones_are_written_at_once(desk: Desk) -> None:
    few = [entry(number, delivery=f"m{number}") for number in range(7)]
    desk.wait(*few)
    await asyncio.sleep(0.02)
    assert desk.settled == {}
    desk.wait(entry(7, delivery="m7"))
    await desk.until_settled(*(f"a{number}" for number in range(8)))
    assert set(desk.settled.values()) == {1}
    assert desk.keeping.unsafe == 0


async def test_after_a_rush_the_last_few_are_written_at_once_and_later_ones_in_their_time(
    desk: Desk,
) -> None:
    desk.wait(*(entry(number, delivery=f"m{number}") for number in range(8)))
    await desk.until_settled(*(f"a{number}" for number in range(8)))
    desk.wait(entry(8, delivery="m8"))
    await desk.until_settled("a8")
    desk.clock.advance(1.1)
    desk.wait(entry(9, delivery="m9"))
    await asyncio.sleep(0.02)
    assert desk.settled["a9"] == 0
    assert "a9" not in desk.rows


async def test_ended_while_it_is_written_leaves_no_row(desk: Desk) -> None:
    many = [entry(number) for number in range(20)]
    desk.wait(*many)
    await asyncio.sleep(0)  # now they are handed over
    for one in many:
        desk.keeping.ended(finished(one))
    assert set(desk.settled.values()) == {1}
    assert await desk.store.alive()
    await asyncio.sleep(0.02)
    assert desk.rows == []
    # Nothing of them is left in memory either.
    assert not desk.keeping._written
    assert not desk.keeping._unwritten


async def test_a_write_of_one_that_ended_settles_no_later_one_of_that_id(desk: Desk) -> None:
    first = entry(1, id="door", delivery="m1")
    desk.wait(first)
    desk.clock.advance(2)
    desk.keeping._wake.set()
    await asyncio.sleep(0)  # now it is handed over
    await asyncio.sleep(0)
    desk.keeping.ended(finished(first))
    second = entry(2, id="door", delivery="m2")
    desk.wait(second)
    assert await desk.store.alive()
    await asyncio.sleep(0.02)
    assert (desk.settled, desk.rows) == ({"door": 1}, [])
    desk.clock.advance(2)
    desk.keeping._wake.set()
    await desk.store.alive()
    async with asyncio.timeout(30):
        while desk.settled["door"] < 2:
            await asyncio.sleep(0.001)
    assert desk.rows == ["door"]


async def test_one_that_no_disk_would_take_keeps_no_other_waiting(desk: Desk) -> None:
    desk.keeping._retry_s = 3_600
    desk.wait(entry(1, tag="\ud800"))
    desk.clock.advance(2)
    desk.keeping._wake.set()
    await desk.store.alive()
    desk.wait(entry(2))
    desk.clock.advance(2)
    desk.keeping._wake.set()
    await desk.until_settled("a2")
    assert (desk.settled, desk.rows) == ({"a2": 1}, ["a2"])


async def test_a_disk_that_refuses_leaves_it_with_the_sender_until_it_is_fine(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")
    desk = Desk(folder / "queue.db")
    async with desk.store, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.keeping.run())
        desk.wait(*(entry(number) for number in range(9)))
        await asyncio.sleep(0.1)
        assert (desk.settled, desk.keeping.unsafe) == ({}, 9)
        # What is spoken meanwhile is done with, disk or not.
        desk.keeping.ended(finished(entry(0)))
        assert desk.settled == {"a0": 1}
        folder.unlink()
        folder.mkdir()
        await desk.until_settled(*(f"a{number}" for number in range(9)))
        running.cancel()
    assert set(desk.settled.values()) == {1}
    assert len(desk.rows) == 8


async def test_what_the_last_run_left_is_safe_already(desk: Desk) -> None:
    one, two = entry(1), entry(2)
    desk.keeping.adopt([one])
    desk.owe(one)
    assert desk.settled == {"a1": 1}
    # A slow disk may give it up after the broker has sent it again.
    desk.wait(two)
    desk.keeping.adopt([two])
    assert desk.settled == {"a1": 1, "a2": 1}
    desk.keeping.ended(finished(two))
    assert desk.settled["a2"] == 1


async def test_a_row_is_written_again_when_more_was_heard_or_somebody_else_asks(
    desk: Desk,
) -> None:
    one = entry(1)
    desk.keeping.adopt([one])
    desk.keeping.watch(one)
    assert not desk.keeping._unwritten
    further = Entry(announcement=one.announcement, zone="hall", sequence=1, resume_at=20)
    desk.keeping.watch(further)
    await desk.keeping.lay_down([further])
    (row,) = stored_entries(desk.path)
    assert row.resume_at == 20
    asked = entry(1, reply_to=(ReplyAddress("me"),))
    await desk.keeping.lay_down([asked])
    (row,) = stored_entries(desk.path)
    assert row.announcement.reply_to == (ReplyAddress("me"),)


async def test_laying_down_writes_what_has_no_row_and_settles_it(desk: Desk) -> None:
    desk.wait(entry(1, delivery="m1"), entry(2, delivery="m2"))
    await desk.keeping.lay_down([entry(1, delivery="m1"), entry(2, delivery="m2")])
    assert (desk.settled, desk.rows) == ({"a1": 1, "a2": 1}, ["a1", "a2"])


async def test_asked_twice_a_sender_does_not_put_off_the_writing(desk: Desk) -> None:
    one = entry(1, delivery="m1")
    desk.wait(one)
    for _ in range(3):
        desk.clock.advance(0.5)
        desk.keeping.watch(one)
    await desk.until_settled("a1")
    assert desk.rows == ["a1"]


async def test_one_sender_that_cannot_be_told_keeps_no_other_waiting(desk: Desk) -> None:
    def fails() -> None:
        raise RuntimeError("a bug")

    one = entry(1)
    desk.keeping.owe(one.key, fails)
    desk.owe(one)
    desk.keeping.ended(finished(one))
    assert desk.settled == {"a1": 1}
