"""The broker is away, frozen, cut off, full of resets, or does not want us."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.mqtt import backoff
from tests.broker import Mosquitto, Script, free_port, scripted
from tests.gateway_server import serving
from tests.house import (
    CLIENT_ID,
    ROOT,
    SAY,
    Caller,
    Daemon,
    eventually,
    living,
    loud,
    settings_for,
)
from tests.proxy import proxying
from tests.raw_mqtt import RawClient, held_by_broker, publish_packet
from tests.recital import Recital
from tests.service_manager import ServiceManager
from tests.simcard import SimCard


async def test_without_a_broker_it_is_ready_says_so_and_finds_the_broker_when_it_comes(
    card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    broker, engine = Mosquitto(tmp_path / "late"), Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await manager.ready()
            assert "cannot be reached" in await manager.until_status("MQTT")
            with broker:
                await manager.until_status("speaking")
                async with Caller(broker.port) as caller:
                    await caller.say({"text": "Late", "id": "late"})
                    await caller.event("finished", "late")
    assert engine.whole(card.heard()) == ["Late"]


@pytest.mark.parametrize("end", [Mosquitto.stop, Mosquitto.kill])
async def test_over_a_restart_of_the_broker_everything_is_heard_once(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, end: Any
) -> None:
    engine = Recital(0.5, One=1.5)
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings):
            await caller.state(state="idle")
            await caller.say({"text": "One", "id": "one"})
            await caller.event("started", "one")
            await caller.say({"text": "Two", "id": "two"})
            await caller.event("queued", "two")
            await asyncio.to_thread(end, broker)
            await asyncio.to_thread(broker.start)
            async with Caller(broker.port) as later:
                await later.say({"text": "Three", "id": "three"})
                await later.event("finished", "three")
        assert engine.whole(card.heard()) == ["One", "Two", "Three"]
        assert held_by_broker(broker.port, CLIENT_ID) == []


async def test_a_cut_cable_is_noticed_on_both_ends_and_what_came_meanwhile_is_heard(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    engine = Recital()
    async with serving(engine) as gateway, proxying(broker.port) as cable:
        settings = loud(
            tmp_path,
            broker.port,
            gateway.url,
            mqtt={"port": cable.port, "keepalive_s": 1},
        )
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await manager.until_status("speaking")
            await until_availability(caller, "online")
            cable.flowing.clear()
            await manager.until_status("no announcements")
            await until_availability(caller, "offline")
            await caller.say({"text": "Meanwhile", "id": "meanwhile"})
            cable.flowing.set()
            await until_availability(caller, "online")
            await caller.event("finished", "meanwhile")
    assert engine.whole(card.heard()) == ["Meanwhile"]


async def test_a_frozen_broker_is_noticed_and_used_again_when_it_thaws(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    engine = Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, mqtt={"keepalive_s": 1})
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await manager.until_status("speaking")
            broker.freeze()
            await manager.until_status("no announcements")
            broker.thaw()
            await manager.until_status("speaking")
            await caller.say({"text": "Thawed", "id": "thawed"})
            await caller.event("finished", "thawed")
    assert engine.whole(card.heard()) == ["Thawed"]


@pytest.mark.parametrize("cycles", [40, pytest.param(1_000, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
async def test_a_storm_of_resets_leaves_nothing_behind(
    broker: Mosquitto, caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cycles: int
) -> None:
    monkeypatch.setattr(backoff, "LONGEST_S", 0.01)  # or a thousand cycles would take hours
    async with proxying(broker.port) as proxy:
        settings = settings_for(tmp_path, broker.port, mqtt={"port": proxy.port})
        async with living(settings) as bridge:
            await eventually(lambda: bridge.health()["mqtt"]["connected"])
            before = footprint()
            for number in range(1, cycles + 1):
                proxy.reset_all()
                await eventually(
                    lambda wanted=number: (
                        proxy.accepted > wanted  # type: ignore[misc]
                        and bridge.health()["mqtt"]["connected"]
                    )
                )
            await eventually(
                lambda: all(n <= was + 2 for n, was in zip(footprint(), before, strict=True))
            )
            await caller.say({"text": "Still here", "id": "still"})
            await caller.event("finished", "still")


async def test_thrown_out_by_its_own_name_it_comes_back_without_a_fight(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    engine = Recital()
    async with serving(engine) as gateway, proxying(broker.port) as proxy:
        settings = loud(tmp_path, broker.port, gateway.url, mqtt={"port": proxy.port})
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await manager.until_status("speaking")
            for _ in range(3):
                with RawClient(broker.port, CLIENT_ID, clean=False) as rival:
                    await manager.until_status("no announcements")
                    assert await asyncio.to_thread(rival.is_closed), "it never came back"
                await manager.until_status("speaking")
            assert proxy.accepted == 4
            await caller.say({"text": "Back", "id": "back"})
            await caller.event("finished", "back")
    assert engine.whole(card.heard()) == ["Back"]


async def test_a_refused_login_is_shown_with_its_reason_and_not_repeated_soon(
    tmp_path: Path, manager: ServiceManager
) -> None:
    with Mosquitto(tmp_path / "locked", users={"kugel": "right"}) as broker:
        async with proxying(broker.port) as proxy:
            settings = settings_for(
                tmp_path, proxy.port, mqtt={"username": "kugel", "password": "wrong-password"}
            )
            async with Daemon(tmp_path, settings, environment=manager.environment()) as daemon:
                await manager.ready()
                shown = await manager.until_status("Not authorized")
                assert proxy.accepted <= 2
            assert "wrong-password" not in shown + daemon.log


async def test_a_refused_subscription_is_shown_and_the_others_work(
    card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    """Mosquitto's access lists say yes to every subscription, so that the broker is one of ours."""
    engine = Recital()

    async def play(script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x03\x00\x00\x00")
        _, body = await script.packet()
        script.send(b"\x90\x13" + body[:2] + b"\x00\x87" + b"\x01" * 15)
        await manager.until_status("refuses", "kugel/say", "Not authorized")
        script.send(publish_packet(SAY, b"Allowed", five=True))
        await script.closed()

    async with serving(engine) as gateway, scripted(play) as port:
        settings = loud(tmp_path, port, gateway.url)
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await eventually(lambda: len(card.heard()) >= len(engine.sound("Allowed")))
    assert engine.whole(card.heard()) == ["Allowed"]


async def test_a_topic_it_writes_to_is_refused_at_the_start(tmp_path: Path) -> None:
    for topic in (f"{ROOT}/event", f"{ROOT}/#", "kugel/#"):
        daemon = Daemon(
            tmp_path, settings_for(tmp_path, free_port(), mqtt={"extra_topics": [topic]})
        )
        await daemon.start()
        assert await daemon.ended() == 78
        assert "mqtt.extra_topics" in daemon.log


async def until_availability(caller: Caller, state: str) -> None:
    """Return when the broker tells that."""
    while await caller.heard_on(f"{ROOT}/availability") != {"state": state}:
        pass


def footprint() -> tuple[int, int, int]:
    """Open files, threads and tasks of this process."""
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return files, threading.active_count(), len(asyncio.all_tasks())
