"""What is known of a turn, and what may cut it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from kugel_bridge.audio.null import NullSink
from kugel_bridge.audio.player import Player
from kugel_bridge.conductor.performance import Performance
from kugel_bridge.conductor.turn import Ending, Interruption, Past, Turn, milliseconds
from kugel_bridge.model.announcement import CachePolicy, OfflineRule
from kugel_bridge.model.errors import DeviceError, RetryableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import Outcome, SourceKind, Step
from kugel_bridge.speech.ladder import Ladder
from tests.queue.entries import START, entry
from tests.speech.sounds import noise

STOP, SKIP, PREEMPT, PAUSE = Interruption


class Floor:
    """A turn whose performance ends when it is told to."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.over: asyncio.Future[Ending | RetryableError] = asyncio.Future()
        ladder = Ladder(cache=None, cloud=None, local=None)
        performance = Performance(
            (),
            ladder,
            cache=CachePolicy.USE,
            first_sound_s=1.0,
            offline=OfflineRule.SPEAK,
        )
        player = Player(NullSink(paced=False), lead_in_s=0.0, tail_s=0.0)
        task = tasks.create_task(self._wait())
        self.turn = Turn(entry(1), performance, player, task, START.monotonic_s + 0.5)

    async def _wait(self) -> Ending | RetryableError:
        return await self.over

    async def end(self, result: Ending | RetryableError) -> None:
        self.over.set_result(result)
        while not self.turn.task.done():
            await asyncio.sleep(0)


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    async with asyncio.TaskGroup() as tasks:
        floor = Floor(tasks)
        yield floor
        floor.turn.task.cancel()


@pytest.mark.parametrize("first", Interruption)
@pytest.mark.parametrize("second", Interruption)
async def test_only_a_final_cut_counts_after_one_that_is_not(
    floor: Floor, first: Interruption, second: Interruption
) -> None:
    assert floor.turn.interrupt(first)
    wins = second in (STOP, SKIP) and first in (PREEMPT, PAUSE)
    assert floor.turn.interrupt(second) is wins
    assert floor.turn.interruption is (second if wins else first)
    # A second cancel would break off the fade.
    assert floor.turn.task.cancelling() == 1


async def test_what_has_ended_cannot_be_cut(floor: Floor) -> None:
    assert floor.turn.result is None
    await floor.end(Ending(Outcome.FINISHED))
    assert floor.turn.result == Ending(Outcome.FINISHED)
    assert not floor.turn.interrupt(STOP)
    assert floor.turn.interruption is None


async def test_what_would_be_tried_again_can_be_stopped(floor: Floor) -> None:
    await floor.end(DeviceError("gone"))
    assert floor.turn.interrupt(STOP)
    assert floor.turn.interruption is STOP


async def test_it_tells_nothing_of_the_announcement_played_before(floor: Floor) -> None:
    turn = floor.turn

    async def sound() -> AsyncIterator[PcmChunk]:
        yield noise(0.5)

    await turn.player.play(sound(), percent=lambda: 100.0, on_first_sound=lambda: None)
    assert turn.heard_s == 0.0
    turn.playing = True
    assert turn.heard_s == 0.5


async def test_cut_after_its_last_word_it_still_tells_where_the_words_came_from(
    floor: Floor,
) -> None:
    floor.turn.past = Past(heard_s=1.5, source=SourceKind.CACHE)
    assert floor.turn.report(Outcome.FINISHED, START).source is SourceKind.CACHE
    assert floor.turn.as_past().source is SourceKind.CACHE
    floor.turn.performance.source = SourceKind.LOCAL
    assert floor.turn.report(Outcome.FINISHED, START).source is SourceKind.LOCAL


async def test_a_report_sums_up_all_turns(floor: Floor) -> None:
    turn = floor.turn
    turn.past = Past(heard_s=1.5, characters=40, first_sound_ms=300)
    turn.first_sound_s = START.monotonic_s + 9
    turn.performance.characters = 2
    turn.entry = replace(turn.entry, attempts=2)
    report = turn.report(Outcome.FINISHED, START)
    assert (report.duration_ms, report.characters, report.first_sound_ms) == (1500, 42, 300)
    assert (report.queued_ms, report.attempts) == (500, 3)
    assert turn.report(Step.STARTED, START).duration_ms is None


async def test_its_first_sound_counts_from_the_arrival(floor: Floor) -> None:
    assert floor.turn.first_sound_ms is None
    floor.turn.first_sound_s = START.monotonic_s + 0.25
    assert floor.turn.first_sound_ms == 250


async def test_what_was_heard_before_is_never_forgotten(floor: Floor) -> None:
    floor.turn.entry = replace(floor.turn.entry, resume_at=30)
    assert floor.turn.resumed().resume_at == 30


async def test_what_goes_on_later_was_tried_once_more(floor: Floor) -> None:
    floor.turn.entry = replace(floor.turn.entry, attempts=2)
    assert floor.turn.resumed().attempts == floor.turn.tried.attempts == 3


def test_milliseconds_are_whole_and_never_negative() -> None:
    assert [milliseconds(s) for s in (1.2346, 0.0, -3.0)] == [1235, 0, 0]
