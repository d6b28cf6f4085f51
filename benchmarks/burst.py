"""A burst of announcements at QoS 1 with an id of its own each, at a bridge that is paused.

    .venv/bin/python -m benchmarks.burst [COUNT]

Every tenth of a second somebody asks it to stop, and looks at its figures. Afterwards what lies on
its disk is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.figures import Figures, printed, times
from benchmarks.process import Process
from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto, Peer
from tests.house import ROOT, Caller, Daemon, settings_for

LOOK_EVERY_S = 0.1
GIVE_UP_S = 120.0


class Look(NamedTuple):
    """What the bridge said of itself, between two moments (s)."""

    asked_s: float
    told_s: float
    arrived: int
    durable: int


async def answer(asker: Peer, verb: str) -> dict[str, Any]:
    """What a request is answered with."""
    await asker.publish(f"{ROOT}/request/{verb}")
    message = await asker.next(f"{ROOT}/response/{verb}", GIVE_UP_S)
    found: dict[str, Any] = json.loads(message.payload)["data"]
    return found


async def measured(count: int) -> Figures:
    """What became of the burst."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Mosquitto drops the newest beyond a thousand that wait.
        options = [f"max_queued_messages {count + 1000}"]
        with Mosquitto(folder / "broker", extra=options) as broker:
            settings = settings_for(folder, broker.port)
            settings["queue"]["max_waiting"] = count + 1000
            daemon = Daemon(folder, settings)
            # Not a listener to the events: those come in thousands, and before the answer.
            asker = Peer(broker.port, filters=[f"{ROOT}/response/#"])
            async with asker:
                await daemon.start()
                async with Caller(broker.port) as caller:
                    await caller.state(state="idle")
                process = Process(daemon.pid)
                try:
                    await answer(asker, "pause")
                    before_mb = process.memory_mb()
                    found = await _burst(count, asker, broker.port)
                    found["resident_before_mb"] = round(before_mb, 1)
                    found["resident_most_mb"] = round(process.memory_mb("VmHWM"), 1)
                finally:
                    await daemon.end()
        ids = [entry.announcement.id for entry in stored_entries(folder / "queue.db")]
        wanted = [str(number) for number in range(count)]
        return found | {
            "count": count,
            "lost": len(set(wanted) - set(ids)),
            "twice": len(ids) - len(set(ids)),
            "out_of_order": sum(int(one) > int(other) for one, other in pairwise(ids)),
        }


async def _burst(count: int, asker: Peer, port: int) -> Figures:
    # What it counts are messages of every kind: those before the burst, and each request.
    others = (await answer(asker, "health_check"))["mqtt"]["received"]
    began_s = monotonic()
    sending = asyncio.create_task(asyncio.to_thread(_send, count, port))
    stops_ms: list[float] = []
    looks = [Look(began_s, began_s, 0, 0)]
    while looks[-1].durable < count:
        asked_s = monotonic()
        assert asked_s < began_s + GIVE_UP_S, "the burst does not end"
        await answer(asker, "stop")
        stops_ms.append((monotonic() - asked_s) * 1000)
        asked_s = monotonic()
        health = await answer(asker, "health_check")
        others += 2
        arrived = health["mqtt"]["received"] - others
        durable = arrived - health["queue"]["unacknowledged"]
        looks.append(Look(asked_s, monotonic(), arrived, durable))
        await asyncio.sleep(LOOK_EVERY_S)
    taken = next(look for look in looks if look.arrived >= count)
    return {
        "sent_s": round(await sending - began_s, 2),
        "taken_s": round(taken.told_s - began_s, 2),
        "durable_s": round(looks[-1].told_s - began_s, 2),
        "durable_after_s": round(_most_lag_s(looks), 2),
        "most_not_durable": max(look.arrived - look.durable for look in looks),
        "stop": times("stop", stops_ms),
    }


def _most_lag_s(looks: Sequence[Look]) -> float:
    """No announcement took longer from its arrival until it was durable.

    One that arrived between two looks is taken to have come right after the first was asked for,
    and to be durable when the look that saw it so was answered.
    """
    lags = [0.0]
    for before, after in pairwise(looks):
        if after.arrived > before.arrived:
            safe = next(look for look in looks if look.durable >= after.arrived)
            lags.append(safe.told_s - before.asked_s)
    return max(lags)


def _send(count: int, port: int) -> float:
    """When the broker had acknowledged the last one (monotonic s)."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(count):
        text = {"id": str(number), "text": f"This is number {number}"}
        last = client.publish(f"{ROOT}/say", json.dumps(text), qos=1)
    while not last.is_published():
        last.wait_for_publish(GIVE_UP_S)
    client.disconnect()
    client.loop_stop()
    return monotonic()


def figures(count: int = 10_000) -> Figures:
    """What became of the burst."""
    return asyncio.run(measured(count))


if __name__ == "__main__":
    printed(figures)
