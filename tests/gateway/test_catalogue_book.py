from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kugel_bridge.gateway.catalogue_book import (
    KEEP_S,
    MAX_ASKING,
    MAX_SINGLES,
    RETRY_S,
    CatalogueBook,
)
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import MAX_HANDLE_CHARACTERS
from kugel_bridge.model.errors import (
    BridgeError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)
from tests.clock import ManualClock
from tests.gateway_server import VOICES, WAIT_S

DORA = Voice(4, "Dora", "dora", ("it",))


class Lists:
    """A service's lists, told by tests what to answer."""

    def __init__(self) -> None:
        self.listed, self.unlisted = list(VOICES), {"4": DORA, "dora": DORA}
        self.error: BridgeError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []

    async def voices(self) -> list[Voice]:
        await self._asked("")
        return self.listed

    async def voice(self, ident: int | str) -> Voice | None:
        await self._asked(str(ident))
        return self.unlisted.get(str(ident))

    async def _asked(self, name: str) -> None:
        self.asked.append(name)
        await self.gate.wait()
        if self.error is not None:
            raise self.error


@contextlib.asynccontextmanager
async def book_of(
    lists: Lists, clock: ManualClock | None = None, patience_s: float = WAIT_S
) -> AsyncIterator[CatalogueBook]:
    book = CatalogueBook(lists, patience_s=patience_s, clock=clock or ManualClock())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(book.run())
        async with asyncio.timeout(WAIT_S):
            yield book
        running.cancel()


async def test_nothing_is_asked_before_somebody_wants_to_know() -> None:
    lists = Lists()
    async with book_of(lists) as book:
        await asyncio.sleep(0)
        assert lists.asked == []
        assert (await book.book()).voices == VOICES


async def test_many_who_want_to_know_ask_once() -> None:
    lists = Lists()
    lists.gate.clear()
    async with book_of(lists) as book, asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(book.book())
        await asyncio.sleep(0)
        lists.gate.set()
    assert lists.asked == [""]


async def test_a_list_is_kept_for_a_while_and_then_asked_for_again() -> None:
    lists, clock = Lists(), ManualClock()
    async with book_of(lists, clock) as book:
        await book.book()
        clock.advance(KEEP_S - 1)
        await book.book()
        assert lists.asked == [""]
        lists.listed = [DORA]
        clock.advance(1)
        assert (await book.book()).voices == (DORA,)


async def test_an_old_list_is_better_than_none_and_nobody_waits_for_it_twice() -> None:
    lists, clock = Lists(), ManualClock()
    async with book_of(lists, clock) as book:
        await book.book()
        clock.advance(KEEP_S)
        lists.error = ServiceUnavailableError("away")
        assert (await book.book()).voices == VOICES
        assert (await book.book()).voices == VOICES
        assert len(lists.asked) == 2
        clock.advance(RETRY_S)
        lists.error, lists.listed = None, [DORA]
        assert (await book.book()).voices == (DORA,)


async def test_without_any_list_the_reason_is_told_and_not_asked_for_at_once_again() -> None:
    lists, clock = Lists(), ManualClock()
    lists.error = UnauthorizedError("the key is refused")
    async with book_of(lists, clock) as book:
        for _ in range(3):
            with pytest.raises(ServiceUnavailableError, match="the key is refused"):
                await book.book()
        assert len(lists.asked) == 1
        clock.advance(RETRY_S)
        lists.error = None
        assert (await book.book()).voices == VOICES


async def test_nobody_waits_longer_than_patience_lasts() -> None:
    lists, clock = Lists(), ManualClock()
    lists.gate.clear()
    async with book_of(lists, clock, patience_s=0.05) as book:
        with pytest.raises(TooSlowError):
            await book.book()
        with pytest.raises(TooSlowError):
            await book.find("anna")
        lists.gate.set()
        await book.book()
        assert lists.asked == [""]


async def test_a_hang_is_waited_for_once_however_many_come() -> None:
    lists, clock = Lists(), ManualClock()
    lists.gate.clear()
    async with book_of(lists, clock) as book, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(book.book())
        while not lists.asked:
            await asyncio.sleep(0)
        clock.advance(WAIT_S)
        for _ in range(100):
            with pytest.raises(TooSlowError):
                await book.book()
        lists.gate.set()
        assert (await first).voices == VOICES


async def test_a_known_voice_is_found_in_an_old_list_without_waiting() -> None:
    lists, clock = Lists(), ManualClock()
    async with book_of(lists, clock) as book:
        await book.book()
        clock.advance(KEEP_S)
        lists.gate.clear()
        assert await book.find("anna") == VOICES[0]
        lists.gate.set()


@pytest.mark.parametrize("ident", [4, "4", "dora"])
async def test_a_voice_that_is_not_listed_is_asked_for_by_name_and_remembered(
    ident: int | str,
) -> None:
    lists = Lists()
    async with book_of(lists) as book:
        for _ in range(3):
            assert await book.find(ident) == DORA
    assert lists.asked == ["", str(ident)]


async def test_a_voice_that_is_none_is_remembered_too_but_not_for_ever() -> None:
    lists, clock = Lists(), ManualClock()
    async with book_of(lists, clock) as book:
        assert await book.find(77) is None
        assert await book.find(77) is None
        assert lists.asked == ["", "77"]
        lists.unlisted["77"] = DORA
        clock.advance(KEEP_S)
        assert await book.find(77) == DORA


@pytest.mark.parametrize("ident", ["", ".", ".."])
async def test_a_way_to_another_address_is_no_name(ident: str) -> None:
    lists = Lists()
    async with book_of(lists) as book:
        assert await book.find(ident) is None
    assert lists.asked == [""]


async def test_made_up_names_are_no_flood_behind_us() -> None:
    lists = Lists()
    async with book_of(lists) as book:
        await book.book()
        lists.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            for number in range(MAX_ASKING):
                tasks.create_task(book.find(1000 + number))
            while len(lists.asked) < 1 + MAX_ASKING:
                await asyncio.sleep(0)
            with pytest.raises(ServiceUnavailableError, match="too many unknown voices"):
                await book.find(5000)
            lists.gate.set()
        for number in range(MAX_SINGLES + 10):
            assert await book.find(10_000 + number) is None
        assert len(book._singles) == MAX_SINGLES


async def test_a_voice_listed_twice_is_one() -> None:
    lists = Lists()
    lists.listed = [*VOICES, VOICES[0]]
    async with book_of(lists) as book:
        assert len((await book.book()).voices) == len(VOICES)


async def test_what_is_too_long_for_a_name_is_neither_asked_for_nor_kept() -> None:
    lists = Lists()
    async with book_of(lists) as book:
        assert await book.find("x" * (MAX_HANDLE_CHARACTERS + 1)) is None
        assert await book.find("x" * MAX_HANDLE_CHARACTERS) is None
    assert lists.asked == ["", "x" * MAX_HANDLE_CHARACTERS]


async def test_a_book_that_does_not_run_is_not_waited_for_without_end() -> None:
    book = CatalogueBook(Lists(), patience_s=0.01)
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(TooSlowError):
            await book.book()
