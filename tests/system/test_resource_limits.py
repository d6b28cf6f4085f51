"""What the unit file lets the bridge use up, reached: it goes on, and is not killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.gateway.orders import parse
from tests.broker import Mosquitto
from tests.cgroup import ControlGroup, NoControlGroupError, control_group
from tests.gateway_server import serving
from tests.house import SAY, Caller, Daemon, eventually, loud
from tests.raw_mqtt import RawClient, publish_packet
from tests.recital import Recital
from tests.service_manager import ServiceManager
from tests.simcard import SimCard

UNIT = Path(__file__).parents[2] / "systemd" / "kugel-bridge.service"


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    with contextlib.ExitStack() as undo:
        try:
            made = undo.enter_context(control_group())
        except NoControlGroupError as error:
            pytest.skip(f"no control group of our own: {error}")
        yield made


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that does not write a giant to the disk again and again."""
    with Mosquitto(tmp_path / "forgetful") as running:
        yield running


def of_unit(name: str) -> int:
    """A bound of the unit file, in bytes or as a count."""
    found = re.search(rf"^{name}=(\d+)(M?)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * (2**20 if found[2] else 1)


@pytest.mark.timeout(120)
async def test_a_flood_a_giant_and_a_long_speech_stay_within_its_memory(
    group: ControlGroup, forgetful: Mosquitto, card: SimCard, tmp_path: Path
) -> None:
    engine, text = Recital(0.2), " ".join(["Long."] * 200)  # a short one may not last so long
    limit = of_unit("MemoryMax")
    group.limit_memory(limit)
    faults = [parse("on=/ws/tts times=1 do=flood seconds=600")]
    queue = {"path": str(tmp_path / "queue.db"), "max_waiting": 5}
    async with serving(engine, faults=faults) as gateway, Caller(forgetful.port) as caller:
        settings = loud(tmp_path, forgetful.port, gateway.url, queue=queue)
        async with Daemon(tmp_path, settings, through=group.inside) as daemon:
            await caller.state(cloud="ok")
            before = daemon.pid
            await caller.say({"text": text, "id": "long"})
            await caller.event("started", "long")
            with RawClient(forgetful.port) as raw:
                await asyncio.to_thread(raw.send, burst(300))
                await asyncio.to_thread(raw.publish_huge, SAY, 100_000_000)
            await eventually(lambda: len(card.heard()) > 48_000)
            await caller.request("stop")
            ends = await caller.outcomes(301)
            assert daemon.pid == before
        assert group.killed == 0
        assert group.memory_peak < limit
    assert ends.pop("long") == "skipped"
    finished = [name for name, end in ends.items() if end == "finished"]
    assert len(finished) >= 5
    assert set(ends.values()) == {"finished", "skipped"}
    heard = [h.text for h in engine.heard_in(card.heard()) if h.text != text]
    assert heard == finished


async def test_where_there_can_be_no_further_task_it_speaks_or_says_why_and_does_not_die(
    group: ControlGroup,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
) -> None:
    engine, most = Recital(0.2), of_unit("TasksMax")
    group.limit_tasks(most)
    async with serving(engine) as gateway:
        # Its own program, so that it takes a child; the library would not.
        settings = loud(tmp_path, broker.port, gateway.url, local={"engine": "espeak-ng"})
        guarded = Daemon(
            tmp_path, settings, environment=manager.environment(), through=group.inside
        )
        async with guarded as daemon:
            await caller.state(cloud="ok")
            await caller.say({"text": "First", "id": "first"})
            await caller.event("finished", "first")
            assert group.tasks < most / 4
            before = daemon.pid
            group.limit_tasks(group.tasks)
            await caller.say({"text": "Cloud", "id": "cloud"})
            assert (await caller.event("finished", "cloud"))["source"] == "cloud"
            await caller.say({"text": "Local", "id": "local", "voice": "nobody"})
            assert (await caller.event("finished", "local"))["source"] == "tone"
            assert "espeak-ng cannot be started" in daemon.log
            # To connect again it takes a thread.
            await asyncio.to_thread(broker.kill)
            await manager.until_status("no announcements")
            await asyncio.to_thread(broker.start)
            await eventually(lambda: "can't start new thread" in daemon.log)
            group.limit_tasks(most)
            await manager.until_status("speaking")
            async with Caller(broker.port) as later:
                await later.say({"text": "Later", "id": "later"})
                assert (await later.event("finished", "later"))["source"] == "cloud"
            assert daemon.pid == before
            assert "Traceback" not in daemon.log
    assert engine.whole(card.heard()) == ["First", "Cloud", "Later"]


def burst(count: int) -> bytes:
    """So many announcements at once, as packets."""
    return b"".join(
        publish_packet(SAY, b'{"text": "%d", "id": "%d"}' % (n, n), qos=1, mid=n % 9 + 1)
        for n in range(count)
    )
