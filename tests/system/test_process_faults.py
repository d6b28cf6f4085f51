"""Faults of time and of the process itself: what is heard, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto, free_port
from tests.gateway_server import serving
from tests.house import (
    CLIENT_ID,
    ROOT,
    Caller,
    Daemon,
    eventually,
    loud,
    settings_for,
)
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard
from tests.wall_clock import LIBRARY, WallClock

LONG = " ".join(["This goes on and on."] * 4)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_faketime
async def test_a_wall_clock_that_jumps_neither_ends_nor_repeats_anything(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, clock = Recital(0.4, **{LONG: 1.5}), WallClock(tmp_path / "time")
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, environment=clock.environment()):
            await caller.state(state="idle")
            for jump in ("+1d", "-1d", "+0"):
                await caller.say({"text": LONG, "id": f"long{jump}", "dedupe": 0, "ttl": 60})
                await caller.event("started", f"long{jump}")
                await caller.say({"text": f"After {jump}", "id": jump, "ttl": 60})
                queued = await caller.event("queued", jump)
                clock.set(jump)
                finished = await caller.event("finished", jump)
                if jump == "+1d":
                    assert finished["at"][:10] > queued["at"][:10], "the jump was not seen"
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == [LONG, "After +1d", LONG, "After -1d", LONG, "After +0"]


@needs_faketime
async def test_what_was_written_down_in_1970_is_spoken_when_the_clock_has_been_set(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital(0.4, **{LONG: 5.0})
    clock = WallClock(tmp_path / "time", "@1970-01-01 00:00:10")
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings, environment=clock.environment())
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": LONG, "id": "long"}, qos=0)
        assert (await caller.event("started", "long"))["at"].startswith("1970")
        await caller.say({"text": "From the first minute", "id": "old", "ttl": 600}, qos=0)
        await caller.event("queued", "old")
        await until_stored(tmp_path, "old")
        await daemon.end(signal.SIGKILL)
        clock.set("+0")
        async with daemon:
            finished = await caller.event("finished", "old")
    assert not finished["at"].startswith("1970")
    assert engine.heard_in(card.heard())[-1] == ("From the first minute", 1.0)


@pytest.mark.parametrize("stopped_s", [0.0, pytest.param(60.0, marks=pytest.mark.long)])
@pytest.mark.timeout(150)
async def test_after_a_suspend_it_reconnects_and_what_is_stale_has_expired(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, stopped_s: float
) -> None:
    engine = Recital(0.4, **{LONG: 1.5})
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url, mqtt={"keepalive_s": 1})
        async with Daemon(tmp_path, settings) as daemon:
            await caller.state(state="idle")
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Soon stale", "id": "stale", "ttl": 2})
            await caller.event("queued", "stale")
            daemon.send(signal.SIGSTOP)
            began_s = time.monotonic()
            while await caller.heard_on(f"{ROOT}/availability") != {"state": "offline"}:
                pass
            await caller.say({"text": "Meanwhile", "id": "meanwhile"})
            await past(began_s + max(stopped_s, 2.5))
            daemon.send(signal.SIGCONT)
            assert await caller.outcomes(3) == {
                "long": "finished",
                "stale": "expired",
                "meanwhile": "finished",
            }
    heard = engine.heard_in(card.heard())
    # What was cut short may begin anew: the card seemed to stand still for all that time.
    assert {h.text for h in heard if h.part == 1.0} == {LONG, "Meanwhile"}
    assert "Soon stale" not in [h.text for h in heard]


async def test_starved_of_its_processor_it_plays_every_frame(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, one_cpu = Recital(1.0), ("taskset", "-c", "0")
    busy = (*one_cpu, sys.executable, "-c", "while True: pass")
    async with serving(engine) as gateway, contextlib.AsyncExitStack() as rivals:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, through=one_cpu):
            await caller.state(state="idle")
            for _ in range(3):
                await rivals.enter_async_context(running(*busy))
            for name in ("One", "Two"):
                await caller.say({"text": name, "id": name})
            assert set((await caller.outcomes(2)).values()) == {"finished"}
    assert engine.whole(card.heard()) == ["One", "Two"]


@pytest.mark.parametrize("frozen", [False, True])
async def test_told_to_end_in_mid_speech_it_does_so_within_two_seconds_and_keeps_the_rest(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, frozen: bool
) -> None:
    engine = Recital(0.4, **{LONG: 6.0})
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Next", "id": "next"})
        await caller.event("queued", "next")
        await eventually(lambda: len(card.heard()) > 20_000)
        if frozen:
            broker.freeze()
        began_s = time.monotonic()
        assert await daemon.end(signal.SIGTERM) == 0
        # The promise is two; the rest is for a busy test machine.
        assert time.monotonic() - began_s < 5.0
        assert {e.announcement.id for e in stored_entries(tmp_path / "queue.db")} == {
            "long",
            "next",
        }
        broker.thaw()
        while await caller.heard_on(f"{ROOT}/availability") != {"state": "offline"}:
            pass
        async with daemon:
            assert await caller.outcomes(2) == {"long": "finished", "next": "finished"}
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.heard_in(card.heard())[-1] == ("Next", 1.0)


async def test_with_hardly_a_file_to_open_it_speaks_or_says_why_and_does_not_die(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, through=("prlimit", "--nofile=32")) as daemon:
            await caller.state(state="idle")
            before = daemon.pid
            names = [f"Number {number}" for number in range(8)]
            for name in names:
                await caller.say({"text": name, "id": name})
            assert await caller.outcomes(8) == dict.fromkeys(names, "finished")
            assert daemon.pid == before
            assert "Traceback" not in daemon.log
    assert engine.whole(card.heard()) == names


@pytest.mark.parametrize("mode", ["missing", "open to all"])
async def test_a_secret_that_is_missing_or_open_to_all_ends_with_78(
    open_folder: Path, mode: str
) -> None:
    secret = "tell-nobody"
    credential = open_folder / "mqtt_password"
    settings = settings_for(open_folder, free_port(), mqtt={"username": "kugel"})
    if mode == "missing":
        settings["mqtt"] |= {"tls": True, "ca_file": str(open_folder / "nowhere.pem")}
    else:
        credential.write_text(secret)
        credential.chmod(0o644)
    daemon = Daemon(open_folder, settings, environment={"CREDENTIALS_DIRECTORY": str(open_folder)})
    await daemon.start()
    assert await daemon.ended() == 78
    assert ("mqtt.ca_file" if mode == "missing" else "mqtt.password") in daemon.log
    assert daemon.log.count("\n") == 1
    assert secret not in daemon.log


async def test_a_file_that_breaks_under_a_running_bridge_changes_nothing_until_the_restart(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine = Recital()
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        (tmp_path / "config.toml").write_text("[mqtt]\npassword = 'tell-nobody'\nport = 'high'\n")
        daemon.send(signal.SIGHUP)  # what asks other daemons to read their file again
        await caller.say({"text": "As before", "id": "before"})
        await caller.event("finished", "before")
        await daemon.end()
        await daemon.start()
        assert await daemon.ended() == 78
        told = daemon.log.splitlines()[-1]
    assert "mqtt.port" in told
    assert "tell-nobody" not in daemon.log
    assert engine.whole(card.heard()) == ["As before"]


async def past(moment_s: float) -> None:
    """Return when the monotonic clock has passed `moment_s`."""
    while (left_s := moment_s - time.monotonic()) > 0:
        await asyncio.sleep(left_s)


async def until_stored(folder: Path, announcement_id: str) -> None:
    """Return when the announcement has a row."""
    path = folder / "queue.db"
    await eventually(lambda: announcement_id in {e.announcement.id for e in stored_entries(path)})


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[None]:
    """A process beside the bridge, until the block ends."""
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield
    finally:
        process.kill()
        await process.wait()
