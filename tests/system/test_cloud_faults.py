"""A service that fails in every way there is: what is heard, what is kept, and what is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from kugel_bridge.app import parts
from kugel_bridge.audio.chime import tone
from kugel_bridge.conductor import rules
from kugel_bridge.gateway.orders import parse
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio import client, standing
from kugel_bridge.kugelaudio.frames import Finished
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.settings.tree import Settings
from tests.broker import Mosquitto, Peer
from tests.cli.test_gateway import Gateway
from tests.gateway_server import serving
from tests.house import ROOT, Caller, Daemon, eventually, living, loud
from tests.proxy import Proxy, proxying
from tests.recital import Recital
from tests.simcard import SimCard

NO_LOCAL_VOICE = {"local": {"engine": "none"}}
"""Then the tone stands for it: every sound on the record is known."""
GUARDED = {"base_url": None, "voice_id": "anna", "connect_timeout_s": 1}
HIGH_WATER = "VmHWM"


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in a house, so that hundreds of bridges do not come back at once."""
    monkeypatch.setattr(standing, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(rules, "RETRY_FIRST_S", 0.1)
    monkeypatch.setattr(rules, "RETRY_LEAST_S", 0.1)
    monkeypatch.setattr(client, "SHAKY_S", 0.05)


# --- 16, 17: out of reach -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://speech.invalid:8780", "the host was not found"),
        # Set aside for documentation (RFC 5737): nobody answers there, in whatever way.
        ("http://192.0.2.1:8780", "cannot be reached|no connection within|no sound within"),
    ],
)
async def test_a_host_out_of_reach_is_named_and_known_phrases_are_said_at_once(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, url: str, reason: str
) -> None:
    engine = Recital()
    settings = loud(tmp_path, broker.port, url, **NO_LOCAL_VOICE)
    settings["priority"] = {"normal": {"first_sound_s": 2.0}}
    await remembered(settings, engine, "Known")
    async with living(settings):
        await caller.say({"text": "New", "id": "new"})
        new = await caller.event("finished", "new")
        await caller.state(cloud="unreachable")
        await caller.say({"text": "Known", "id": "known"})
        known = await caller.event("finished", "known")
        await caller.say({"text": "Later", "id": "later", "offline": "wait"})
        later = await caller.event("deferred", "later")
        await caller.request("cancel", {"id": "later"})
    assert (new["source"], known["source"]) == ("tone", "cache")
    assert known["first_sound_ms"] < new["first_sound_ms"] + 500
    assert re.search(reason, later["reason"])
    assert engine.whole(card.heard()) == ["Known"]
    assert_nothing_else(card, engine, "Known")


async def test_a_frozen_service_is_noticed_in_time_and_used_again_when_it_thaws(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    gateway = Gateway(KUGEL_BRIDGE_CONFIG=os.devnull)
    settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
    settings["priority"] = {"normal": {"first_sound_s": 1.0}}
    settings["cloud"] |= {"voice_id": "espeak-en", "first_audio_timeout_s": 1}
    try:
        async with living(settings):
            await caller.state(cloud="ok")
            gateway.process.send_signal(signal.SIGSTOP)
            for name in ("on the open socket", "on a new one"):
                await caller.say({"text": f"Frozen {name}.", "id": name})
                frozen = await caller.event("finished", name)
                assert frozen["source"] == "tone"
                # The open time-out and what the card takes; the daemon shares two cores here.
                assert frozen["first_sound_ms"] < 3_000
                await caller.state(cloud="unreachable")
            gateway.process.send_signal(signal.SIGCONT)
            await caller.state(cloud="ok")
            await caller.say({"text": "It has thawed.", "id": "thawed"})
            assert (await caller.event("finished", "thawed"))["source"] == "cloud"
    finally:
        gateway.process.send_signal(signal.SIGCONT)
        gateway.end()


# --- 18, 19: verdicts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"), [(401, "unauthorized"), (403, "unauthorized"), (402, "no_credits")]
)
async def test_a_refused_key_is_tried_once_and_known_phrases_go_on(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, status: int, state: str
) -> None:
    engine = Recital()
    faults = [parse(f"on=/ws/* do=refuse status={status}")]
    async with serving(engine, faults=faults) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        await remembered(settings, engine, "Known")
        async with living(settings):
            await caller.state(cloud=state)
            for name in ("New", "Known", "Newer"):
                await caller.say({"text": name, "id": name})
            sources = [(await caller.event("finished"))["source"] for _ in range(3)]
            await caller.say({"text": "Patient", "id": "patient", "offline": "wait"})
            deferred = await caller.event("deferred", "patient")
        assert await occasions(gateway) == 1
    assert sources == ["tone", "cache", "tone"]
    assert deferred["reason"]
    assert engine.requests == []
    assert engine.whole(card.heard()) == ["Known"]


@pytest.mark.parametrize(
    ("wish", "least_s", "most_s"),
    [
        ("", 0.2, 2.5),
        ("retry_after=7", 4, 9),
        ("retry_after=date", 15, 40),
        ("retry_after=nonsense", 0.2, 2.5),
        ("retry_after=huge", 3_500, 4_200),
    ],
)
async def test_a_limit_is_kept_for_as_long_as_it_makes_sense(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    wish: str,
    least_s: float,
    most_s: float,
) -> None:
    engine = Recital()
    faults = [parse(f"on=/ws/* do=refuse status=429 {wish}")]
    async with serving(engine, faults=faults) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        async with living(settings):
            await caller.state(cloud="limited")
            await caller.say({"text": "Wait", "id": "wait", "offline": "wait", "ttl": 9_000})
            deferred = await caller.event("deferred", "wait")
            asked = await occasions(gateway)
            await caller.say({"text": "Now", "id": "now"})
            assert (await caller.event("finished", "now"))["source"] == "tone"
            if least_s > 1:
                assert asked == await occasions(gateway) == 1
    wait_s = moment(deferred["retry_at"]) - moment(deferred["at"])
    assert least_s <= wait_s <= most_s
    assert_nothing_else(card, engine)


