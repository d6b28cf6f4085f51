"""Settings and requests, as people send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kugel_bridge.conductor.controls import REMEMBERED_TEXTS, Answer, Arguments, limit_of
from kugel_bridge.model.announcement import Priority, ReplyAddress, Volume
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.report import Outcome, Step
from kugel_bridge.model.status import PlayState
from tests.conductor.stage import Stage


@pytest.fixture
async def house(path: Path) -> AsyncIterator[Stage]:
    """Two zones."""
    async with Stage(path, zones=("hall", "attic")) as stage:
        yield stage


async def ask(stage: Stage, verb: str, **arguments: object) -> Answer:
    given: Arguments = arguments
    return await stage.controls.verbs()[verb](given)


async def speaks(stage: Stage, name: str, **fields: object) -> None:
    stage.voice.held(name)
    stage.say(name, **fields)
    await stage.event(Step.STARTED, name, len(fields.get("zones", ("",))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("muted", "ON"),
        ("paused", None),
        ("volume", "loud"),
        ("voice", True),
        ("language", 3),
        ("chime", "gong"),
        ("log_level", None),
        ("colour", "red"),
    ],
)
async def test_a_setting_that_cannot_be_is_rejected(stage: Stage, name: str, value: object) -> None:
    before = stage.changes
    with pytest.raises(RejectedError):
        stage.controls.set(name, value)  # type: ignore[arg-type]
    assert stage.changes == before


async def test_settings_reach_what_they_change(house: Stage) -> None:
    house.controls.set("volume", Volume(40))
    house.controls.set("volume", Volume(-5, relative=True))
    assert [c.zone.volume for c in house.conductors.values()] == [35, 35]
    house.controls.set("language", "de")
    house.controls.set("voice", "bert")
    house.controls.set("chime", "ding")
    house.controls.set("log_level", "debug")
    switches = house.switches
    assert (switches.language, switches.voice, switches.chime) == ("de", "bert", "ding")
    assert house.levels == ["debug"]
    house.controls.set("language", None)
    house.controls.set("voice", None)
    assert (switches.language, switches.voice) == ("en", None)
    assert house.changes >= 8


async def test_the_chime_of_all_announcements_can_be_switched(stage: Stage) -> None:
    stage.say("plain")
    stage.controls.set("chime", value=True)
    await stage.outcome("plain")
    stage.say("chimed")
    stage.say("without", chime=False)
    with_ms = (await stage.outcome("chimed")).duration_ms
    assert with_ms is not None
    assert with_ms > 1000
    assert (await stage.outcome("without")).duration_ms == 300


async def test_stop_ends_what_speaks_in_all_zones_or_in_one(house: Stage) -> None:
    await speaks(house, "x", zones=("hall", "attic"))
    assert await ask(house, "stop", zone="attic") == {"stopped": 1}
    assert (await house.outcome("x", "attic")).reason == "stopped"
    assert await ask(house, "stop") == {"stopped": 1}
    assert (await house.outcome("x", "hall")).reason == "stopped"
    assert await ask(house, "stop") == {"stopped": 0}
    with pytest.raises(RejectedError, match="no zone 'cellar' here; there are: hall, attic"):
        await ask(house, "stop", zone="cellar")


async def test_skip_takes_what_is_named_waiting_or_speaking(stage: Stage) -> None:
    await speaks(stage, "now", tag="a")
    stage.say("one", tag="b", priority=Priority.LOW)
    stage.say("two", tag="c", priority=Priority.LOW)
    stage.say("three", tag="d")
    assert await ask(stage, "skip", tag="b", priority=Priority.NORMAL) == {"skipped": 0}
    assert await ask(stage, "skip", value="three") == {"skipped": 1}
    assert await ask(stage, "skip", priority=Priority.LOW) == {"skipped": 2}
    assert await ask(stage, "skip", tag="a") == {"skipped": 1}
    for name in ("now", "one", "two", "three"):
        assert (await stage.outcome(name)).reason == "skipped by request"


async def test_skip_without_a_name_cuts_in_the_zone_it_names_only(house: Stage) -> None:
    await speaks(house, "x", zones=("hall", "attic"))
    assert await ask(house, "skip", zone="attic") == {"skipped": 1}
    await house.outcome("x", "attic")
    assert house.conductors["hall"].speaking is not None


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("skip", {"identity": "x"}, "not known here: 'identity'; the request takes id, a plain"),
        ("stop", {"value": "attic"}, "not known here: a plain text; the request takes zone"),
        ("clear", {"zones": "attic"}, "not known here: 'zones'"),
        ("pause", {"zone": "attic"}, "not known here: 'zone'; the request takes nothing"),
    ],
)
async def test_an_argument_that_is_not_known_is_refused_and_nothing_is_done(
    house: Stage, verb: str, arguments: dict[str, object], reason: str
) -> None:
    await speaks(house, "x", zones=("hall", "attic"))
    house.say("waits")
    with pytest.raises(RejectedError, match=reason):
        await ask(house, verb, **arguments)
    assert not house.ends
    assert not house.switches.paused


async def test_skip_without_a_name_makes_room_for_the_next(stage: Stage) -> None:
    await speaks(stage, "now")
    stage.say("next")
    assert await ask(stage, "skip") == {"skipped": 1}
    assert (await stage.outcome("next")).event is Outcome.FINISHED


async def test_clear_ends_what_waits_and_leaves_what_speaks(stage: Stage) -> None:
    await speaks(stage, "now")
    for name in ("a", "b"):
        stage.say(name)
    assert await ask(stage, "clear") == {"cleared": 2}
    assert [(await stage.outcome(n)).reason for n in ("a", "b")] == ["cleared", "cleared"]
    assert stage.conductor.state is PlayState.SPEAKING


async def test_pause_and_resume(stage: Stage) -> None:
    assert await ask(stage, "pause") == {"paused": True}
    stage.say("x")
    await stage.event(Step.QUEUED, "x")
    assert stage.conductor.state is PlayState.PAUSED
    assert await ask(stage, "resume") == {"paused": False}
    await stage.outcome("x")


async def test_the_queue_is_listed_in_the_order_of_speaking(stage: Stage) -> None:
    await speaks(stage, "now")
    stage.say("low", priority=Priority.LOW)
    stage.say("high", not_before_s=stage.clock.now().wall_s + 9, priority=Priority.HIGH)
    answer = await ask(stage, "queue", limit=2)
    assert answer["waiting"] == 2
    assert answer["announcements"] == [
        {"id": "now", "zone": "hall", "state": "speaking", "priority": "normal", "text": "now"},
        {"id": "high", "zone": "hall", "state": "waiting", "priority": "high", "text": "high"},
    ]


async def test_what_was_put_off_says_why(stage: Stage) -> None:
    stage.controls.set("quiet", value=True)
    stage.say("x")
    await stage.event(Step.DEFERRED, "x")
    (row,) = (await ask(stage, "queue"))["announcements"]
    assert (row["state"], row["reason"]) == ("deferred", "quiet hours")


async def test_replay_says_it_again_under_a_name_of_its_own(stage: Stage) -> None:
    with pytest.raises(RejectedError, match="nothing was said yet"):
        await ask(stage, "replay")
    fields = {
        "tag": "t",
        "reply_to": (ReplyAddress("me"),),
        "dedupe_s": 60.0,
        "delivery": "m1",
        "expires_at_s": stage.clock.now().wall_s + 5,
    }
    for name in ("one", "two"):
        stage.controls.remember(stage.announcement(name, **fields))
        stage.say(name, **fields)
    await stage.outcome("two")
    stage.advance(10)
    answer = await ask(stage, "replay")
    assert answer["text"] == "two"
    again = await stage.outcome(answer["id"])
    assert (again.event, again.announcement.reply_to) == (Outcome.FINISHED, ())
    first = await ask(stage, "replay", id="one")
    second = await ask(stage, "replay", value="one")
    assert first["id"] != second["id"]
    assert (await stage.outcome(second["id"])).event is Outcome.FINISHED
    with pytest.raises(RejectedError, match="no announcement 'three' is remembered"):
        await ask(stage, "replay", id="three")


async def test_only_the_last_ones_are_remembered(stage: Stage) -> None:
    for number in range(REMEMBERED_TEXTS + 1):
        stage.controls.remember(stage.announcement(str(number)))
    stage.controls.remember(stage.announcement("1", "said anew"))
    assert len(stage.controls._remembered) == REMEMBERED_TEXTS
    with pytest.raises(RejectedError):
        await ask(stage, "replay", id="0")
    assert (await ask(stage, "replay"))["text"] == "said anew"


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", 1.5, None])
def test_a_limit_is_a_number_of_rows(limit: object) -> None:
    with pytest.raises(RejectedError, match="limit is"):
        limit_of({"limit": limit})
    assert (limit_of({}), limit_of({"limit": 1000})) == (100, 1000)
