"""What is told of an announcement, in which order, and what is remembered for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kugel_bridge.conductor.herald import Herald
from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.queue.store import QueueStore
from tests.clock import ManualClock
from tests.queue.entries import entry


class Square:
    """A herald, and those who listen."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.store = QueueStore(path, self.clock)
        self.keeping = Keeping(self.store, self.clock)
        self.told: list[Report] = []
        self.herald = Herald(self.keeping, self.clock, self.told.append)

    @property
    def events(self) -> list[str]:
        return [report.event.value for report in self.told]


@pytest.fixture
async def square(tmp_path: Path) -> AsyncIterator[Square]:
    square = Square(tmp_path / "queue.db")
    async with square.store:
        yield square


async def test_its_arrival_is_told_once_and_only_if_it_was_expected(square: Square) -> None:
    fresh, reloaded = entry(1), entry(2)
    square.herald.expect(fresh)
    assert square.herald.untold == ["a1"]
    square.clock.advance(3)
    for _ in range(2):
        square.herald.queued(fresh)
        square.herald.queued(reloaded)
    (told,) = square.told
    assert (told.event, told.announcement.id) == (Step.QUEUED, "a1")
    # Told late, so that the first sound came first; but it says when that was.
    assert told.at == fresh.announcement.received
    assert square.herald.untold == []


async def test_every_step_tells_of_the_arrival_first(square: Square) -> None:
    for number in (1, 2):
        square.herald.expect(entry(number))
    now = square.clock.now()
    square.herald.deferred(replace(entry(1), reason="away", retry_at_s=now.monotonic_s + 5), now)
    square.herald.escalated(entry(2))
    assert square.events == ["queued", "deferred", "queued", "escalate"]
    deferred = square.told[1]
    assert (deferred.reason, deferred.retry_at_s) == ("away", now.wall_s + 5)


async def test_put_off_until_further_notice_it_names_no_time(square: Square) -> None:
    now = square.clock.now()
    square.herald.deferred(replace(entry(1), reason="quiet", retry_at_s=float("inf")), now)
    assert square.told[0].retry_at_s is None


async def test_an_outcome_is_told_before_its_sender_may_forget_it(square: Square) -> None:
    one = entry(1)
    square.keeping.owe(one.key, lambda: square.told.append(square.told[-1]))
    square.herald.expect(one)
    square.clock.advance(2)
    square.herald.ended_waiting(one, Outcome.EXPIRED, "too late")
    assert square.events == ["expired", "expired"]
    report = square.told[0]
    assert (report.reason, report.queued_ms, report.duration_ms) == ("too late", 2000, None)
    assert square.store.ended("a1", "hall") is not None
    assert square.herald.untold == []


async def test_a_listener_that_fails_keeps_no_sender_waiting(square: Square) -> None:
    def fails(report: Report) -> None:
        raise RuntimeError("a bug")

    settled = []
    one = entry(1)
    square.keeping.owe(one.key, lambda: settled.append(1))
    Herald(square.keeping, square.clock, fails).ended_waiting(one, Outcome.SKIPPED, "cleared")
    assert settled == [1]
    assert square.store.ended("a1", "hall") is not None