async def test_when_a_limit_is_over_the_alarm_comes_first(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    faults = [parse("on=/ws/* do=refuse status=429 retry_after=2 times=1")]
    async with serving(engine, faults=faults) as gateway:
        async with living(loud(tmp_path, broker.port, gateway.url)):
            await caller.state(cloud="limited")
            for priority in ("low", "normal", "critical"):
                wanted = {"text": priority, "id": priority, "priority": priority}
                await caller.say({**wanted, "offline": "wait"})
                await caller.event("deferred", priority)
            assert set((await caller.outcomes(3)).values()) == {"finished"}
    assert engine.whole(card.heard()) == ["critical", "normal", "low"]


# --- 20, 21: garbage, breaks and stalls ----------------------------------------------------------

GARBAGE = (
    "text", "html", "truncated", "binary", "list", "nested", "base64", "odd", "empty", "rate",
    "enc", "nan",
)  # fmt: skip
BREAKS = (
    "do=error status=500", "do=error status=503", "do=close code=1011", "do=reset", "do=eof",
    "do=stall",
)  # fmt: skip
DOORS = (
    "do=refuse status=500 body=html", "do=refuse status=502 body=truncated",
    "do=refuse status=503 body=empty", "do=reset at=door",
)  # fmt: skip


@pytest.mark.usefixtures("short_waits")
async def test_no_answer_without_sense_is_heard_or_kept_and_the_next_try_is_whole(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    harmless = {"empty", "nan"}  # nothing of the sound is lost by them
    async with serving(engine, faults=[]) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        settings["cloud"] |= {"first_audio_timeout_s": 1, "stall_timeout_s": 1}
        async with living(settings):
            await caller.state(cloud="ok")
            orders = [f"do=garbage kind={kind}" for kind in GARBAGE if kind not in harmless]
            orders += [*BREAKS, "do=silence"]
            for order in orders:
                await ordered(gateway, f"on=/ws/tts times=1 {order}")
                await caller.say({"text": order, "id": order, "offline": "wait"})
                assert (await caller.event("deferred", order))["reason"]
                finished = await caller.event("finished", order)
                assert (finished["source"], finished["attempts"]) == ("cloud", 2), order
            stats = await caller.request("cache/stats")
    assert engine.whole(card.heard()) == orders
    assert_nothing_else(card, engine, *orders)
    assert stats["phrases"] == len(orders)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    "order",
    [
        *(f"do=garbage kind={k}" for k in ("text", "odd", "base64", "rate", "other-rate", "enc")),
        *BREAKS,
    ],
)
async def test_what_breaks_in_the_middle_is_followed_by_the_next_voice_and_not_kept(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital(0.8)
    faults = [parse(f"on=/ws/tts after=3 {order}")]
    async with serving(engine, faults=faults) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        settings["cloud"] |= {"stall_timeout_s": 0.5}
        async with living(settings):
            await caller.say({"text": "A sentence that breaks", "id": "x"})
            finished = await caller.event("finished", "x")
            stats = await caller.request("cache/stats")
    (heard,) = engine.heard_in(card.heard())
    assert 0.3 < heard.part < 0.4
    assert finished["source"] == "cloud"
    record = card.heard()
    assert bytes(tone().data) in record
    assert stats["phrases"] == 0


@pytest.mark.usefixtures("short_waits")
async def test_a_door_that_fails_is_passed_by_when_it_opens_again(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    faults = [parse(f"on=/ws/tts times=1 skip={n} {order}") for n, order in enumerate(DOORS)]
    async with serving(engine, faults=faults) as gateway:
        async with living(loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)):
            await caller.say({"text": "At last", "id": "x", "offline": "wait"})
            assert (await caller.event("finished", "x"))["source"] == "cloud"
    assert engine.whole(card.heard()) == ["At last"]
    assert_nothing_else(card, engine, "At last")


@pytest.mark.parametrize("order", ["do=garbage kind=idx", "do=garbage kind=nan", "do=twice"])
async def test_what_does_not_touch_the_sound_is_overlooked(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital()
    async with serving(engine, faults=[parse(f"on=/ws/tts {order}")]) as gateway:
        async with living(loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)):
            for name in ("One", "Two"):
                await caller.say({"text": name, "id": name})
            assert set((await caller.outcomes(2)).values()) == {"finished"}
    assert set(engine.whole(card.heard())) <= {"One", "Two"}
    assert_nothing_else(card, engine, "One", "Two")


@pytest.mark.usefixtures("short_waits")
async def test_without_an_end_it_is_heard_and_not_kept(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(1.0)
    async with serving(engine, faults=[parse("on=/ws/tts do=no-final")]) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        settings["cloud"] |= {"stall_timeout_s": 0.5}
        async with living(settings):
            await caller.say({"text": "No end", "id": "x"})
            await caller.event("finished", "x")
            stats = await caller.request("cache/stats")
    assert engine.whole(card.heard()) == ["No end"]
    assert stats["phrases"] == 0
