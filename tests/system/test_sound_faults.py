"""Faults of the sound card: what is heard, what is told of it, and what comes when it is back."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, Caller, Daemon, eventually, loud
from tests.kept import until_stored
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard

LONG = " ".join(["This goes on and on."] * 4)
CARD_BUFFER_S = 0.08
STALL_NOTICED_S = 5.0


@pytest.mark.parametrize(("order", "told"), [("gone", "missing"), ("busy", "busy")])
async def test_without_a_card_at_the_start_all_is_kept_even_over_a_kill_and_heard_once(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str, told: str
) -> None:
    engine, names = Recital(0.4), ["One", "Two", "Three"]
    card.order(order)
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url))
        await daemon.start()
        await caller.state(audio=told)
        for name in names:
            await caller.say({"text": name, "id": name})
            await caller.event("deferred", name)
        await until_stored(tmp_path, names[-1])
        await daemon.end(signal.SIGKILL)
        async with daemon:
            await caller.state(audio=told)
            card.heal()
            assert await caller.outcomes(3) == dict.fromkeys(names, "finished")
            await caller.state(audio="ok")
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert stored_entries(tmp_path / "queue.db") == []
    assert engine.whole(card.heard()) == names


async def test_too_late_for_a_card_that_comes_back_it_is_expired_and_not_heard(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4)
    card.order("gone")
    async with (
        serving(engine) as gateway,
        Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)),
    ):
        await caller.state(audio="missing")
        await caller.say({"text": "Soon stale", "id": "stale", "ttl": 1})
        await caller.say({"text": "True for long", "id": "true"})
        await caller.event("expired", "stale")
        card.heal()
        await caller.event("finished", "true")
    assert engine.whole(card.heard()) == ["True for long"]


async def test_unplugged_in_mid_speech_it_goes_on_with_the_sentence_when_the_card_is_back(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    text = "This is the first sentence of two. This is the second one."
    rests = [text, "This is the second one."]
    engine = Recital(0.4, **dict.fromkeys(rests, 3.0))
    async with serving(engine) as gateway:
        async with Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)):
            await caller.state(state="idle")
            await caller.say({"text": text, "id": "cut"})
            await caller.event("started", "cut")
            await caller.say({"text": "The next", "id": "next"})
            await caller.event("queued", "next")
            await eventually(lambda: len(card.heard()) > 24_000)
            card.order("gone")
            await caller.state(audio="missing")
            await caller.event("deferred", "cut")
            card.heal()
            assert await caller.outcomes(2) == {"cut": "finished", "next": "finished"}
            await caller.state(audio="ok")
        assert held_by_broker(broker.port, CLIENT_ID) == []
    first, *others = engine.heard_in(card.heard())
    assert first.text == text
    assert 0 < first.part < 1
    assert sorted(h.text for h in others if h.part == 1.0) in (
        sorted(["The next", rests[0]]),
        sorted(["The next", rests[1]]),
    )
    assert all(h.part == 1.0 for h in others)


async def test_unplugged_while_idle_the_next_one_is_heard_from_its_beginning(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4)
    async with (
        serving(engine) as gateway,
        Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)),
    ):
        await caller.state(state="idle")
        await caller.say({"text": "One", "id": "one"})
        await caller.event("finished", "one")
        card.order("gone")
        await caller.say({"text": "Two", "id": "two"})
        await caller.event("deferred", "two")
        card.heal()
        await caller.event("finished", "two")
    assert engine.whole(card.heard()) == ["One", "Two"]


@pytest.mark.parametrize("order", ["xrun", "suspend"])
async def test_a_break_in_the_sound_costs_what_the_card_held_and_nothing_after_it(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital(1.0)
    card.order(f"{order} at=8000")
    async with (
        serving(engine) as gateway,
        Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)),
    ):
        await caller.state(state="idle")
        for name in ("One", "Two"):
            await caller.say({"text": name, "id": name})
        assert set((await caller.outcomes(2)).values()) == {"finished"}
    assert not card.orders.exists(), "the fault did not come"
    sound, heard = engine.sound("One"), card.heard()
    (broken, whole) = engine.heard_in(heard)
    assert whole == ("Two", 1.0)
    assert broken.text == "One"
    begun = round(broken.part * len(sound))
    rest = heard[begun : heard.index(engine.sound("Two"))]
    assert rest
    assert sound.endswith(rest)
    assert len(sound) - begun - len(rest) <= CARD_BUFFER_S * 48_000


async def test_stopped_for_a_second_it_runs_dry_and_goes_on_without_losing_a_frame(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4, **{LONG: 2.0})
    async with (
        serving(engine) as gateway,
        Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)) as daemon,
    ):
        await caller.state(state="idle")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await eventually(lambda: len(card.heard()) > 12_000)
        daemon.send(signal.SIGSTOP)
        until_s = time.monotonic() + 1.0
        await eventually(lambda: time.monotonic() > until_s)
        daemon.send(signal.SIGCONT)
        await caller.say({"text": "Next", "id": "next"})
        assert await caller.outcomes(2) == {"long": "finished", "next": "finished"}
    assert card.interruptions()
    assert engine.whole(card.heard()) == [LONG, "Next"]


async def test_a_card_that_takes_nothing_is_noticed_and_what_was_not_heard_is_said_again(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4, **{LONG: 2.0})
    async with serving(engine) as gateway:
        async with Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)):
            await caller.state(state="idle")
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Next", "id": "next"})
            card.order("stall")
            began_s = time.monotonic()
            await caller.state(audio="missing")
            assert time.monotonic() - began_s <= STALL_NOTICED_S
            await caller.event("deferred", "long")
            card.heal()
            assert await caller.outcomes(2) == {"long": "finished", "next": "finished"}
            await caller.state(audio="ok")
        assert held_by_broker(broker.port, CLIENT_ID) == []
    heard = engine.heard_in(card.heard())
    assert "Next" in [h.text for h in heard if h.part == 1.0]
    assert sum(h.part for h in heard if h.text == LONG) >= 1.0


async def test_a_card_that_stalls_for_a_moment_loses_nothing(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4, **{LONG: 2.0})
    async with (
        serving(engine) as gateway,
        Daemon(tmp_path, loud(tmp_path, broker.port, gateway.url)),
    ):
        await caller.state(state="idle")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        card.order("stall")
        until_s = time.monotonic() + 1.5
        await eventually(lambda: time.monotonic() > until_s)
        card.heal()
        await caller.event("finished", "long")
    assert engine.whole(card.heard()) == [LONG]
