"""A house that is talked to for a long time while it breaks, again and again.

    python -m tests.soak --minutes 30 --seed 1

A broker, a cloud behind a bad line, a sound card and the bridge, all real. At the end the
publisher's list, the outcomes and the card's record have to agree; the last line is a JSON object
with figures, and what was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, ROOT, SAY, WAIT_S, Daemon, loud
from tests.proxy import Proxy, proxying
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.simcard import SimCard, built_simcard
from tests.small_disk import NoSmallDiskError, SmallDisk, small_disk
from tests.soak_books import Books, Said, Window
from tests.soak_faults import FAULTS
from tests.vitals import Vitals, growth, vitals_of

AVAILABILITY = f"{ROOT}/availability"
SPEECH_S = 0.4
DISK_MB = 40
"""The cache leaves 32 MB of every disk to others."""
OWN_WORDS = 0.8
"""So many announcements have words of their own; the others use what everybody knows."""
KNOWN = ("Good morning", "Dinner time", "Good night")
PRIORITIES = ("normal", "normal", "normal", "high", "low")
WARM_S = 5.0
"""A daemon younger than this is still making itself at home."""
SAMPLE_EVERY_S = 0.5
SETTLE_S = 45.0
"""The longest that anything may still be owed when the last fault is over."""
TTL_S = 3600


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much, how bad."""

    seconds: float
    announce_s: float
    """Between two announcements, on average."""
    fault_s: float
    """Between the beginnings of two faults, at least."""
    seed: int


class Publisher:
    """Sends announcements at QoS 1, and keeps the books; it outlives every broker."""

    def __init__(self, port: int, books: Books) -> None:
        self._port, self.books = port, books
        self.may = asyncio.Event()
        """Cleared while the broker is not to be trusted with anything new."""
        self.may.set()
        self.found = asyncio.Event()
        """The bridge has been there: from now on the broker keeps what is for it."""
        self._loop = asyncio.get_running_loop()
        self._sent: dict[int, str] = {}
        self._early: set[int] = set()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="soak", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"{ROOT}/event", SubscribeOptions(qos=1)), (AVAILABILITY, SubscribeOptions(qos=1))]
        )
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def start(self) -> None:
        """Connect, with a session that the broker keeps for us."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = TTL_S
        self._client.connect(
            "127.0.0.1", self._port, keepalive=10, clean_start=False, properties=properties
        )
        self._client.loop_start()

    async def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def say(self, name: str, text: str, priority: str) -> None:
        """Publish one."""
        self.books.said[name] = Said(text, priority, time.time())
        announcement = {"id": name, "text": text, "priority": priority, "ttl": TTL_S}
        mid = self._client.publish(SAY, json.dumps(announcement), qos=1).mid
        self._sent[mid] = name
        if mid in self._early:
            self._acknowledged(mid)

    async def quiet(self) -> None:
        """Publish nothing more for now, and return when the broker has all there was."""
        self.may.clear()
        while not all(said.is_acknowledged for said in self.books.said.values()):
            await asyncio.sleep(0.05)

    def _acknowledged(self, mid: int) -> None:
        name = self._sent.pop(mid, None)
        if name is None:
            self._early.add(mid)
        else:
            self._early.discard(mid)
            self.books.said[name].is_acknowledged = True

    def _on_publish(self, _client: Client, _data: Any, mid: int, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._acknowledged, mid)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        news = self.found.set if message.topic == AVAILABILITY else self.books.take_event
        arguments = () if message.topic == AVAILABILITY else (message.payload,)
        self._loop.call_soon_threadsafe(news, *arguments)


@dataclass
class House:
    """Everything a fault can reach."""

    broker: Mosquitto
    card: SimCard
    proxy: Proxy
    gateway_url: str
    gateway_port: int
    daemon: Daemon
    publisher: Publisher
    disk: SmallDisk | None
    lives: list[list[Vitals]] = field(default_factory=list)
    is_calm: bool = True
    """No fault is going on."""
    born_s: float = 0.0

    async def give_birth(self) -> None:
        """Start the daemon."""
        self.lives.append([])
        self.born_s = time.monotonic()
        await self.daemon.start()

    async def examine(self) -> None:
        """Look at the daemon whenever it is idle and nothing is broken, until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            is_warm = time.monotonic() - self.born_s > WARM_S
            if self.is_calm and is_warm and not self.publisher.books.outstanding:
                with contextlib.suppress(OSError):
                    self.lives[-1].append(vitals_of(self.daemon.pid))


