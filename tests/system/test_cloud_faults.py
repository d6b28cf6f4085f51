"""A service that fails in every way there is: what is heard, what is kept, and what is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
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
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.settings.tree import Settings
from tests.bomb import NEGOTIATED, bombing
from tests.broker import Mosquitto, Peer
from tests.cli.test_gateway import Gateway
from tests.gateway_server import serving
from tests.house import ROOT, Caller, Daemon, eventually, living, loud
from tests.proxy import Proxy, proxying
from tests.recital import Recital
from tests.simcard import SimCard

NO_LOCAL_VOICE = {"local": {"engine": "none"}}
"""Then the tone stands for it: every sound on the record is known."""
HIGH_WATER = "VmHWM"
QUICK_S = 0.2
"""Of sound: enough for a few frames, and soon heard."""
FADED_BYTES = 1_000
"""At a break: 20 ms."""


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in a house, so that hundreds of bridges do not come back at once."""
    monkeypatch.setattr(standing, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(rules, "RETRY_FIRST_S", 0.1)
    monkeypatch.setattr(rules, "RETRY_LEAST_S", 0.1)
    monkeypatch.setattr(client, "SHAKY_S", 0.05)


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that failed is not asked again during a test."""
    monkeypatch.setattr(standing, "FIRST_BACKOFF_S", 60.0)


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
    engine = Recital(QUICK_S)
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
        await caller.request("skip", "later")
    assert (new["source"], known["source"]) == ("tone", "cache")
    assert known["first_sound_ms"] < new["first_sound_ms"] + 500
    assert re.search(reason, later["reason"])
    assert engine.whole(card.heard()) == ["Known"]
    assert_nothing_else(card, engine, "Known")


@pytest.mark.usefixtures("short_waits")
async def test_a_frozen_service_is_noticed_in_time_and_used_again_when_it_thaws(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    gateway = Gateway(KUGEL_BRIDGE_CONFIG=os.devnull)
    settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
    settings["priority"] = {"normal": {"first_sound_s": 1.0}}
    try:
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as catalogue:
            voice = (await catalogue.get("/v1/voices")).json()["voices"][0]
        settings["cloud"] |= {"voice_id": voice["id"], "first_audio_timeout_s": 1}
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
            await caller.say({"text": "It has thawed.", "id": "thawed", "offline": "wait"})
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
    engine = Recital(QUICK_S)
    faults = [parse(f"on=/ws/* do=refuse status={status}")]
    async with serving(engine, faults=faults) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        await remembered(settings, engine, "Known")
        async with living(settings):
            await caller.state(cloud=state)
            for name in ("New", "Known"):
                await caller.say({"text": name, "id": name})
            sources = [(await caller.event("finished"))["source"] for _ in range(2)]
            await caller.say({"text": "Patient", "id": "patient", "offline": "wait"})
            deferred = await caller.event("deferred", "patient")
        assert await occasions(gateway) == 1
    assert sources == ["tone", "cache"]
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
    engine = Recital(QUICK_S)
    async with house(tmp_path, broker, engine, f"on=/ws/* do=refuse status=429 {wish}") as gateway:
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
    engine = Recital(QUICK_S)
    limited = "on=/ws/* do=refuse status=429 retry_after=4 times=1"
    async with house(tmp_path, broker, engine, limited):
        await caller.state(cloud="limited")
        for priority in ("low", "normal", "critical"):
            wanted = {"text": priority, "id": priority, "priority": priority}
            await caller.say({**wanted, "offline": "wait"})
            await caller.event("deferred", priority)
        assert set((await caller.outcomes(3)).values()) == {"finished"}
    assert engine.whole(card.heard()) == ["critical", "normal", "low"]


# --- 20, 21: garbage, breaks and stalls ----------------------------------------------------------

GARBAGE = (
    "text", "html", "truncated", "binary", "list", "nested", "base64", "odd", "rate", "enc", "nan",
)  # fmt: skip
LOSSES = ("do=reset", "do=eof")
BREAKS = (
    "do=error status=500", "do=error status=503", "do=close code=1011", "do=stall", *LOSSES,
)  # fmt: skip
DOORS = (
    "do=refuse status=500 body=html", "do=refuse status=502 body=truncated",
    "do=refuse status=503 body=empty", "do=reset at=door",
)  # fmt: skip


@pytest.mark.usefixtures("short_waits")
async def test_no_answer_without_sense_is_heard_or_kept_and_the_next_try_is_whole(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    orders = (*(f"do=garbage kind={kind}" for kind in GARBAGE), *BREAKS, "do=silence")
    names = [f"Try {number}" for number in range(len(orders))]
    waits_s = {"first_audio_timeout_s": 1, "stall_timeout_s": 1}
    async with house(tmp_path, broker, engine, **waits_s) as gateway:
        await caller.state(cloud="ok")
        for number, order in enumerate(orders):
            name, lost = f"Try {number}", order in LOSSES
            # A socket that was lost without a word is replaced at once: the second is told.
            await ordered(gateway, f"on=/ws/tts times={2 if lost else 1} {order}")
            await caller.say({"text": name, "id": name, "offline": "wait"})
            assert (await caller.event("deferred", name))["reason"]
            finished = await caller.event("finished", name)
            assert (finished["source"], finished["attempts"]) == ("cloud", 2), order
            await caller.state(cloud="ok")
        stats = (await caller.request("cache/stats"))["data"]
    assert engine.whole(card.heard()) == names
    assert_nothing_else(card, engine, *names)
    assert stats["entries"] == len(names)


@pytest.mark.usefixtures("long_waits")
@pytest.mark.parametrize(
    "order",
    [
        "do=garbage kind=odd",
        "do=garbage kind=other-rate",
        "do=error status=500",
        "do=close code=1011",
        "do=reset",
        "do=stall",
    ],
)
async def test_what_breaks_in_the_middle_is_followed_by_the_next_voice_and_not_kept(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital(0.96)
    async with house(tmp_path, broker, engine, f"on=/ws/tts after=3 {order}", stall_timeout_s=0.5):
        await caller.say({"text": "A sentence that breaks", "id": "x"})
        finished = await caller.event("finished", "x")
        stats = (await caller.request("cache/stats"))["data"]
    (heard,) = engine.heard_in(card.heard())
    # Three frames; before a silence it is faded out, and what follows is faded in.
    assert 0.6 < heard.part < 0.63
    assert finished["source"] == "cloud"
    after = card.heard().partition(engine.sound(heard.text)[:27_800])[2]
    assert bytes(tone().data)[FADED_BYTES:] in after
    left = after.replace(bytes(tone().data)[FADED_BYTES:], b"").replace(b"\0\0", b"")
    assert len(left) <= 2 * FADED_BYTES
    assert stats["entries"] == 0


@pytest.mark.usefixtures("short_waits")
async def test_a_door_that_fails_is_passed_by_when_it_opens_again(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    faults = [f"on=/ws/tts times=1 skip={n} {order}" for n, order in enumerate(DOORS)]
    async with house(tmp_path, broker, engine, *faults):
        await caller.say({"text": "At last", "id": "x", "offline": "wait"})
        assert (await caller.event("finished", "x"))["source"] == "cloud"
    assert engine.whole(card.heard()) == ["At last"]
    assert_nothing_else(card, engine, "At last")


@pytest.mark.parametrize("order", ["do=garbage kind=idx", "do=twice"])
async def test_what_does_not_touch_the_sound_is_overlooked(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital(QUICK_S)
    async with house(tmp_path, broker, engine, f"on=/ws/tts {order}"):
        for name in ("One", "Two"):
            await caller.say({"text": name, "id": name})
        assert set((await caller.outcomes(2)).values()) == {"finished"}
    assert set(engine.whole(card.heard())) <= {"One", "Two"}
    assert_nothing_else(card, engine, "One", "Two")


@pytest.mark.usefixtures("long_waits")
async def test_without_an_end_it_is_heard_and_not_kept(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(1.0)
    async with house(tmp_path, broker, engine, "on=/ws/tts do=no-final", stall_timeout_s=0.5):
        await caller.say({"text": "No end", "id": "x"})
        await caller.event("finished", "x")
        stats = (await caller.request("cache/stats"))["data"]
    assert engine.whole(card.heard()) == ["No end"]
    assert stats["entries"] == 0


# --- 22, 23, 24: slow, fast, huge -----------------------------------------------------------------


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("do=drip at=door rate=20", "no connection within 0.5 s"),
        ("do=drip rate=200", "no sound within 0.5 s"),
        ("do=delay ms=5000", "no sound within 0.5 s"),
        ("do=stall at=door", "no connection within 0.5 s"),
    ],
)
async def test_what_drips_is_given_up_like_what_is_silent(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str, reason: str
) -> None:
    engine = Recital(QUICK_S)
    waits_s = {"connect_timeout_s": 0.5, "first_audio_timeout_s": 0.5}
    async with house(tmp_path, broker, engine, f"on=/ws/tts times=1 {order}", **waits_s):
        await caller.say({"text": "At last", "id": "x", "offline": "wait"})
        assert reason in (await caller.event("deferred", "x"))["reason"]
        assert (await caller.event("finished", "x"))["source"] == "cloud"
    assert engine.whole(card.heard()) == ["At last"]
    assert_nothing_else(card, engine, "At last")


async def test_ten_minutes_of_sound_at_once_cost_no_memory_and_can_be_stopped(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    text = "A long text. " * 100  # a short one may not have so much sound: see below
    async with serving(engine, faults=[parse("on=/ws/tts times=1 do=flood seconds=600")]) as cloud:
        settings = loud(tmp_path, broker.port, cloud.url)
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(cloud="ok")
            await caller.say({"text": "Ready", "id": "ready", "offline": "wait"}, topic="preview")
            before_kb = memory_kb(daemon, "VmRSS")
            await caller.say({"text": text, "id": "flood"})
            await caller.event("started", "flood")
            await eventually(lambda: len(card.heard()) > 48_000)
            assert memory_kb(daemon, HIGH_WATER) - before_kb < 20_000
            await caller.request("stop")
            assert await caller.event("skipped", "flood")
            await caller.say({"text": "Next", "id": "next"})
            assert (await caller.event("finished", "next"))["source"] == "cloud"
    assert engine.heard_in(card.heard())[-1] == ("Next", 1.0)


@pytest.mark.usefixtures("long_waits")
async def test_more_sound_than_a_text_can_have_is_cut_off_and_not_kept(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    async with house(tmp_path, broker, engine, "on=/ws/tts times=1 do=flood seconds=600"):
        await caller.say({"text": "Short", "id": "x"})
        await caller.event("started", "x")
        await caller.state(cloud="unreachable")
        await caller.request("stop")
        await caller.event("skipped", "x")
        stats = (await caller.request("cache/stats"))["data"]
    assert stats["entries"] == 0


async def test_a_frame_beyond_all_bounds_is_refused_and_its_text_not_asked_for_again(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    faults = [parse("on=/ws/tts times=1 do=huge bytes=20000000")]
    async with serving(engine, faults=faults) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, **NO_LOCAL_VOICE)
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(cloud="ok")
            before_kb = memory_kb(daemon, "VmRSS")
            await caller.say({"text": "Huge", "id": "huge", "offline": "wait"})
            assert (await caller.event("finished", "huge"))["source"] == "tone"
            assert memory_kb(daemon, HIGH_WATER) - before_kb < 5_000
            await caller.say({"text": "Next", "id": "next"})
            assert (await caller.event("finished", "next"))["source"] == "cloud"
    assert [request.text for request in engine.requests] == ["Huge", "Next"]
    assert_nothing_else(card, engine, "Next")


@pytest.mark.parametrize("extension", ["", NEGOTIATED])
async def test_a_decompression_bomb_does_not_go_off(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, extension: str
) -> None:
    async with bombing(extension) as url:
        settings = loud(tmp_path, broker.port, url, **NO_LOCAL_VOICE)
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(cloud="unreachable" if extension else "ok")
            before_kb = memory_kb(daemon, "VmRSS")
            await caller.say({"text": "Boom", "id": "boom"})
            assert (await caller.event("finished", "boom"))["source"] == "tone"
            assert memory_kb(daemon, HIGH_WATER) - before_kb < 5_000
            assert "Traceback" not in daemon.log
    assert_nothing_else(card, Recital(QUICK_S))


# --- 25, 26, 27 -----------------------------------------------------------------------------------


async def test_a_socket_that_is_closed_while_idle_is_open_again_before_it_is_needed(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "SETTLED_S", 0.0)  # as if it had been open for a while
    engine = Recital(QUICK_S)
    async with (
        serving(engine) as gateway,
        proxying(gateway.port) as proxy,
        Peer(broker.port, filters=[f"{ROOT}/state"]) as watcher,
        living(loud(tmp_path, broker.port, f"http://127.0.0.1:{proxy.port}")),
    ):
        await caller.state(cloud="ok")
        for number in range(3):
            proxy.reset_all()
            await eventually(lambda n=number: proxy.accepted == n + 2)  # type: ignore[misc]
            await caller.say({"text": f"Number {number}", "id": str(number)})
            assert (await caller.event("finished", str(number)))["source"] == "cloud"
        assert proxy.accepted == 4
        told = [json.loads(m.payload)["cloud"] for m in watcher.waiting() if m.payload]
    assert set(told[told.index("ok") :]) == {"ok"}
    assert engine.whole(card.heard()) == ["Number 0", "Number 1", "Number 2"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"days": ("20200101", "20200102")}, "certificate has expired"),
        ({"days": ("20990101", "20990102")}, "not yet valid; is this machine's clock right"),
        ({"name": "IP:127.0.0.2"}, "IP address mismatch"),
        ({"is_known": False}, "unable to get local issuer certificate|self.signed"),
        ({}, ""),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused_with_its_reason(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: dict[str, Any],
    reason: str,
) -> None:
    engine = Recital(QUICK_S)
    context = certified(tmp_path / "ca", monkeypatch, **made)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(engine))
        url = await stack.enter_async_context(encrypted(gateway.port, context))
        async with living(loud(tmp_path, broker.port, url, **NO_LOCAL_VOICE)):
            await caller.state(cloud="unreachable" if reason else "ok")
            await caller.say({"text": "Trust me", "id": "x", "offline": "wait"})
            if reason:
                assert re.search(reason, (await caller.event("deferred", "x"))["reason"])
            else:
                assert (await caller.event("finished", "x"))["source"] == "cloud"
    assert engine.whole(card.heard()) == ([] if reason else ["Trust me"])
    assert bool(engine.requests) is not bool(reason)


@pytest.mark.parametrize("order", ["do=late frames=20", "do=slow ms=20", "do=stall after=2"])
async def test_what_comes_after_a_stop_is_never_heard(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, order: str
) -> None:
    engine = Recital(QUICK_S, Long=3.0)
    async with house(tmp_path, broker, engine, f"on=/ws/tts times=1 {order}"):
        await caller.say({"text": "Long", "id": "long"})
        await caller.event("started", "long")
        await caller.request("stop")
        await caller.event("skipped", "long")
        for name in ("Next", "After"):
            await caller.say({"text": name, "id": name})
            assert (await caller.event("finished", name))["source"] == "cloud"
    heard = engine.heard_in(card.heard())
    assert [h for h in heard if h.text != "Long"] == [("Next", 1.0), ("After", 1.0)]
    assert all(h.part < 1.0 for h in heard if h.text == "Long")


async def test_what_comes_after_the_end_is_not_taken_for_the_next(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(QUICK_S)
    async with house(tmp_path, broker, engine, "on=/ws/tts do=late frames=5"):
        for name in ("One", "Two", "Three"):
            await caller.say({"text": name, "id": name})
            assert (await caller.event("finished", name))["source"] == "cloud"
    assert engine.whole(card.heard()) == ["One", "Two", "Three"]
    assert_nothing_else(card, engine, "One", "Two", "Three")


# --- the stage ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def house(
    folder: Path, broker: Mosquitto, engine: Recital, *orders: str, **cloud: float
) -> AsyncIterator[GatewayServer]:
    """A bridge on the card without a local voice, and a service with faults on order."""
    async with serving(engine, faults=[parse(order) for order in orders]) as gateway:
        settings = loud(folder, broker.port, gateway.url, **NO_LOCAL_VOICE)
        settings["cloud"] |= cloud
        async with living(settings):
            yield gateway


async def remembered(settings: Mapping[str, Any], engine: Recital, text: str) -> None:
    """Have the cache of a bridge hold a phrase, as if the service had spoken it in good times."""
    checked = Settings.model_validate(settings)
    cache, speaker = parts.phrase_cache(checked), parts.cloud_client(checked)
    source = parts.cloud_source(checked, speaker)
    assert cache is not None
    assert source is not None
    await cache.open()
    recording = cache.begin(source.key(Utterance(text=text, language="en")), force=True)
    assert recording is not None
    recording.add(PcmChunk(SPEECH_FORMAT, engine.sound(text)))
    assert await recording.commit()
    await cache.close()


def assert_nothing_else(card: SimCard, engine: Recital, *texts: str) -> None:
    """Fail if anything but these texts, the tone and silence was heard."""
    record = card.heard()
    for sound in (bytes(tone().data), *map(engine.sound, texts)):
        record = record.replace(sound, b"")
    assert not record.strip(b"\0"), f"{len(record)} bytes of something else"


async def ordered(gateway: GatewayServer, order: str) -> None:
    """Order a fault of a gateway that runs."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as desk:
        assert (await desk.post("/faults", json={"order": order})).status_code == 201


async def occasions(gateway: GatewayServer) -> int:
    """How often the first order could have acted: upgrades, if it stands at the door."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as desk:
        found: int = (await desk.get("/faults")).json()["faults"][0]["occasions"]
        return found


def moment(text: str) -> float:
    """Seconds since 1970 of a time in an event."""
    return datetime.fromisoformat(text).timestamp()


def memory_kb(daemon: Daemon, figure: str) -> int:
    """A figure of its memory: VmRSS, or VmHWM for the most it ever had."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(re.search(rf"{figure}:\s+(\d+)", status)[1])  # type: ignore[index]


@contextlib.asynccontextmanager
async def encrypted(port: int, context: ssl.SSLContext) -> AsyncIterator[str]:
    """TLS in front of a server of ours."""
    proxy = Proxy(("127.0.0.1", port))
    proxy.flowing.set()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        proxy.reset_all()


def certified(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    days: tuple[str, str] = ("20200101", "20990101"),
    name: str = "IP:127.0.0.1",
    is_known: bool = True,
) -> ssl.SSLContext:
    """A server's certificate by an authority that this process trusts, if `is_known`."""
    folder.mkdir()
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={folder}/index.txt\nnew_certs_dir={folder}\n"
        "default_md=sha256\nrand_serial=yes\npolicy=p\ncopy_extensions=copy\n"
        "[p]\ncommonName=supplied\n"
    )
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test authority"]
    server = ["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=speech"]
    sign = ["-in", "server.csr", "-out", "server.pem", "-cert", "ca.pem", "-keyfile", "ca.key"]
    lasts = ["-startdate", f"{days[0]}000000Z", "-enddate", f"{days[1]}000000Z"]
    for arguments in (
        [*new, "-x509", "-days", "30", *authority],
        [*new, *server, "-addext", f"subjectAltName={name}"],
        ["ca", "-batch", "-notext", "-config", "ca.cnf", *sign, *lasts],
    ):
        subprocess.run(
            ["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30
        )
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context
