"""Faults of the disk under a running bridge: what is heard, and what becomes of the rest."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, Caller, Daemon, eventually, loud
from tests.kept import until_cached, until_not_stored, until_stored
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard
from tests.slow_disk import SlowDisk
from tests.small_disk import NoSmallDiskError, SmallDisk, small_disk

LONG = " ".join(["This goes on and on."] * 4)
DISK_MB = 48
"""The cache leaves 32 MB of every disk to others."""
NOBODY = 65_534


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", DISK_MB) as mounted:
            yield mounted
    except NoSmallDiskError as error:
        pytest.skip(f"mounting a small disk is not allowed here: {error}")


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# --- 28: full -------------------------------------------------------------------------------


async def test_on_a_disk_full_at_the_start_everything_is_heard_and_kept_once_there_is_space(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    engine = Recital(0.3, **{LONG: 7.0})
    disk.fill_up()
    async with serving(engine) as gateway:
        settings = loud(disk.folder, broker.port, gateway.url)
        async with Daemon(tmp_path, settings):
            await caller.state(state="idle")
            names = ["One", "Two", "One again"]
            for name in names:
                await caller.say({"text": name, "id": name})
            assert await caller.outcomes(3) == dict.fromkeys(names, "finished")
            disk.give_back()
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Kept", "id": "kept"})
            await until_stored(disk.folder, "kept")
            assert await caller.outcomes(2) == {"long": "finished", "kept": "finished"}
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == [*names, LONG, "Kept"]


async def test_a_disk_that_fills_up_costs_no_announcement_not_even_over_a_kill(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    """New phrases, new rows and the removal of rows, all without space; then space again."""
    engine = Recital(0.3, **{LONG: 4.0})
    waiting = [f"Waiting {number}" for number in range(6)]
    async with serving(engine) as gateway:
        settings = loud(disk.folder, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings)
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await until_cached(disk.folder, 1)
        disk.fill_up()
        await caller.say({"text": "New", "id": "new"})
        await caller.event("finished", "new")
        assert await source_of(caller, "Known before", "again") == "cache"
        disk.give_back()
        assert await source_of(caller, "New", "new again") == "cloud"
        await until_cached(disk.folder, 2)
        assert await source_of(caller, "New", "at last") == "cache"
        disk.fill_up()
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        for name in waiting:
            await caller.say({"text": name, "id": name})
        # The reserve takes some of them.
        await until_stored(disk.folder, waiting[-1])
        await caller.event("finished", waiting[0])
        await until_not_stored(disk.folder, waiting[0])
        await daemon.end(signal.SIGKILL)
        begun = {event["id"] for event in caller.events if event["event_type"] == "started"}
        ended = {event["id"] for event in caller.events if event["event_type"] == "finished"}
        async with daemon:
            left = [name for name in waiting if name not in ended]
            assert await caller.outcomes(len(left)) == dict.fromkeys(left, "finished")
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert stored_entries(disk.folder / "queue.db") == []
    heard = engine.heard_in(card.heard())
    whole = [h.text for h in heard if h.part == 1.0]
    assert whole[:6] == ["Known before", "New", "Known before", "New", "New", LONG]
    said = whole[6:]
    assert list(dict.fromkeys(said)) == waiting
    # Only what was being said when it died may come again.
    assert len(said) - len(waiting) <= len(begun - ended)


# --- 32: not to be written ------------------------------------------------------------------


async def test_on_a_read_only_disk_what_was_left_is_heard_once_and_everything_new(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path, disk: SmallDisk
) -> None:
    engine = Recital(0.3, **{LONG: 6.0})
    async with serving(engine) as gateway:
        daemon = Daemon(tmp_path, loud(disk.folder, broker.port, gateway.url))
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Left over", "id": "left"}, qos=0)
        await until_stored(disk.folder, "left")
        await daemon.end(signal.SIGKILL)
        disk.remount("ro")
        async with daemon:
            assert await caller.outcomes(2) == {"left": "finished", "long": "finished"}
            for text in ("Known before", "New"):
                await caller.say({"text": text, "id": f"{text} again"})
                await caller.event("finished", f"{text} again")
            disk.remount("rw")
            # What could not be removed is, now that it can.
            await eventually(lambda: stored_entries(disk.folder / "queue.db") == [])
        assert held_by_broker(broker.port, CLIENT_ID) == []
        async with daemon:
            await caller.say({"text": "At last", "id": "last"})
            await caller.event("finished", "last")
    whole = [h.text for h in engine.heard_in(card.heard()) if h.part == 1.0]
    assert sorted(whole[1:3]) == sorted(["Left over", LONG])
    assert whole[:1] + whole[3:] == ["Known before", "Known before", "New", "At last"]


async def test_without_permission_to_write_it_speaks_and_keeps_what_it_can_once_it_may(
    broker: Mosquitto, caller: Caller, simcard_library: Path, others_folder: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("to become somebody else takes root")
    folder = others_folder / "state"
    folder.mkdir(mode=0o755)
    library = others_folder / simcard_library.name
    library.write_bytes(simcard_library.read_bytes())
    library.chmod(0o755)
    card = SimCard(others_folder / "card", library)
    card.out.parent.chmod(0o777)
    engine = Recital(0.3, **{LONG: 8.0})
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    async with serving(engine) as gateway:
        settings = loud(folder, broker.port, gateway.url)
        daemon = Daemon(
            others_folder / "daemon", settings, environment=card.environment(), through=become
        )
        async with daemon:
            await caller.state(state="idle")
            for name in ("One", "Two"):
                await caller.say({"text": name, "id": name})
            assert await caller.outcomes(2) == {"One": "finished", "Two": "finished"}
            folder.chmod(0o777)
            await caller.say({"text": LONG, "id": "long"})
            await caller.event("started", "long")
            await caller.say({"text": "Kept", "id": "kept"})
            await until_stored(folder, "kept")
            folder.chmod(0o700)  # and root's: the folder is closed under it
            assert await caller.outcomes(2) == {"long": "finished", "kept": "finished"}
            await caller.say({"text": "Three", "id": "three"})
            await caller.event("finished", "three")
        assert held_by_broker(broker.port, CLIENT_ID) == []
        assert "Traceback" not in daemon.log
    assert engine.whole(card.heard()) == ["One", "Two", LONG, "Kept", "Three"]


# --- 33: slow -------------------------------------------------------------------------------


async def test_a_disk_that_takes_two_seconds_for_a_sync_delays_no_first_sound(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, slow = Recital(0.3), SlowDisk(tmp_path / "slow", sync_s=2.0)
    names = ["One", "Two", "Three", "One"]
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        async with Daemon(tmp_path, settings, environment=slow.environment()):
            await caller.state(state="idle")
            for number, name in enumerate(names):
                await caller.say({"text": name, "id": f"{number}"})
                finished = await caller.event("finished", f"{number}")
                # A single sync on the way would make it more than two.
                assert finished["first_sound_ms"] < 1_500
        assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == names


async def test_while_the_disk_hangs_everything_is_heard_and_the_end_comes_when_told(
    broker: Mosquitto, caller: Caller, card: SimCard, tmp_path: Path
) -> None:
    engine, slow = Recital(0.3, **{LONG: 3.0}), SlowDisk(tmp_path / "slow")
    async with serving(engine) as gateway:
        settings = loud(tmp_path, broker.port, gateway.url)
        daemon = Daemon(tmp_path, settings, environment=slow.environment())
        await daemon.start()
        await caller.state(state="idle")
        await caller.say({"text": "Known before", "id": "known"})
        await caller.event("finished", "known")
        await until_cached(tmp_path, 1)
        slow.hang()
        await caller.say({"text": LONG, "id": "long"})
        await caller.event("started", "long")
        await caller.say({"text": "Known before", "id": "again"})
        await caller.say({"text": "New", "id": "new"})
        # Its row was to be written when it had waited for 1.5 s.
        ends = await caller.outcomes(3)
        assert ends == dict.fromkeys(("long", "again", "new"), "finished")
        await caller.say({"text": LONG, "id": "cut"})
        await caller.event("started", "cut")
        assert await daemon.end() == 0
        slow.heal()
        async with daemon:
            await caller.event("finished", "cut")
        assert held_by_broker(broker.port, CLIENT_ID) == []
    whole = [h.text for h in engine.heard_in(card.heard()) if h.part == 1.0]
    assert whole[:4] == ["Known before", LONG, "Known before", "New"]
    assert set(whole[4:]) <= {LONG}


async def source_of(caller: Caller, text: str, name: str) -> str:
    """Have it said; where it came from."""
    await caller.say({"text": text, "id": name})
    source: str = (await caller.event("finished", name))["source"]
    return source
