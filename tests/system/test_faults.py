"""The common faults, with the real thing: what is heard, and what becomes of every announcement."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import Caller, Daemon, eventually, living, settings_for, speaking
from tests.simcard import SimCard

SIM = {"main": {"sink": "alsa:sim"}}


async def test_killed_in_mid_speech_it_speaks_every_queued_one_once_after_a_restart(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(2.0)])
    queued = [f"q{number}" for number in range(6)]
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, settings_for(tmp_path, broker.port, gateway=gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "The first one", "id": "first"})
        await caller.event("started", "first")
        for name in queued:
            await caller.say({"text": f"This is {name}", "id": name})
            await caller.event("queued", name)
        # Half of them have no row yet when it dies: those the broker keeps.
        await daemon.end(signal.SIGKILL)
        async with daemon:
            spoken = [(await caller.event("finished"))["id"] for _ in range(7)]
    assert sorted(spoken) == ["first", *queued]
    assert [name for name in spoken if name != "first"] == queued


async def test_messages_at_qos_0_that_had_to_wait_survive_a_kill(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(3.0)])
    async with serving(engine) as gateway:
        settings = settings_for(tmp_path, broker.port, gateway=gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "The first one", "id": "first"}, qos=0)
        await caller.event("started", "first")
        await caller.say({"text": "Nobody else has this", "id": "second"}, qos=0)
        await caller.event("queued", "second")
        await until_stored(tmp_path / "queue.db", "second")
        await daemon.end(signal.SIGKILL)
        async with daemon:
            assert (await caller.event("finished"))["id"] == "second"


async def test_told_to_end_it_keeps_what_was_not_heard(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(2.0)])
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, settings_for(tmp_path, broker.port, gateway=gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Cut in the middle", "id": "cut"})
        await caller.event("started", "cut")
        await caller.say({"text": "Not even begun", "id": "next"})
        await caller.event("queued", "next")
        assert await daemon.end(signal.SIGTERM) == 0
        assert (await caller.heard_on("kugel/hall/availability")) in (
            {"state": "online"},
            {"state": "offline"},
        )
        async with daemon:
            assert await caller.outcomes(2) == {"cut": "finished", "next": "finished"}


async def test_a_broker_that_restarts_loses_nothing_and_repeats_nothing(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.0)])
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "One", "id": "one"})
        await caller.say({"text": "Two", "id": "two"})
        await caller.event("queued", "two")
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        async with Caller(broker.port) as later:
            await later.say({"text": "Three", "id": "three"})
            await later.event("finished", "three")
    assert [text for text, *_ in engine.asked] == ["One", "Two", "Three"]


async def test_without_the_cloud_the_local_engine_speaks(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}"
    async with living(settings_for(tmp_path, broker.port, gateway=nobody, zones=SIM)):
        await caller.say({"text": "The cloud is gone", "id": "x"})
        finished = await caller.event("finished", "x")
    assert finished["source"] == "local"
    assert len(card.heard()) > 24_000


async def test_what_waits_for_the_cloud_is_spoken_when_it_is_back(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    async with living(settings_for(tmp_path, broker.port, gateway=url)):
        await caller.say({"text": "No hurry", "id": "wait", "offline": "wait"})
        deferred = await caller.event("deferred", "wait")
        assert deferred["retry_at"]
        assert deferred["reason"]
        async with serving(ScriptedEngine(), port=port):
            finished = await caller.event("finished", "wait")
    assert finished["source"] == "cloud"
    assert finished["attempts"] >= 2


async def test_a_cloud_that_breaks_off_is_followed_by_the_local_engine(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(0.6)], then=ServiceUnavailableError("gone"))
    async with speaking(tmp_path, broker.port, engine):
        await caller.say({"text": "First half. Second half.", "id": "cut"})
        finished = await caller.event("finished", "cut")
    assert finished["source"] == "cloud"
    assert finished["duration_ms"] > 1_000


async def test_a_missing_card_keeps_the_announcement_until_there_is_one(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    card.order("gone")
    async with living(settings_for(tmp_path, broker.port, zones=SIM)):
        await caller.state(audio="missing")
        await caller.say({"text": "Are you there", "id": "late"})
        await caller.event("deferred", "late")
        card.heal()
        assert (await caller.event("finished", "late"))["source"] == "local"
        await caller.state(audio="ok")
    assert card.heard()


async def test_a_busy_card_is_waited_for(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    card.order("busy")
    async with living(settings_for(tmp_path, broker.port, zones=SIM)):
        await caller.state(audio="busy")
        await caller.say({"text": "My turn", "id": "later"})
        assert "in use" in (await caller.event("deferred", "later"))["reason"].lower()
        card.heal()
        await caller.event("finished", "later")


async def test_a_card_unplugged_in_mid_speech_gets_the_rest_when_it_is_back(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    async with living(settings_for(tmp_path, broker.port, zones=SIM)):
        await caller.say(
            {"text": "This is the first sentence of two. This is the second one.", "id": "cut"}
        )
        await caller.event("started", "cut")
        card.order("gone")
        await caller.event("deferred", "cut")
        card.heal()
        finished = await caller.event("finished", "cut")
    assert finished["attempts"] == 2


async def test_an_underrun_in_mid_speech_is_survived(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.0)])
    async with speaking(tmp_path, broker.port, engine, zones=SIM):
        card.order("xrun at=6000")
        await caller.say({"text": "Dry", "id": "dry"})
        await caller.event("finished", "dry")
    assert card.interruptions()
    spoken = bytes(engine.chunks[0].data)
    assert card.heard()[-4_000:] == spoken[-4_000:]


async def test_a_damaged_queue_file_is_set_aside_and_the_bridge_goes_on(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    (tmp_path / "queue.db").write_bytes(b"this is no database " * 500)
    async with living(settings_for(tmp_path, broker.port)):
        await caller.say({"text": "Still here", "id": "x"})
        await caller.event("finished", "x")
    assert any(path.name.startswith("queue.db.aside") for path in tmp_path.iterdir())


async def test_a_damaged_phrase_is_made_again(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = ScriptedEngine([hum(1.5)])
    settings = settings_for(tmp_path, 0, zones=SIM)
    async with serving(engine) as gateway:
        settings = settings_for(tmp_path, broker.port, gateway=gateway.url, zones=SIM)
        async with living(settings):
            await caller.say("The same words as ever")
            await caller.event("finished")
        largest = max((tmp_path / "cache").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
        with largest.open("r+b") as entry:
            entry.seek(10_000)
            entry.write(b"\x55" * 100)
        async with living(settings):
            await caller.say("The same words as ever")
            assert (await caller.event("finished"))["source"] == "cloud"
    assert card.heard() == bytes(engine.chunks[0].data) * 2


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system without any space left."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        filler = (small / "filler").open("ab", buffering=0)
        with filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(bytes(4096))
        yield small
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


async def test_a_full_disk_does_not_stop_the_voice(
    broker: Mosquitto, caller: Caller, full_disk: Path
) -> None:
    engine = ScriptedEngine([hum(1.5)])
    async with speaking(full_disk, broker.port, engine):
        for name in ("one", "two"):
            await caller.say({"text": "The disk is full again", "id": name})
        assert await caller.outcomes(2) == {"one": "finished", "two": "finished"}


async def test_a_wrong_password_is_told_and_the_bridge_keeps_trying(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "locked", users={"kugel": "right"}) as broker:
        settings = settings_for(
            tmp_path, broker.port, mqtt={"username": "kugel", "password": "wrong-password"}
        )
        async with Daemon(tmp_path, settings) as daemon:
            await eventually(lambda: "not authori" in daemon.log.lower())
            assert await daemon.end() == 0
        assert "wrong-password" not in daemon.log


async def test_a_second_bridge_on_the_same_queue_refuses_with_a_reason(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, broker.port)
    async with living(settings):
        second = Daemon(tmp_path, settings)
        await second.start()
        assert await second.ended() == 1
        assert "another kugel-bridge uses" in second.log
        assert "Traceback" not in second.log


async def test_a_wrong_configuration_ends_with_78_and_one_line(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"mqtt": {"hots": "localhost"}})
    await daemon.start()
    assert await daemon.ended() == 78
    assert daemon.log.count("\n") == 1
    assert "mqtt.hots" in daemon.log
    assert "mqtt.host" in daemon.log


async def test_an_alert_without_words_is_refused_at_the_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, settings_for(tmp_path, 1) | {"alerts": {"fire": {"text": "***"}}})
    await daemon.start()
    assert await daemon.ended() == 78
    assert daemon.log.count("\n") == 1
    assert "alerts.fire.text" in daemon.log


async def test_without_a_cache_an_alert_is_spoken(
    broker: Mosquitto, caller: Caller, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    async with serving(ScriptedEngine([hum(0.1)])) as gateway:
        settings = settings_for(tmp_path, broker.port, gateway=gateway.url)
        settings["alerts"] = {"fire": {"text": "Fire!"}}
        async with Daemon(tmp_path, settings) as daemon:
            await eventually(lambda: "not kept for good" in daemon.log)
            await caller.say("fire", topic="alert")
            assert (await caller.event("finished"))["text"] == "Fire!"


async def until_stored(path: Path, announcement_id: str) -> None:
    """Return when the announcement has a row."""
    await eventually(lambda: announcement_id in {e.announcement.id for e in stored_entries(path)})


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
