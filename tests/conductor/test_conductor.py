"""What one zone says next, what cuts it, and what becomes of each announcement."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kugel_bridge.audio.chime import tone
from kugel_bridge.conductor.conductor import MAX_REPLIES
from kugel_bridge.conductor.turn import Interruption
from kugel_bridge.model.announcement import (
    AlertSegment,
    CachePolicy,
    OfflineRule,
    Priority,
    Repeat,
    ReplyAddress,
    TextSegment,
)
from kugel_bridge.model.errors import (
    DeviceError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.report import Outcome, Report, SourceKind, Step
from kugel_bridge.model.status import PlayState
from kugel_bridge.queue.stored import stored_entries
from kugel_bridge.speech.alerts import Alert
from tests.clock import ManualClock
from tests.conductor.stage import SOUND, Stage
from tests.speech.sounds import noise

CRITICAL, HIGH, NORMAL, LOW = Priority.CRITICAL, Priority.HIGH, Priority.NORMAL, Priority.LOW


async def test_the_most_urgent_comes_first_then_the_oldest(stage: Stage) -> None:
    gate = stage.voice.held("now")
    stage.say("now", priority=CRITICAL)
    await stage.event(Step.STARTED, "now")
    for name, level in (("l", LOW), ("n1", NORMAL), ("h", HIGH), ("n2", NORMAL), ("c", CRITICAL)):
        stage.say(name, priority=level)
    gate.set()
    await stage.outcome("l")
    assert stage.finished == ["now", "c", "h", "n1", "n2", "l"]


async def test_it_tells_each_step_with_its_times(stage: Stage) -> None:
    gate = stage.voice.held("first")
    stage.say("first")
    await stage.event(Step.STARTED, "first")
    stage.say("second")
    stage.advance(2.0)
    gate.set()
    done = await stage.outcome("second")
    assert stage.events("first") == ["queued", "started", "finished"]
    assert stage.events("second") == ["queued", "started", "finished"]
    assert (done.source, done.attempts) == (SourceKind.LOCAL, 1)
    assert (done.queued_ms, done.first_sound_ms, done.duration_ms) == (2000, 2000, 300)
    assert stage.settled == {"first": 1, "second": 1}


# --- what makes way ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "preempt", "speaking", "cut"),
    [
        (HIGH, False, NORMAL, True),
        (CRITICAL, False, HIGH, True),
        (HIGH, False, HIGH, False),
        (NORMAL, False, LOW, False),
        (NORMAL, True, LOW, True),
        (NORMAL, True, NORMAL, False),
        (CRITICAL, False, CRITICAL, False),
    ],
)
async def test_what_cuts_what(
    stage: Stage, level: Priority, preempt: bool, speaking: Priority, cut: bool
) -> None:
    gate = stage.voice.held("long")
    stage.say("long", priority=speaking)
    await stage.event(Step.STARTED, "long")
    stage.say("new", priority=level, preempt=preempt)
    if not cut:
        assert stage.conductor.speaking is not None
        gate.set()
    await stage.outcome("new")
    gate.set()
    await stage.outcome("long")
    assert stage.finished == (["new", "long"] if cut else ["long", "new"])
    assert ("preempted" in stage.events("long")) is cut


async def test_it_goes_on_with_the_sentence_that_was_cut_and_sums_up_its_turns(
    stage: Stage,
) -> None:
    text = "The first sentence is over. The second one is cut here. And a third."
    stage.voice.lines[text] = (noise(2.3), asyncio.Event())  # 35 of 68 characters
    stage.say("long", text)
    await stage.event(Step.STARTED, "long")
    stage.advance(1.0)
    stage.say("door", priority=HIGH)
    done = await stage.outcome("long")
    assert stage.voice.asked == [text, "door", "The second one is cut here. And a third."]
    assert (done.event, done.attempts, done.first_sound_ms) == (Outcome.FINISHED, 2, 0)
    # 2.29 s were given to the card before the cut, 10 ms were held back for a soft end.
    assert done.duration_ms == 2290 + 300
    assert stage.events("long") == ["queued", "started", "preempted", "started", "finished"]


async def test_cut_before_its_first_sound_it_begins_afresh(stage: Stage) -> None:
    gate = stage.voice.slow("slow")
    stage.say("slow", end_chime="ding")
    await stage.until(lambda: stage.voice.asked == ["slow"])
    assert stage.conductor.state is PlayState.SYNTHESIZING
    stage.say("door", priority=HIGH)
    await stage.outcome("door")
    gate.set()
    done = await stage.outcome("slow")
    assert stage.events("slow") == ["queued", "preempted", "started", "finished"]
    assert (done.event, done.attempts) == (Outcome.FINISHED, 2)


async def test_what_cannot_be_spoken_now_cuts_nothing(stage: Stage) -> None:
    gate = stage.voice.held("long")
    stage.say("long")
    await stage.event(Step.STARTED, "long")
    now = stage.clock.now()
    stage.say("alarm clock", priority=HIGH, not_before_s=now.wall_s + 3600)
    stage.say("too late", priority=HIGH, expires_at_s=now.wall_s - 1)
    stage.controls.set("muted", value=True)
    stage.say("unheard", priority=HIGH)
    stage.controls.set("muted", value=False)
    stage.controls.set("quiet", value=True)
    stage.say("held", priority=NORMAL, preempt=True)
    gate.set()
    assert (await stage.outcome("long")).attempts == 1
    assert "preempted" not in stage.events("long")


async def test_a_newer_one_with_its_tag_ends_what_was_cut(path: Path) -> None:
    async with Stage(path) as stage:
        stage.voice.held("old")
        stage.say("old", tag="t")
        await stage.event(Step.STARTED, "old")
        stage.say("new", tag="t")
        stage.say("door", priority=HIGH)
        await stage.outcome("new")
        assert (await stage.outcome("old")).event is Outcome.REPLACED
        assert stage.events("old")[-2:] == ["preempted", "replaced"]
        # It has its outcome: no row of it may be written any more.
        assert not stage.keeping._unwritten
    assert stored_entries(path) == []


async def test_a_newer_one_with_its_tag_ends_what_would_be_tried_again(path: Path) -> None:
    async with Stage(path, with_cloud=True, offline=OfflineRule.WAIT) as stage:
        gate = asyncio.Event()
        stage.voice.lines["old"] = (gate, RateLimitedError("slow down"))
        stage.say("old", tag="t")
        await stage.until(lambda: stage.voice.asked == ["old"])
        stage.say("new", tag="t")
        gate.set()
        assert (await stage.outcome("old")).event is Outcome.REPLACED
        assert "deferred" not in stage.events("old")
        await stage.outcome("new")
    assert stored_entries(path) == []


# --- what people ask for -------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waiting", "opening", "synthesising", "chime", "speaking"])
@pytest.mark.parametrize("ask", ["stop", "skip", "clear", "pause"])
async def test_it_ends_or_goes_on_as_asked_at_any_time(stage: Stage, phase: str, ask: str) -> None:
    gate = asyncio.Event()
    if phase == "waiting":
        stage.switches.paused = True
    elif phase == "opening":
        await stage.until(lambda: stage.card.is_open)
        stage.card.opening.clear()
    elif phase in ("synthesising", "chime"):
        gate = stage.voice.slow("x")
    else:
        gate = stage.voice.held("x")
    stage.say("x", chime=True if phase == "chime" else None)
    if phase == "speaking":
        await stage.event(Step.STARTED, "x")
    elif phase == "waiting":
        await stage.event(Step.QUEUED, "x")
    elif phase == "opening":
        await stage.until(lambda: stage.conductor.speaking is not None)
        await asyncio.sleep(0)
    else:
        await stage.until(lambda: stage.voice.asked == ["x"])
        assert stage.conductor.is_audible is (phase == "chime")

    changed = 0
    if ask == "stop":
        changed = int(stage.conductor.interrupt(Interruption.STOP))
        # A second press finds nothing more to do.
        assert not stage.conductor.interrupt(Interruption.STOP)
    elif ask == "skip":
        changed = stage.conductor.skip(lambda announcement: announcement.id == "x")
    elif ask == "clear":
        changed = stage.conductor.clear()
    else:
        stage.controls.set("paused", value=True)
        await stage.until(lambda: stage.conductor.state is PlayState.PAUSED)
    stage.card.opening.set()
    gate.set()
    stage.controls.set("paused", value=False)

    done = await stage.outcome("x")
    is_ended = {"stop": phase != "waiting", "skip": True, "clear": phase == "waiting"}
    if is_ended.get(ask, False):
        reasons = {"stop": "stopped", "skip": "skipped by request", "clear": "cleared"}
        assert (done.event, done.reason, changed) == (Outcome.SKIPPED, reasons[ask], 1)
    else:
        assert (done.event, changed) == (Outcome.FINISHED, 0)
    assert stage.settled == {"x": 1}
    assert stage.voice.open == 0


async def test_a_stop_wins_over_a_preemption_that_is_under_way(stage: Stage) -> None:
    stage.voice.held("long")
    stage.say("long")
    await stage.event(Step.STARTED, "long")
    stage.say("door", priority=HIGH)
    assert stage.conductor.interrupt(Interruption.STOP)
    assert not stage.conductor.interrupt(Interruption.PAUSE)
    assert (await stage.outcome("long")).reason == "stopped"
    await stage.outcome("door")


@pytest.mark.parametrize("error", [DeviceError("gone"), OSError("a bug")])
@pytest.mark.parametrize("why", [Interruption.STOP, Interruption.PREEMPT])
async def test_a_cut_is_obeyed_even_if_the_card_fails_at_it(
    stage: Stage, error: Exception, why: Interruption
) -> None:
    gate = stage.voice.held("long")
    stage.say("long")
    await stage.event(Step.STARTED, "long")
    stage.card.fails_to_stop = error
    assert stage.conductor.interrupt(why)
    gate.set()
    done = await stage.outcome("long")
    assert done.event is (Outcome.SKIPPED if why is Interruption.STOP else Outcome.FINISHED)


async def test_a_stop_that_comes_with_the_end_ends_nothing_twice(stage: Stage) -> None:
    answers = []

    def listener(report: Report) -> None:
        if report.event is Outcome.FINISHED:
            answers.append(stage.conductor.interrupt(Interruption.STOP))

    stage.listener = listener
    stage.say("one")
    stage.say("two")
    await stage.outcome("two")
    assert stage.finished == ["one", "two"]
    assert answers == [False, False]


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_in_the_moment_of_a_failed_try_is_obeyed(stage: Stage, turns: int) -> None:
    await stage.until(lambda: stage.card.is_open)
    stage.card.opening.clear()
    stage.say("x")
    await stage.until(lambda: stage.conductor.speaking is not None)
    stage.card.missing = True
    stage.card.opening.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    if stage.conductor.interrupt(Interruption.STOP):
        assert (await stage.outcome("x")).reason == "stopped"
    else:
        await stage.event(Step.DEFERRED, "x")


async def test_one_that_failed_in_the_moment_of_a_preemption_waits_for_its_next_try(
    stage: Stage,
) -> None:
    await stage.until(lambda: stage.card.is_open)
    stage.card.missing, stage.card.is_open = True, False
    stage.say("x")
    turn = stage.conductor._turn
    assert turn is not None
    while not turn.task.done():
        await asyncio.sleep(0)
    assert stage.conductor.interrupt(Interruption.PREEMPT)
    deferred = await stage.event(Step.DEFERRED, "x")
    assert (deferred.reason, deferred.attempts) == ("the card was unplugged", 1)
    assert "preempted" not in stage.events("x")


async def test_a_critical_one_does_not_wait_for_the_end_of_a_pause(stage: Stage) -> None:
    stage.controls.set("paused", value=True)
    stage.say("door", priority=HIGH)
    stage.say("fire", priority=CRITICAL)
    assert (await stage.outcome("fire")).event is Outcome.FINISHED
    assert stage.events("door") == ["queued"]


async def test_paused_in_mid_speech_it_goes_on_where_it_was(stage: Stage) -> None:
    text = "The first sentence is over. The second one is cut here. And a third."
    stage.voice.lines[text] = (noise(2.3), asyncio.Event())
    stage.say("long", text)
    await stage.event(Step.STARTED, "long")
    stage.controls.set("paused", value=True)
    await stage.until(lambda: stage.conductor.state is PlayState.PAUSED)
    stage.say("other", priority=CRITICAL)
    assert await stage.event(Step.QUEUED, "other")
    stage.controls.set("paused", value=False)
    await stage.outcome("long")
    assert stage.voice.asked[1:] == ["other", "The second one is cut here. And a third."]


async def test_mute_and_quiet_let_the_urgent_ones_through(stage: Stage) -> None:
    stage.controls.set("muted", value=True)
    stage.say("unheard", priority=HIGH)
    stage.say("fire", priority=CRITICAL)
    assert (await stage.outcome("unheard")).reason == "muted"
    assert (await stage.outcome("fire")).event is Outcome.FINISHED
    stage.controls.set("muted", value=False)
    stage.controls.set("quiet", value=True)
    stage.say("held")
    stage.say("door", priority=HIGH)
    deferred = await stage.event(Step.DEFERRED, "held")
    assert (deferred.reason, deferred.retry_at_s) == ("quiet hours", None)
    assert stage.conductor.deferred == 1
    await stage.outcome("door")
    stage.conductor.try_again()  # the cloud is no reason to end quiet hours
    stage.advance(100)
    assert "held" not in stage.finished
    stage.controls.set("quiet", value=False)
    assert (await stage.outcome("held")).event is Outcome.FINISHED


# --- what has to be tried again ------------------------------------------------------------------


async def test_rate_limited_it_waits_as_long_as_asked(path: Path) -> None:
    async with Stage(path, with_cloud=True, offline=OfflineRule.WAIT) as stage:
        stage.client.refusal = RateLimitedError("slow down", retry_after_s=30)
        stage.say("x", chime=True)
        deferred = await stage.event(Step.DEFERRED, "x")
        assert deferred.retry_at_s == stage.clock.now().wall_s + 30
        assert (deferred.reason, stage.conductor.deferred) == ("slow down", 1)
        stage.client.refusal = None
        stage.advance(29)
        await asyncio.sleep(0.01)
        assert stage.finished == []
        stage.advance(1)
        done = await stage.outcome("x")
    assert (done.source, done.attempts, done.characters) == (SourceKind.CLOUD, 2, 1)
    # No chime for words that had to wait: one ding-dong is 1.06 s.
    assert done.duration_ms is not None
    assert done.duration_ms < 2 * 1060


async def test_tries_come_less_and_less_often(path: Path) -> None:
    async with Stage(path, ttl_s=10_000) as stage:
        stage.card.missing = True
        stage.say("x")
        for attempt, most_s in enumerate((1, 2, 4, 8, 16, 32, 60, 60), 1):
            deferred = await stage.event(Step.DEFERRED, "x", attempt)
            assert deferred.retry_at_s is not None
            wait_s = deferred.retry_at_s - stage.clock.now().wall_s
            assert 0.8 * most_s <= wait_s <= 1.2 * most_s
            stage.advance(wait_s + 0.001)
        await stage.event(Step.DEFERRED, "x", 9)
        stage.conductor.clear()
        await stage.outcome("x")


async def test_a_wish_for_no_wait_at_all_makes_no_busy_loop(path: Path) -> None:
    async with Stage(path, with_cloud=True, offline=OfflineRule.WAIT) as stage:
        stage.client.refusal = RateLimitedError("slow down", retry_after_s=0)
        stage.say("x")
        deferred = await stage.event(Step.DEFERRED, "x")
        assert deferred.retry_at_s is not None
        assert deferred.retry_at_s > stage.clock.now().wall_s


async def test_back_in_service_the_cloud_is_tried_at_once(path: Path) -> None:
    async with Stage(path, with_cloud=True, offline=OfflineRule.WAIT) as stage:
        stage.client.available = ServiceUnavailableError("no route to host")
        stage.say("x")
        await stage.event(Step.DEFERRED, "x")
        stage.client.available = None
        stage.conductor.try_again()
        assert (await stage.outcome("x")).source is SourceKind.CLOUD


async def test_an_unplugged_card_costs_nothing_but_time(stage: Stage) -> None:
    await stage.until(lambda: stage.card.is_open)
    stage.card.missing = True
    stage.say("x")
    assert (await stage.event(Step.DEFERRED, "x")).reason == "the card was unplugged"
    assert stage.voice.asked == []
    stage.card.missing = False
    # The zone looks for the card every second at first, and says when it is back.
    assert (await stage.outcome("x")).event is Outcome.FINISHED


async def test_unplugged_in_mid_speech_it_goes_on_with_that_sentence(stage: Stage) -> None:
    text = "The first sentence is over. The second one is cut here. And a third."
    stage.voice.lines[text] = (noise(4.4),)
    stage.card.fails_after = 24_000 * 23 // 10
    stage.say("x", text)
    await stage.event(Step.DEFERRED, "x")
    stage.advance(0.5)
    stage.card.missing = False
    stage.conductor.try_again()
    done = await stage.outcome("x")
    assert stage.voice.asked[1] == "The second one is cut here. And a third."
    assert (done.event, done.attempts, done.first_sound_ms) == (Outcome.FINISHED, 2, 0)
    assert done.duration_ms is not None
    assert done.duration_ms > 2_000 + 300


async def test_what_a_missing_card_refused_is_due_again_in_the_same_moment(stage: Stage) -> None:
    stage.card.missing = True
    for name in ("one", "two", "three"):
        stage.say(name)
        await stage.event(Step.DEFERRED, name)
    assert len({entry.retry_at_s for entry in stage.conductor.waiting}) == 1
    stage.card.missing = False
    for name in ("one", "two", "three"):
        await stage.outcome(name)
    assert stage.voice.asked == ["one", "two", "three"]


async def test_cut_when_only_its_chime_is_left_it_is_finished(stage: Stage) -> None:
    stage.voice.lines["x"] = (noise(0.6),)
    stage.card.fails_after = 24_000 * 7 // 10
    stage.say("x", end_chime="ding")
    done = await stage.outcome("x")
    assert (done.event, done.attempts, done.source) == (Outcome.FINISHED, 1, SourceKind.LOCAL)
    assert "deferred" not in stage.events("x")
    assert stage.voice.asked == ["x"]


async def test_what_has_the_floor_needs_no_row(path: Path) -> None:
    async with Stage(path) as stage:
        first, second = stage.voice.held("first"), stage.voice.held("second")
        stage.say("first")
        await stage.event(Step.STARTED, "first")
        stage.say("second", delivery="m1")
        first.set()
        await stage.event(Step.STARTED, "second")
        stage.say("third")
        stage.advance(10)
        await stage.until(lambda: stage.settled["third"] == 1)
        assert [row.announcement.id for row in stored_entries(path)] == ["third"]
        second.set()
        await stage.outcome("third")


async def test_a_source_that_breaks_is_followed_by_another_from_that_sentence(
    path: Path,
) -> None:
    text = "The first sentence is over. The second one breaks. And a third."
    async with Stage(path, with_cloud=True) as stage:
        stage.voice.lines[text] = (noise(2.0), ServiceUnavailableError("connection lost"))

        def listener(report: Report) -> None:
            if report.event is Step.STARTED:
                stage.client.available = ServiceUnavailableError("connection lost")

        stage.listener = listener
        stage.say("x", text)
        done = await stage.outcome("x")
        assert stage.voice.asked == [text, "The second one breaks. And a third."]
        assert len(stage.client.requests) == 1
        assert (done.event, done.source) == (Outcome.FINISHED, SourceKind.CLOUD)
        assert (done.duration_ms, done.characters) == (2300, len(text))


async def test_a_source_that_always_breaks_ends_as_failed(stage: Stage) -> None:
    stage.voice.lines["x"] = (SOUND, ServiceUnavailableError("it broke"))
    stage.say("x")
    done = await stage.outcome("x")
    assert (done.event, done.reason) == (Outcome.FAILED, "it broke")
    assert stage.voice.asked == ["x"] * 4
    assert done.duration_ms == 1200


async def test_only_from_the_cache_it_fails_without_one(stage: Stage) -> None:
    stage.say("x", cache=CachePolicy.ONLY)
    done = await stage.outcome("x")
    assert (done.event, done.reason) == (Outcome.FAILED, "the phrase is not in the cache")


# --- what stops being true -----------------------------------------------------------------------


async def test_what_waits_expires_while_something_else_is_spoken(stage: Stage) -> None:
    stage.voice.held("long")
    stage.say("long")
    await stage.event(Step.STARTED, "long")
    stage.say("brief", ttl_s=5)
    stage.say("dated", expires_at_s=stage.clock.now().wall_s + 5)
    stage.advance(5)
    assert (await stage.outcome("brief")).event is Outcome.EXPIRED
    assert (await stage.outcome("dated")).event is Outcome.EXPIRED
    assert stage.conductor.speaking is not None


async def test_too_slow_to_be_true_it_is_not_spoken(stage: Stage) -> None:
    gate = stage.voice.slow("x")
    stage.say("x", ttl_s=5)
    await stage.until(lambda: stage.voice.asked == ["x"])
    stage.advance(5)
    gate.set()
    done = await stage.outcome("x")
    assert (done.event, done.duration_ms) == (Outcome.EXPIRED, 0)
    assert stage.card.heard_frames == 0
    assert stage.voice.open == 0


async def test_no_chime_sounds_for_what_expired_while_the_card_was_opened(stage: Stage) -> None:
    await stage.until(lambda: stage.card.is_open)
    stage.card.opening.clear()
    stage.say("x", ttl_s=5, chime=True)
    await stage.until(lambda: stage.conductor.speaking is not None)
    stage.advance(5)
    stage.card.opening.set()
    assert (await stage.outcome("x")).event is Outcome.EXPIRED
    assert stage.card.heard_frames == 0


async def test_deferred_beyond_its_deadline_it_expires(stage: Stage) -> None:
    stage.card.missing = True
    stage.say("x", ttl_s=3)
    await stage.event(Step.DEFERRED, "x")
    stage.advance(3)
    assert (await stage.outcome("x")).event is Outcome.EXPIRED


async def test_what_came_too_late_already_is_told_so(stage: Stage) -> None:
    stage.say("x", expires_at_s=stage.clock.now().wall_s - 1)
    assert (await stage.outcome("x")).event is Outcome.EXPIRED
    assert stage.voice.asked == []


# --- accounts ------------------------------------------------------------------------------------


async def test_a_critical_one_not_heard_in_time_escalates_once(path: Path) -> None:
    async with Stage(path, first_sound_s=0.02) as stage:
        gate = stage.voice.slow("fire")
        stage.say("fire", priority=CRITICAL)
        stage.say("door", priority=HIGH)
        await stage.event(Step.ESCALATE, "fire")
        gate.set()
        await stage.outcome("door")
        assert stage.events("fire") == ["queued", "escalate", "started", "finished"]
        assert "escalate" not in stage.events("door")


async def test_a_critical_one_of_the_last_run_escalates_in_this_one(path: Path) -> None:
    clock = ManualClock()
    async with Stage(path, clock=clock, first_sound_s=60) as first:
        first.card.missing = True
        first.say("fire", priority=CRITICAL)
        await first.event(Step.DEFERRED, "fire")
    clock.advance(59.99)
    async with Stage(path, clock=clock, first_sound_s=60) as second:
        second.voice.slow("fire")
        await second.event(Step.ESCALATE, "fire")


async def test_one_that_was_heard_and_put_off_does_not_escalate(path: Path) -> None:
    async with Stage(path, first_sound_s=0.05) as stage:
        gate = stage.voice.held("fire")
        stage.say("fire", priority=CRITICAL)
        await stage.event(Step.STARTED, "fire")
        stage.card.missing = True
        gate.set()
        await stage.event(Step.DEFERRED, "fire")
        await asyncio.sleep(0.1)
        assert "escalate" not in stage.events("fire")


async def test_a_full_list_ends_the_newest_of_the_least_urgent(path: Path) -> None:
    async with Stage(path, max_waiting=2) as stage:
        gate = stage.voice.held("now")
        stage.say("now", priority=CRITICAL)
        await stage.event(Step.STARTED, "now")
        for name in ("a", "b", "c"):
            stage.say(name)
        assert (await stage.outcome("c")).reason == "queue full"
        stage.say("d", priority=HIGH)
        assert (await stage.outcome("b")).reason == "queue full"
        gate.set()
        await stage.outcome("a")
        assert all(count == 1 for count in stage.settled.values())
        assert len(stage.settled) == 5


async def test_those_that_come_in_one_moment_all_say_that_they_wait(path: Path) -> None:
    async with Stage(path) as stage:
        gate = stage.voice.held("b")
        stage.say("a")
        stage.say("b", priority=HIGH)  # "a" was to be next, until this came
        await stage.event(Step.STARTED, "b")
        assert stage.events("a") == ["queued"]
        stage.advance(1)
        await stage.until(lambda: stage.settled == {"a": 1})
        assert [row.announcement.id for row in stored_entries(path)] == ["a"]
        gate.set()
        await stage.outcome("a")


async def test_a_listener_that_fails_costs_no_outcome(stage: Stage) -> None:
    def listener(report: Report) -> None:
        raise RuntimeError("a bug")

    stage.listener = listener
    stage.say("one")
    stage.say("two")
    await stage.outcome("two")
    assert stage.finished == ["one", "two"]
    assert stage.settled == {"one": 1, "two": 1}


async def test_a_bug_in_a_source_fails_that_announcement_only(stage: Stage) -> None:
    stage.voice.lines["bad"] = (SOUND, ValueError("a bug"))  # type: ignore[dict-item]
    stage.say("bad", "bad")
    stage.say("good")
    # A scripted value that is neither sound nor an error of ours breaks the player.
    done = await stage.outcome("bad")
    assert done.event is Outcome.FAILED
    assert "fault" in done.reason
    assert (await stage.outcome("good")).event is Outcome.FINISHED


async def test_everybody_who_sent_the_same_id_is_answered(stage: Stage) -> None:
    first, second, third = ReplyAddress("a"), ReplyAddress("b"), ReplyAddress("c")
    gate = stage.voice.held("x")
    stage.say("x", reply_to=(first,))
    await stage.event(Step.STARTED, "x")
    stage.conductor.add_replies("x", (second, first))

    def listener(report: Report) -> None:
        if report.announcement.id == "waits" and report.event is Step.QUEUED:
            stage.conductor.add_replies("waits", (third,))

    stage.listener = listener
    stage.say("waits")
    gate.set()
    assert (await stage.outcome("x")).announcement.reply_to == (first, second)
    assert (await stage.outcome("waits")).announcement.reply_to == (third,)


async def test_only_so_many_callers_of_one_are_answered(stage: Stage) -> None:
    stage.switches.paused = True
    for number in range(MAX_REPLIES + 5):
        stage.say("x", reply_to=(ReplyAddress(f"caller/{number}"),))
    (waiting,) = stage.conductor.waiting
    assert len(waiting.announcement.reply_to) == MAX_REPLIES


async def test_it_says_why_a_lower_rung_spoke(path: Path) -> None:
    async with Stage(path, with_cloud=True) as stage:
        stage.say("bought")
        assert (await stage.outcome("bought")).reason == ""
        stage.client.refusal = RateLimitedError("slow down")
        stage.say("local")
        spoken = await stage.outcome("local")
        assert (spoken.source, spoken.reason) == (SourceKind.LOCAL, "cloud: slow down")
        stage.voice.lines["tone"] = (ServiceUnavailableError("no voice"),)
        stage.say("tone")
        beeped = await stage.outcome("tone")
        assert beeped.source is SourceKind.TONE
        assert beeped.reason == "cloud: slow down; local: no voice"


async def test_why_a_lower_rung_spoke_is_known_after_a_preemption(path: Path) -> None:
    async with Stage(path, with_cloud=True) as stage:
        stage.client.refusal = RateLimitedError("slow down")
        stage.voice.held("x")
        stage.say("x")
        await stage.event(Step.STARTED, "x")
        stage.voice.lines.clear()
        stage.say("door", priority=HIGH)
        await stage.event(Step.PREEMPTED, "x")
        stage.client.refusal = None
        assert (await stage.outcome("x")).reason == "cloud: slow down"


async def test_an_alert_that_cannot_be_played_sounds_the_tone_and_the_rest_is_spoken(
    path: Path, tmp_path: Path
) -> None:
    alerts = {"fire": Alert({}, tmp_path / "none.wav")}
    async with Stage(path, alerts=alerts) as stage:
        stage.alerts.load()
        stage.say("x", segments=(AlertSegment("fire"),), priority=CRITICAL)
        done = await stage.outcome("x")
        assert (done.event, done.source) == (Outcome.FINISHED, SourceKind.TONE)
        assert f"alert 'fire' cannot be played: cannot read {tmp_path / 'none.wav'}" in done.reason
        assert done.duration_ms == round(tone().seconds * 1000)
        stage.say("y", segments=(AlertSegment("fire"), TextSegment("Run!")))
        done = await stage.outcome("y")
        assert (done.event, done.source) == (Outcome.FINISHED, SourceKind.TONE)
        assert stage.voice.asked == ["Run!"]


async def test_what_was_not_heard_is_kept_for_the_next_run(path: Path) -> None:
    text = "The first sentence is over. The second one is cut here. And a third."
    async with Stage(path) as first:
        first.voice.lines[text] = (noise(2.3), asyncio.Event())
        first.say("cut", text)
        await first.event(Step.STARTED, "cut")
        first.say("next")
    assert first.settled == {"cut": 1, "next": 1}
    assert first.ends == {}
    async with Stage(path) as second:
        await second.outcome("next")
    assert second.finished == ["cut", "next"]
    assert second.voice.asked[0] == "The second one is cut here. And a third."
    assert stored_entries(path) == []


async def test_stopped_by_a_person_it_does_not_come_back_after_the_end(path: Path) -> None:
    async with Stage(path) as stage:
        stage.voice.held("x")
        stage.say("x")
        await stage.event(Step.STARTED, "x")
        stage.conductor.interrupt(Interruption.STOP)
    assert stage.ends == {("x", "hall"): [Outcome.SKIPPED]}
    assert stored_entries(path) == []


async def test_a_repetition_cut_in_its_second_round_goes_on_there(stage: Stage) -> None:
    asked = stage.voice.asked
    stage.voice.lines["Once more."] = (noise(0.6),)
    stage.card.fails_after = 24_000  # 0.6 s and a pause of 0.2 s are out by then
    stage.say("x", "Once more.", repeat=Repeat(3, pause_s=0.2))
    await stage.event(Step.DEFERRED, "x")
    heard = len(asked)
    stage.card.missing = False
    stage.conductor.try_again()
    await stage.outcome("x")
    assert len(asked) - heard == 2


async def test_ten_thousand_wait_and_a_stop_still_acts_at_once(path: Path) -> None:
    async with Stage(path, max_waiting=10_000) as stage:
        stage.voice.held("now")
        stage.say("now")
        await stage.event(Step.STARTED, "now")
        for number in range(10_000):
            stage.say(f"n{number}", "x")
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert stage.conductor.interrupt(Interruption.STOP)
        assert (await stage.outcome("now")).event is Outcome.SKIPPED
        # All of them are muted away one by one, and a request still gets its word in between.
        stage.controls.set("muted", value=True)
        await stage.until(lambda: len(stage.ends) > 10)
        assert stage.conductor.clear() > 5_000
        await stage.until(lambda: len(stage.ends) == 10_001)
        assert set(stage.settled.values()) == {1}
