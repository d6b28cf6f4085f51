"""What hangs is restarted by the service manager, and what is only an outage is not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import (
    CLIENT_ID,
    Caller,
    Daemon,
    eventually,
    loud,
)
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.service_manager import ServiceManager
from tests.simcard import SimCard

LONG = " ".join(["This goes on and on."] * 4)


@pytest.mark.parametrize("part", ["loop", "writer", "player"])
async def test_what_hangs_gives_no_sign_of_life_and_a_restart_finds_the_queue_intact(
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
    part: str,
) -> None:
    engine = Recital(0.4, **{LONG: 4.0})
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        environment = {**manager.environment(), "SABOTAGE": part}
        daemon = Daemon(tmp_path, settings, environment=environment, module="tests.saboteur")
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Waits", "id": "waits"})
        await until_stored(tmp_path, "waits")
        await manager.signs_of_life(3)
        daemon.send(signal.SIGUSR1)
        await manager.silence()
        await daemon.end(signal.SIGABRT)  # as systemd does
        async with daemon:
            assert await caller.outcomes(2) == {"long": "finished", "waits": "finished"}
        assert held_by_broker(broker.port, CLIENT_ID) == []
    heard = engine.heard_in(card.heard())
    assert sorted(h.text for h in heard if h.part == 1.0) == [LONG, "Waits"]


async def test_outages_of_broker_cloud_and_card_are_no_reason_for_a_restart(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, manager: ServiceManager
) -> None:
    engine = Recital(3.0)
    async with contextlib.AsyncExitStack() as cloud:
        gateway = await cloud.enter_async_context(serving(engine))
        settings = loud(tmp_path, broker.port, gateway.url, mqtt={"keepalive_s": 1})
        async with Daemon(tmp_path, settings, environment=manager.environment()):
            await manager.until_status("speaking")
            await caller.say({"text": "Stalls", "id": "stalls"})
            await caller.event("started", "stalls")
            card.order("stall")
            await manager.signs_of_life(8)
            card.heal()
            await caller.event("finished", "stalls")
            await cloud.aclose()
            await manager.signs_of_life(4)
            broker.freeze()
            await manager.until_status("no announcements")
            await manager.signs_of_life(12)
            broker.thaw()
            await manager.until_status("speaking")
            await asyncio.to_thread(broker.stop)
            await manager.signs_of_life(12)
            await asyncio.to_thread(broker.start)
            await manager.until_status("speaking")


async def until_stored(folder: Path, announcement_id: str) -> None:
    """Return when the announcement has a row."""
    path = folder / "queue.db"
    await eventually(lambda: announcement_id in {e.announcement.id for e in stored_entries(path)})
