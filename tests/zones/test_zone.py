"""When a zone holds its device, and how it finds it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kugel_bridge.model.errors import DeviceError
from kugel_bridge.model.status import AudioStatus
from kugel_bridge.zones import zone as zone_module
from kugel_bridge.zones.zone import ALWAYS_OPEN, Zone
from tests.conductor.stage import ScriptedCard


@pytest.fixture(autouse=True)
def quick_reopening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_module, "REOPEN_FIRST_S", 0.01)


class Room:
    """A zone that runs, and what it told."""

    def __init__(self, keep_open_s: float = ALWAYS_OPEN) -> None:
        self.card = ScriptedCard()
        self.changes = self.ready = 0
        self.zone = Zone("hall", self.card, keep_open_s=keep_open_s, on_change=self._changed)
        self.zone.on_ready = self._is_ready

    def _changed(self) -> None:
        self.changes += 1

    def _is_ready(self) -> None:
        self.ready += 1

    async def until(self, is_open: bool) -> None:
        async with asyncio.timeout(30):
            while self.card.is_open is not is_open:
                await asyncio.sleep(0.001)

    async def until_opened(self) -> None:
        """It may be closed again by then."""
        async with asyncio.timeout(30):
            while not (self.card.opens and self.card.opens[-1]):
                await asyncio.sleep(0.001)

    async def play(self) -> None:
        """What the conductor does around a turn."""
        self.zone.begin()
        try:
            await self.zone.open()
        finally:
            self.zone.end()


@contextlib.asynccontextmanager
async def running(room: Room) -> AsyncIterator[Room]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(room.zone.run())
        yield room
        task.cancel()


async def test_it_opens_ahead_of_use_and_closes_at_the_end() -> None:
    async with running(Room()) as room:
        await room.until(is_open=True)
        await room.play()
        await asyncio.sleep(0.02)
        assert room.card.is_open
    assert not room.card.is_open
    assert (room.changes, room.ready) == (0, 0)


async def test_a_card_that_comes_late_is_found_and_told() -> None:
    room = Room()
    room.card.missing = True
    async with running(room):
        async with asyncio.timeout(30):
            while len(room.card.opens) < 3:
                await asyncio.sleep(0.001)
        assert (room.zone.audio, room.changes, room.ready) == (AudioStatus.MISSING, 1, 0)
        room.card.missing = False
        await room.until(is_open=True)
        assert (room.changes, room.ready) == (2, 1)


@pytest.mark.parametrize("keep_open_s", [ALWAYS_OPEN, 0.0, 0.03])
async def test_a_card_that_failed_while_it_played_is_opened_again(keep_open_s: float) -> None:
    async with running(Room(keep_open_s)) as room:
        await room.until_opened()
        if keep_open_s >= 0:
            await room.until(is_open=False)
        room.card.missing = True
        with pytest.raises(DeviceError):
            await room.play()
        async with asyncio.timeout(30):
            while room.changes < 1:
                await asyncio.sleep(0.001)
        room.card.missing = False
        await room.until_opened()
        assert room.ready == 1


async def test_kept_open_for_no_time_it_is_free_for_others_between_announcements() -> None:
    async with running(Room(keep_open_s=0.0)) as room:
        for _ in range(3):
            await room.play()
            await room.until(is_open=False)
        assert all(room.card.opens)


async def test_unused_since_the_start_it_is_closed_too() -> None:
    async with running(Room(keep_open_s=0.01)) as room:
        await room.until_opened()
        await room.until(is_open=False)


async def test_used_again_in_time_it_stays_open_and_then_closes() -> None:
    async with running(Room(keep_open_s=0.05)) as room:
        await room.until(is_open=True)
        for _ in range(10):
            await room.play()
            await asyncio.sleep(0.01)
            assert room.card.is_open
        await room.until(is_open=False)


async def test_while_it_plays_it_is_never_closed() -> None:
    async with running(Room(keep_open_s=0.01)) as room:
        room.zone.begin()
        await room.zone.open()
        await asyncio.sleep(0.05)
        assert room.card.is_open
        room.zone.end()
        await room.until(is_open=False)


async def test_an_opening_waits_for_the_closing_under_way() -> None:
    room = Room(keep_open_s=0.0)
    closing, may_close = asyncio.Event(), asyncio.Event()

    class SlowCard(ScriptedCard):
        async def close(self) -> None:
            closing.set()
            await may_close.wait()
            await super().close()

    room.card = SlowCard()
    room.zone.sink = room.card
    async with running(room):
        await closing.wait()
        room.zone.begin()
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(room.zone.open())
            await asyncio.sleep(0.01)
            assert not opening.done()
            may_close.set()
        assert room.card.is_open
        room.zone.end()


async def test_it_leaves_the_card_alone_while_the_player_tries() -> None:
    room = Room()
    room.card.missing = True
    async with running(room):
        await asyncio.sleep(0)
        room.zone.begin()
        await asyncio.sleep(0.03)
        tries = len(room.card.opens)
        await asyncio.sleep(0.03)
        assert len(room.card.opens) == tries
        room.card.missing = False
        room.zone.end()
        await room.until(is_open=True)


async def test_a_card_that_was_gone_for_a_moment_only_is_told_of_when_it_is_back() -> None:
    room = Room()
    ready = asyncio.Event()
    async with running(room):
        await room.until(is_open=True)
        room.zone.on_ready = ready.set
        room.zone.begin()
        # Back before the zone itself had a look.
        room.zone.refused("the card was unplugged")
        room.zone.end()
        async with asyncio.timeout(30):
            await ready.wait()
