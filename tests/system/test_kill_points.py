"""The bridge dies, or its disk fails, at every point where it calls out; nobody goes unheard."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.broker import Mosquitto, Peer
from tests.gateway_server import serving
from tests.house import OUTCOMES, ROOT, Daemon, settings_for
from tests.recital import Recital
from tests.simcard import SimCard

SPEECH_S = 0.08
WANTED = {"a": "high", "b": "normal", "c": "low", "d": "normal"}
"""What is announced: id and text in one, with its priority; none cuts another short."""
WAIT_S = 60.0
QUICK_STRIDE = 71
"""The quick versions try one point in so many, the long ones every single one."""
AT_ONCE = 2


@dataclass
class Books:
    """What the house says of itself over MQTT."""

    ends: list[tuple[str, str]] = field(default_factory=list)
    is_online: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self, peer: Peer) -> None:
        """Write down until cancelled."""
        while True:
            message = await peer.next(timeout_s=WAIT_S * 2)
            if message.topic == f"{ROOT}/availability":
                told = json.loads(message.payload)["state"] == "online"
                (self.is_online.set if told else self.is_online.clear)()
            elif message.topic == f"{ROOT}/event":
                event = json.loads(message.payload)
                if event["event_type"] in OUTCOMES:
                    self.ends.append((event["id"], event["event_type"]))
                    self._news.set()

    async def all_ended(self) -> None:
        """Return when everything that is wanted has an outcome."""
        while {name for name, _ in self.ends} != set(WANTED):
            self._news.clear()
            await self._news.wait()


@dataclass(frozen=True)
class Play:
    """What became of one run under a fault and the run after it."""

    died: bool
    checkpoints: list[str]
    ends: list[tuple[str, str]]
    begun: Counter[str]
    """How often each text began to sound."""

    def check(self, *, twice: int) -> None:
        """Everything was said, and at most `twice` announcements a second time."""
        ended = Counter(name for name, _ in self.ends)
        assert set(ended) == set(WANTED), self
        assert {outcome for _, outcome in self.ends} == {"finished"}, self
        assert sum(ended.values()) - len(WANTED) <= twice, self
        assert set(self.begun) == set(WANTED), self
        assert sum(self.begun.values()) - len(WANTED) <= twice, self


async def played(folder: Path, library: Path, **fault: int) -> Play:
    """Announce under that fault; start again without it until all has been said."""
    folder.mkdir()
    engine, card, notes = Recital(SPEECH_S), SimCard(folder / "card", library), folder / "notes"
    books = Books()
    with Mosquitto(folder / "broker") as broker:
        async with (
            serving(engine) as gateway,
            Peer(broker.port, filters=[f"{ROOT}/#"]) as peer,
            asyncio.timeout(WAIT_S),
        ):
            zones = {"main": {"sink": "alsa:sim"}}
            settings = settings_for(folder, broker.port, gateway=gateway.url, zones=zones)
            keeping = asyncio.create_task(books.keep(peer))
            first = Daemon(folder, settings, module="tests.mortal")
            chosen = {f"MORTAL_{name.upper()}": str(at) for name, at in fault.items()}
            await first.start(**card.environment(), MORTAL_NOTES=str(notes), **chosen)
            death = asyncio.create_task(first.ended())
            said = False
            if await came(books.is_online.wait(), unless=death):
                await say_all(peer)
                said = True
                if await came(books.all_ended(), unless=death):
                    first.send(signal.SIGTERM)
            code = await death
            books.is_online.clear()
            again = Daemon(folder, settings, environment=card.environment())
            await again.start()
            await books.is_online.wait()
            if not said:
                await say_all(peer)
            await books.all_ended()
            assert await again.end() == 0
            keeping.cancel()
            await asyncio.wait([keeping])
    begun = Counter(heard.text for heard in engine.heard_in(card.heard()))
    checkpoints = notes.read_text().split("\n")[:-1]
    shutil.rmtree(folder)
    return Play(code == -signal.SIGKILL, checkpoints, books.ends, begun)


async def came(wanted: Awaitable[object], *, unless: asyncio.Task[int]) -> bool:
    """Whether what is wanted came about before the process ended."""
    task = asyncio.ensure_future(wanted)
    await asyncio.wait([task, unless], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return True
    task.cancel()
    return False


async def say_all(peer: Peer) -> None:
    for name, priority in WANTED.items():
        announcement = {"id": name, "text": name, "priority": priority}
        await peer.publish(f"{ROOT}/say", json.dumps(announcement))


async def at_every_point(
    folder: Path, library: Path, fault: str, *, total: int, stride: int, twice: int
) -> int:
    """Play with the fault at one point in `stride`; how many points were struck."""
    gate, struck = asyncio.Semaphore(AT_ONCE), 0

    async def at(point: int) -> None:
        nonlocal struck
        async with gate:
            play = await played(folder / f"{fault}{point}", library, **{fault: point})
            play.check(twice=twice)
            struck += play.died

    async with asyncio.TaskGroup() as tasks:
        for point in range(1, total + 1, stride):
            tasks.create_task(at(point))
    return struck


def is_storage(checkpoint: str) -> bool:
    return checkpoint.startswith(("sqlite", "os."))


async def points(folder: Path, library: Path) -> tuple[int, int]:
    """How many checkpoints a run without any fault has, and how many of them are storage."""
    play = await played(folder / "healthy", library)
    play.check(twice=0)
    assert not play.died
    return len(play.checkpoints), sum(map(is_storage, play.checkpoints))


@pytest.mark.timeout(120)
async def test_killed_at_some_points_everything_is_said(
    tmp_path: Path, simcard_library: Path
) -> None:
    total, _ = await points(tmp_path, simcard_library)
    # What was being said when it died may be said again.
    struck = await at_every_point(
        tmp_path, simcard_library, "die_at", total=total, stride=QUICK_STRIDE, twice=1
    )
    assert struck


@pytest.mark.timeout(120)
async def test_with_single_storage_calls_failing_everything_is_said_once(
    tmp_path: Path, simcard_library: Path
) -> None:
    _, storage = await points(tmp_path, simcard_library)
    await at_every_point(
        tmp_path, simcard_library, "fail_at", total=storage, stride=QUICK_STRIDE, twice=0
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("fault", "twice"), [("die_at", 1), ("fail_at", 0), ("fail_from", 0)])
async def test_a_fault_at_every_single_point_leaves_nothing_unsaid(
    fault: str, twice: int, tmp_path: Path, simcard_library: Path
) -> None:
    total, storage = await points(tmp_path, simcard_library)
    # A run differs a little from the one before it: some points more, so that none is left out.
    last = (total if fault == "die_at" else storage) + 25
    struck = await at_every_point(
        tmp_path, simcard_library, fault, total=last, stride=1, twice=twice
    )
    print(f"\n{fault}: {last} points, {struck} deaths")  # noqa: T201 - for docs/faults.md