@asynccontextmanager
async def house(folder: Path, library: Path, engine: Recital) -> AsyncIterator[House]:
    """A whole one, with a running daemon."""
    card = SimCard(folder / "card", library)
    async with contextlib.AsyncExitStack() as stack:
        disk = None
        with contextlib.suppress(NoSmallDiskError):
            disk = stack.enter_context(small_disk(folder / "small", DISK_MB))
        broker = stack.enter_context(Mosquitto(folder / "broker", persistence=True))
        gateway = await stack.enter_async_context(serving(engine, faults=[]))
        proxy = await stack.enter_async_context(proxying(gateway.port))
        cache = folder if disk is None else disk.folder
        settings = loud(
            folder,
            broker.port,
            f"http://127.0.0.1:{proxy.port}",
            mqtt={"keepalive_s": 5},
            cache={"dir": str(cache / "cache")},
        )
        daemon = Daemon(folder, settings, environment=card.environment())
        publisher = Publisher(broker.port, Books())
        found = House(broker, card, proxy, gateway.url, gateway.port, daemon, publisher, disk)
        publisher.start()
        stack.push_async_callback(publisher.stop)
        await found.give_birth()
        stack.push_async_exit(daemon)
        async with asyncio.timeout(WAIT_S):
            await publisher.found.wait()
        yield found


async def talk(house: House, plan: Plan, dice: random.Random) -> None:
    """Announce something every now and then, until cancelled."""
    for number in itertools.count():
        await asyncio.sleep(dice.uniform(0.5, 1.5) * plan.announce_s)
        await house.publisher.may.wait()
        own = dice.random() < OWN_WORDS
        text = f"Number {number}" if own else dice.choice(KNOWN)
        house.publisher.say(f"a{number}", text, dice.choice(PRIORITIES))


async def trouble(house: House, plan: Plan, dice: random.Random) -> None:
    """One fault after the other, each kind as often as the others, until cancelled."""
    books = house.publisher.books
    await asyncio.sleep(plan.fault_s)
    while True:
        for name in dice.sample(sorted(FAULTS), len(FAULTS)):
            began_s = time.time()
            house.is_calm = False
            await FAULTS[name](house)
            house.is_calm = True
            books.windows.append(Window(name, began_s, time.time()))
            await asyncio.sleep(max(1.0, plan.fault_s - (time.time() - began_s)))


async def soak(folder: Path, library: Path, plan: Plan) -> dict[str, Any]:
    """Live through it; figures, with `complaints`."""
    engine = Recital(SPEECH_S)
    async with house(folder, library, engine) as home:
        books = home.publisher.books
        async with asyncio.TaskGroup() as tasks:
            examining = tasks.create_task(home.examine())
            talking = tasks.create_task(talk(home, plan, random.Random(plan.seed)))
            breaking = tasks.create_task(trouble(home, plan, random.Random(plan.seed + 1)))
            await asyncio.sleep(plan.seconds)
            await ended_between_faults(home, breaking)
            talking.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    while books.outstanding:
                        await asyncio.sleep(0.1)
            # A few more looks, with nothing left to do.
            await asyncio.sleep(5 * SAMPLE_EVERY_S)
            examining.cancel()
        code = await home.daemon.end()
        unheard_of = books.look_up(folder / "queue.db")
        complaints = books.complaints(engine.heard_in(home.card.heard()))
        complaints += [f"life {n}: {grown}" for n, one in enumerate(home.lives) if (grown := growth(one))]  # fmt: skip # noqa: E501
        complaints += [f"the daemon ended with {code}"] if code else []
        complaints += ["its log has a traceback"] if "Traceback" in home.daemon.log else []
        left = [entry.announcement.id for entry in stored_entries(folder / "queue.db")]
        complaints += [f"still in the queue: {left}"] if left else []
        held = held_by_broker(home.broker.port, CLIENT_ID)
        complaints += [f"still held by the broker: {held}"] if held else []
        last = home.lives[-1]
        return {
            "seed": plan.seed,
            "seconds": round(plan.seconds),
            **books.summary(),
            "only_in_history": unheard_of,
            "lives": len(home.lives),
            "looks": [len(life) for life in home.lives],
            "vitals": last[-1]._asdict() if last else None,
            "complaints": complaints,
        }


async def ended_between_faults(home: House, breaking: asyncio.Task[None]) -> None:
    """Let the fault that goes on come to its end, and have no further one."""
    while not home.is_calm:
        await asyncio.sleep(0.02)
    breaking.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--announce-s", type=float, default=4.0)
    parser.add_argument("--fault-s", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, help="keep everything there")
    given = parser.parse_args()
    plan = Plan(60 * given.minutes, given.announce_s, given.fault_s, given.seed)
    with contextlib.ExitStack() as stack:
        folder = given.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(soak(folder / "house", built_simcard(folder), plan))
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
