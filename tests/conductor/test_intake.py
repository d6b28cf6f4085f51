"""The one way in: repeats, zones, acknowledgements, names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.conductor.intake import REMEMBERED_DELIVERIES, REMEMBERED_WORDS
from kugel_bridge.model.announcement import (
    AlertSegment,
    ChimeSegment,
    PauseSegment,
    Priority,
    ReplyAddress,
    Segment,
    TextSegment,
)
from kugel_bridge.model.report import Outcome, Step
from kugel_bridge.queue.policy import entry_for
from kugel_bridge.speech.alerts import Alert
from tests.conductor.stage import Stage


@pytest.fixture
async def house(path: Path) -> AsyncIterator[Stage]:
    """Two zones, two alerts."""
    alerts = {"fire": Alert({"": "Fire!"}), "water": Alert({"": "Water!"})}
    async with Stage(path, zones=("hall", "attic"), alerts=alerts) as stage:
        yield stage


async def test_the_same_id_while_it_speaks_or_waits_is_said_once(stage: Stage) -> None:
    gate = stage.voice.held("x")
    stage.say("x")
    await stage.event(Step.STARTED, "x")
    stage.say("x", reply_to=(ReplyAddress("again"),))
    stage.say("waits")
    stage.say("waits", reply_to=(ReplyAddress("again"),))
    assert stage.settled == {}
    gate.set()
    for name in ("x", "waits"):
        done = await stage.outcome(name)
        assert done.announcement.reply_to == (ReplyAddress("again"),)
        assert stage.settled[name] == 2
    assert stage.voice.asked == ["x", "waits"]


async def test_other_words_under_an_id_that_speaks_or_waits_are_said_under_one_of_their_own(
    stage: Stage,
) -> None:
    gate = stage.voice.held("The door opens")
    stage.say("door", "The door opens")
    await stage.event(Step.STARTED, "door")
    for _ in range(2):
        stage.say("door", "The door closes", delivery="m2", redelivered=True)
    stage.say("door", "The door is locked")
    gate.set()
    for name in ("door", "door#2", "door#3"):
        await stage.outcome(name)
    assert stage.voice.asked == ["The door opens", "The door closes", "The door is locked"]
    assert stage.settled == {"door": 4}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (AlertSegment("fire"), AlertSegment("water")),
        (TextSegment("word " * 60 + "one"), TextSegment("word " * 60 + "two")),
        (TextSegment("Ding"), ChimeSegment("ding")),
    ],
)
async def test_what_is_heard_tells_a_repeat_from_a_new_one(
    house: Stage, first: Segment, second: Segment
) -> None:
    house.say("alarm", segments=(first,))
    await house.outcome("alarm")
    house.say("alarm", segments=(second,))
    await house.event(Outcome.FINISHED, "alarm", 2)
    assert not house.answers


async def test_what_ended_unheard_makes_no_duplicate(stage: Stage) -> None:
    stage.switches.paused = True
    stage.say("a", "The door is open", dedupe_s=60)
    stage.conductor.clear()
    stage.switches.paused = False
    stage.say("b", "The door is open", dedupe_s=60)
    assert (await stage.outcome("b")).event is Outcome.FINISHED


async def test_what_waits_is_no_duplicate_for_something_more_urgent(stage: Stage) -> None:
    stage.switches.quiet = True
    stage.say("a", "Smoke in the kitchen", priority=Priority.LOW, dedupe_s=60)
    stage.say("b", "Smoke in the kitchen", priority=Priority.CRITICAL, dedupe_s=60)
    assert (await stage.outcome("b")).event is Outcome.FINISHED


async def test_the_same_words_are_duplicates_from_the_time_they_were_heard(stage: Stage) -> None:
    stage.switches.paused = True
    stage.say("a", "The door is open", dedupe_s=60)
    stage.advance(120)
    stage.switches.paused = False
    stage.look()
    await stage.outcome("a")
    stage.say("b", "The door is open", dedupe_s=60)
    assert (await stage.outcome("b")).reason == "duplicate"


async def test_a_broker_that_forgot_its_session_begins_new_messages(stage: Stage) -> None:
    stage.say("ours-1", "Ding dong", delivery="m1")
    await stage.outcome("ours-1")
    stage.advance(7_200)
    stage.intake.forget_deliveries()
    stage.say("ours-2", "Ding dong", delivery="m1", redelivered=True)
    assert (await stage.outcome("ours-2")).event is Outcome.FINISHED


async def test_what_is_meant_for_later_does_not_grow_stale_before(path: Path) -> None:
    async with Stage(path, ttl_s=900) as stage:
        stage.say("a", not_before_s=stage.clock.now().wall_s + 3_600)
        stage.advance(3_601)
        assert (await stage.outcome("a")).event is Outcome.FINISHED


async def test_the_same_id_after_its_end_is_answered_and_not_said(stage: Stage) -> None:
    stage.say("x")
    await stage.outcome("x")
    stage.advance(299)
    stage.say("x", reply_to=(ReplyAddress("again"),))
    (answer,) = stage.answers
    assert (answer.event, answer.announcement.reply_to) == (
        Outcome.FINISHED,
        (ReplyAddress("again"),),
    )
    assert stage.settled == {"x": 2}
    assert stage.voice.asked == ["x"]


async def test_other_words_under_the_same_id_are_no_repeat(stage: Stage) -> None:
    stage.say("door", "Mia rings")
    await stage.outcome("door")
    stage.say("door", "Tom rings")
    await stage.event(Outcome.FINISHED, "door", 2)
    assert stage.voice.asked == ["Mia rings", "Tom rings"]


async def test_much_later_a_short_id_is_a_new_announcement_but_a_redelivery_is_not(
    stage: Stage,
) -> None:
    stage.say("x", delivery="m1")
    await stage.outcome("x")
    stage.advance(301)
    stage.say("x", delivery="m1", redelivered=True)
    assert len(stage.answers) == 1
    stage.say("x")
    await stage.event(Outcome.FINISHED, "x", 2)


async def test_a_jump_of_the_wall_clock_makes_no_repeat_a_new_one(stage: Stage) -> None:
    stage.say("x")
    await stage.outcome("x")
    stage.clock.jump_wall(86_400)
    stage.say("x")
    assert len(stage.answers) == 1
    assert stage.voice.asked == ["x"]


async def test_a_redelivery_without_an_id_is_known_by_its_message(stage: Stage) -> None:
    gate = stage.voice.held("ring")
    stage.say("ours-1", "ring", delivery="m1")
    await stage.event(Step.STARTED, "ours-1")
    stage.say("ours-2", "ring", delivery="m1", redelivered=True)
    gate.set()
    await stage.outcome("ours-1")
    stage.say("ours-3", "ring", delivery="m1", redelivered=True)
    # The broker uses the number of an acknowledged message again, without the flag.
    stage.say("ours-4", "ring", delivery="m1")
    await stage.outcome("ours-4")
    assert stage.finished == ["ours-1", "ours-4"]
    assert stage.settled == {"ours-1": 1, "ours-2": 1, "ours-3": 1, "ours-4": 1}


async def test_a_waiting_one_is_known_again_after_a_restart(path: Path) -> None:
    async with Stage(path) as first:
        first.switches.paused = True
        first.say("ours-1", "ring", delivery="m1")
    async with Stage(path) as second:
        second.intake.remember_delivery("m1", "ours-1")
        second.switches.paused = False
        second.say("ours-2", "ring", delivery="m1", redelivered=True)
        await second.outcome("ours-1")
    assert second.voice.asked == ["ring"]


async def test_entries_that_come_late_from_a_slow_disk_are_not_said_twice(stage: Stage) -> None:
    stage.voice.held("speaks")
    stage.say("speaks")
    await stage.event(Step.STARTED, "speaks")
    stage.say("waits")
    waiting = list(stage.conductor.waiting)
    speaking = stage.conductor._turn
    assert speaking is not None
    left = [speaking.entry, *waiting]
    stage.keeping.adopt(left)
    stage.conductor.reload(left)
    assert [entry.announcement.id for entry in stage.conductor.waiting] == ["waits"]
    assert stage.settled == {"speaks": 1, "waits": 1}


async def test_one_acknowledgement_after_all_zones(house: Stage) -> None:
    gate = house.voice.held("x")
    house.say("x", zones=("all",))
    await house.event(Step.STARTED, "x", 2)
    house.conductors["hall"].skip(lambda _: True)
    await house.outcome("x", "hall")
    assert house.settled == {}
    gate.set()
    await house.outcome("x", "attic")
    assert house.settled == {"x": 1}
    assert house.ends == {("x", "hall"): [Outcome.SKIPPED], ("x", "attic"): [Outcome.FINISHED]}


async def test_a_zone_named_twice_speaks_once(house: Stage) -> None:
    house.say("x", zones=("attic", "attic"))
    await house.outcome("x", "attic")
    assert list(house.ends) == [("x", "attic")]
    assert house.settled == {"x": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"zones": ("cellar",)}, "no zone 'cellar' here; there are: hall, attic"),
        ({"chime": "gong"}, "no chime 'gong'; there are: "),
        ({"end_chime": "gong"}, "no chime 'gong'; there are: "),
        ({"segments": (ChimeSegment("gong"),)}, "no chime 'gong'"),
        ({"segments": (AlertSegment("flood"),)}, "no alert 'flood'; there are: fire, water"),
    ],
)
async def test_what_does_not_exist_is_rejected_and_acknowledged(
    house: Stage, fields: dict[str, object], reason: str
) -> None:
    house.say("x", **fields)
    done = await house.outcome("x")
    assert done.event is Outcome.REJECTED
    assert reason in done.reason
    assert house.settled == {"x": 1}
    assert house.voice.asked == []


async def test_zones_that_are_not_here_are_rejected_one_by_one_and_the_others_speak(
    house: Stage,
) -> None:
    house.say("x", zones=("cellar", "attic", "roof"))
    await house.outcome("x", "attic")
    assert house.ends == {
        ("x", "cellar"): [Outcome.REJECTED],
        ("x", "roof"): [Outcome.REJECTED],
        ("x", "attic"): [Outcome.FINISHED],
    }
    assert (await house.outcome("x", "roof")).reason.startswith("no zone 'roof' here")
    assert house.settled == {"x": 1}


async def test_of_a_topic_that_several_bridges_read_the_zones_of_others_are_left_to_them(
    house: Stage,
) -> None:
    house.say("ours", zones=("attic", "cellar"), shared=True)
    house.say("nobody's", zones=("cellar", "roof"), shared=True)
    await house.outcome("ours", "attic")
    assert house.ends == {
        ("ours", "attic"): [Outcome.FINISHED],
        ("nobody's", "cellar"): [Outcome.REJECTED],
        ("nobody's", "roof"): [Outcome.REJECTED],
    }
    assert house.settled == {"ours": 1, "nobody's": 1}


async def test_a_chime_that_there_is_not_rejects_all_zones_at_once(house: Stage) -> None:
    house.say("x", zones=("hall", "cellar"), chime="gong")
    assert house.ends == {("x", "hall,cellar"): [Outcome.REJECTED]}


async def test_the_words_of_an_alert_are_told_and_a_recordings_name(
    path: Path, tmp_path: Path
) -> None:
    alerts = {"fire": Alert({"": "Fire!", "de": "Feuer!"}), "siren": Alert({}, tmp_path / "s.wav")}
    async with Stage(path, alerts=alerts) as stage:
        stage.say("x", segments=(AlertSegment("fire"), TextSegment("Run!")), language="de")
        stage.say("y", segments=(AlertSegment("siren"),))
        assert (await stage.outcome("x")).announcement.text == "Feuer! Run!"
        assert (await stage.outcome("y")).announcement.text == "siren"


async def test_what_a_slow_disk_gives_up_late_came_before_what_is_live(path: Path) -> None:
    async with Stage(path) as stage:
        stage.switches.paused = True
        level_ttl_s = 600
        left = [
            entry_for(stage.announcement(name, tag=tag), "hall", sequence, level_ttl_s)
            for sequence, (name, tag) in enumerate(
                [("first", None), ("runs", "washer"), ("second", None)], 7_000_000
            )
        ]
        stage.say("done", tag="washer")
        stage.say("third")
        stage.keeping.adopt(left)
        stage.intake.begin_at(7_000_003)
        stage.conductor.reload(left)
        assert (await stage.outcome("runs")).reason == "replaced by done"
        stage.controls.set("paused", value=False)
        await stage.outcome("third")
        assert stage.finished == ["first", "second", "done", "third"]


async def test_the_same_words_within_their_time_are_said_once(stage: Stage) -> None:
    stage.say("one", "The door is open", dedupe_s=30)
    stage.advance(29)
    stage.say("two", "The door is open", dedupe_s=30)
    assert (await stage.outcome("two")).reason == "duplicate"
    stage.say("three", "The window is open", dedupe_s=30)
    stage.advance(1)
    stage.say("four", "The door is open", dedupe_s=30)
    await stage.outcome("four")
    assert stage.finished == ["one", "three", "four"]
    assert set(stage.settled.values()) == {1}


async def test_a_level_may_ask_for_it_and_an_announcement_refuse(path: Path) -> None:
    async with Stage(path, dedupe_s=30) as stage:
        stage.say("one", "The door is open")
        stage.say("two", "The door is open")
        stage.say("three", "The door is open", dedupe_s=0.0)
        await stage.outcome("three")
        assert (await stage.outcome("two")).reason == "duplicate"
        assert stage.finished == ["one", "three"]


async def test_two_alerts_without_words_are_not_the_same(house: Stage) -> None:
    for name in ("fire", "water"):
        house.say(name, segments=(AlertSegment(name),), dedupe_s=30)
    house.say("again", segments=(PauseSegment(100), AlertSegment("fire")), dedupe_s=30)
    await house.outcome("water")
    assert (await house.outcome("again")).reason == "duplicate"
    assert house.voice.asked == ["Fire!", "Water!"]


async def test_the_same_words_in_two_zones_are_no_repeat(house: Stage) -> None:
    house.say("x", zones=("all",), dedupe_s=30)
    await house.outcome("x", "hall")
    assert (await house.outcome("x", "attic")).event is Outcome.FINISHED


async def test_what_came_before_the_restart_is_said_before_what_came_after(path: Path) -> None:
    async with Stage(path) as first:
        first.switches.paused = True
        for name in ("a", "b"):
            first.say(name)
    async with Stage(path) as second:
        second.say("c")
        second.say("door", priority=Priority.HIGH)
        await second.outcome("c")
    assert second.finished == ["door", "a", "b", "c"]


async def test_memory_of_messages_and_words_is_bounded(stage: Stage) -> None:
    stage.switches.muted = True
    for number in range(REMEMBERED_DELIVERIES + 1):
        stage.intake.remember_delivery(f"m{number}", "x")
        stage.intake._said_just_now(
            stage.announcement("x", segments=(TextSegment(str(number)),)), "hall"
        )
    assert len(stage.intake._deliveries) == REMEMBERED_DELIVERIES
    assert len(stage.intake._said) == REMEMBERED_WORDS
