"""Messages that come again, from before, or too late: each is heard once, or not at all."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto, Script, scripted
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import (
    CLIENT_ID,
    ROOT,
    SAY,
    WAIT_S,
    Caller,
    Daemon,
    eventually,
    loud,
    speaking,
)
from tests.proxy import proxying
from tests.raw_mqtt import held_by_broker, publish_packet
from tests.recital import Recital
from tests.simcard import SimCard


async def test_what_is_redelivered_because_the_acknowledgement_was_lost_is_heard_once(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(2.5)
    async with serving(engine) as gateway, proxying(broker.port) as proxy:
        settings = loud(tmp_path, broker.port, gateway.url, mqtt={"port": proxy.port})
        async with Daemon(tmp_path, settings):
            await caller.state(state="idle")
            await caller.say("Once")
            started = await caller.event("started")
            for _ in range(2):
                proxy.reset_all()
                await caller.heard_on(f"{ROOT}/availability")
            ended = await caller.event()
            assert (ended["event_type"], ended["id"]) == ("finished", started["id"])
        assert engine.whole(card.heard()) == ["Once"]
        assert held_by_broker(broker.port, CLIENT_ID) == []


async def test_a_repeat_of_the_broker_is_acknowledged_and_not_heard(
    card: SimCard, tmp_path: Path
) -> None:
    engine, over = Recital(), asyncio.Event()
    acknowledged: list[int] = []

    async def play(script: Script) -> None:
        await script.welcome()
        once = {"qos": 1, "mid": 7, "five": True}
        script.send(publish_packet(SAY, b"Once", **once))
        script.send(publish_packet(SAY, b"Once", dup=True, **once))
        while len(acknowledged) < 3:
            first, body = await script.packet()
            if first == 0x40:
                acknowledged.append(int.from_bytes(body[:2], "big"))
                if acknowledged == [7, 7]:
                    # A packet id that is free again means nothing.
                    script.send(publish_packet(SAY, b"Another", **once))
            elif first & 0xF6 == 0x32:
                size = int.from_bytes(body[:2], "big")
                script.send(b"\x40\x02" + body[2 + size : 4 + size])
        over.set()
        await script.closed()

    async with serving(engine) as gateway, scripted(play) as port:
        settings = loud(tmp_path, port, gateway.url)
        async with Daemon(tmp_path, settings), asyncio.timeout(20):
            await over.wait()
    assert engine.whole(card.heard()) == ["Once", "Another"]
    assert acknowledged == [7, 7, 7]


async def test_stop_is_answered_before_a_flood_that_came_first_has_been_taken(
    tmp_path: Path,
) -> None:
    flood, speaks = 3000, asyncio.Event()
    answers: dict[str, dict[str, Any]] = {}

    async def play(script: Script) -> None:
        await script.welcome()
        script.send(publish_packet(SAY, b"A long one", qos=1, mid=1, five=True))
        while len(answers) < 2:
            first, body = await script.packet()
            if first & 0xF6 != 0x32:
                continue
            size = int.from_bytes(body[:2], "big")
            topic, payload = body[2 : 2 + size].decode(), body[5 + size :]
            script.send(b"\x40\x02" + body[2 + size : 4 + size])
            if topic.startswith(f"{ROOT}/response/"):
                answers[topic.removeprefix(f"{ROOT}/response/")] = json.loads(payload)["data"]
            elif b'"started"' in payload and not speaks.is_set():
                speaks.set()
                packets = [
                    publish_packet(SAY, b"One of many %d" % number, qos=1, mid=number, five=True)
                    for number in range(2, flood + 2)
                ]
                packets += [
                    publish_packet(f"{ROOT}/request/{verb}", b"", five=True)
                    for verb in ("stop", "health_check")
                ]
                script.send(b"".join(packets))
        done.set()
        await script.closed()

    done = asyncio.Event()
    async with (
        scripted(play) as port,
        speaking(tmp_path, port, ScriptedEngine([hum(5.0)]), queue={"max_waiting": flood + 1}),
        asyncio.timeout(WAIT_S),
    ):
        await done.wait()
    assert list(answers) == ["stop", "health_check"]
    assert answers["stop"] == {"stopped": 1}
    # In the order of the stream it would be all of them.
    assert answers["health_check"]["mqtt"]["received"] < flood


@pytest.mark.parametrize("moment", ["unread", "spoken", "just finished"])
async def test_killed_at_any_moment_it_speaks_everything_and_only_what_was_cut_twice(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, moment: str
) -> None:
    engine = Recital(0.5, One=2.0)
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        if moment == "unread":
            daemon.send(signal.SIGSTOP)
        await caller.say({"text": "One", "id": "one"})
        await caller.say({"text": "Two", "id": "two"})
        if moment == "spoken":
            await caller.event("started", "one")
            await eventually(lambda: len(card.heard()) > 20_000)
        elif moment == "just finished":
            await caller.event("finished", "one")
        await daemon.end(signal.SIGKILL)
        async with daemon:
            await caller.event("finished", "two")
        heard = engine.heard_in(card.heard())
        assert held_by_broker(broker.port, CLIENT_ID) == []
    cut = [h for h in heard if h.part < 1.0]
    assert [h.text for h in heard if h.part == 1.0] == ["One", "Two"]
    assert [h.text for h in cut] in {"unread": ([],), "spoken": (["One"],)}.get(
        moment, ([], ["Two"])
    )


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_killed_at_random_moments_it_loses_nothing(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, chance = Recital(0.3), random.Random(40)
    texts = [f"Number {number}" for number in range(90)]
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        left = iter(texts)
        for _ in range(len(texts) // 3):
            await daemon.start()
            await caller.state(state="idle")
            for text in itertools.islice(left, 3):
                await caller.say({"text": text, "id": text})
            await asyncio.sleep(chance.uniform(0.0, 1.5))  # the fault is random in time
            await daemon.end(signal.SIGKILL)
        async with daemon:
            await caller.say({"text": "The last one", "id": "last", "priority": "low"})
            while (await caller.event())["id"] != "last":
                pass
        heard = engine.heard_in(card.heard())
        assert held_by_broker(broker.port, CLIENT_ID) == []
    whole = collections.Counter(h.text for h in heard if h.part == 1.0)
    assert set(texts) <= set(whole)
    # The card's record lacks what it had when its user was killed.
    assert max(whole.values()) <= 2
    assert sum(count - 1 for count in whole.values()) <= len(texts) // 3


async def test_a_retained_announcement_is_not_spoken_at_any_start(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    await caller.say({"text": "For ever", "id": "kept"}, retain=True)
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        for text in ("Fresh", "Fresh again"):
            async with Daemon(tmp_path, settings):
                await caller.state(state="idle")
                await caller.say({"text": text, "id": text})
                await caller.event("finished", text)
    assert engine.whole(card.heard()) == ["Fresh", "Fresh again"]


async def test_what_has_expired_after_an_outage_is_reported_and_not_heard(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4, Long=3.0)
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Long", "id": "long"}, qos=0)
        await caller.event("started", "long")
        # One that the bridge has written down, and two that it never saw.
        await caller.say({"text": "Written down", "id": "row", "ttl": 1.5}, qos=0)
        await caller.event("queued", "row")
        await eventually(lambda: stored(tmp_path / "queue.db") == {"row"})
        await daemon.end(signal.SIGKILL)
        soon = time.time() + 1
        await caller.say({"text": "At the broker", "id": "gone"}, MessageExpiryInterval=1)
        await caller.say({"text": "With a date", "id": "date", "expires_at": soon})
        await caller.say({"text": "Still true", "id": "true"})
        await eventually(lambda: time.time() > soon + 1)
        async with daemon:
            ends = await caller.outcomes(3)
        assert ends == {"row": "expired", "date": "expired", "true": "finished"}
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert [h.text for h in engine.heard_in(card.heard()) if h.text != "Long"] == ["Still true"]


async def until_availability(caller: Caller, state: str) -> None:
    """Return when the broker tells that."""
    while await caller.heard_on(f"{ROOT}/availability") != {"state": state}:
        pass


def stored(path: Path) -> set[str]:
    """The ids of the announcements that have a row."""
    return {entry.announcement.id for entry in stored_entries(path)}
