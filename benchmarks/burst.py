"""A burst of announcements at QoS 1 with an id of its own each, at a bridge that is paused.

    .venv/bin/python -m benchmarks.burst [COUNT]

A wiretap before the bridge notes when each arrived and when it was acknowledged; somebody who
reads the queue file all the time notes when it could be found there. Every tenth of a second the
bridge is asked to stop. Afterwards what lies on its disk is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.figures import Figures, printed, times
from benchmarks.process import Process
from benchmarks.wiretap import Passed, tapping
from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto, Peer
from tests.house import ROOT, Caller, Daemon, settings_for

STOP_EVERY_S = 0.1
READ_EVERY_S = 0.01
GIVE_UP_S = 120.0


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
            async with tapping(broker.port, f"{ROOT}/say") as tap:
                settings = settings_for(folder, tap.port)
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
                        with reading(folder / "queue.db") as durable_s:
                            found = await _burst(count, asker, broker.port, durable_s)
                        found["resident_before_mb"] = round(before_mb, 1)
                        found["resident_most_mb"] = round(process.memory_mb("VmHWM"), 1)
                        health = await answer(asker, "health_check")
                        found["events_dropped"] = health["mqtt"]["dropped"]
                    finally:
                        await daemon.end()
                found |= waits(await tap.passed(), durable_s)
        ids = [entry.announcement.id for entry in stored_entries(folder / "queue.db")]
        wanted = [str(number) for number in range(count)]
        return found | {
            "count": count,
            "lost": len(set(wanted) - set(ids)),
            "twice": len(ids) - len(set(ids)),
            "out_of_order": sum(int(one) > int(other) for one, other in pairwise(ids)),
        }


@contextmanager
def reading(path: Path) -> Iterator[Mapping[str, float]]:
    """Read the queue file inside the block; when each id could be found in it (monotonic s).

    Nobody sees a row before its commit, and a commit is over when the disk has it.
    """
    found: dict[str, float] = {}
    over = threading.Event()

    def read() -> None:
        last = 0
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            while not over.wait(READ_EVERY_S):
                rows = connection.execute("SELECT rowid, id FROM waiting WHERE rowid > ?", (last,))
                fresh = rows.fetchall()
                now_s = monotonic()
                for number, announcement_id in fresh:
                    found.setdefault(announcement_id, now_s)
                    last = max(last, number)

    reader = threading.Thread(target=read, name="queue reader")
    reader.start()
    try:
        yield found
    finally:
        over.set()
        reader.join()


def waits(passed: Sequence[Passed], durable_s: Mapping[str, float]) -> Figures:
    """How long each had to wait after its arrival."""
    given = {json.loads(message.payload)["id"]: message for message in passed}
    acknowledged = [m.acknowledged_s - m.given_s for m in passed if m.acknowledged_s is not None]
    # What was acknowledged before somebody looked was durable before.
    durable = [durable_s[name] - message.given_s for name, message in given.items()]
    steps = sorted(
        [(m.given_s, 1) for m in passed]
        + [(m.acknowledged_s, -1) for m in passed if m.acknowledged_s is not None]
    )
    most = level = 0
    for _, step in steps:
        level += step
        most = max(most, level)
    return {
        "durable_after": times("durable", [lag * 1000 for lag in durable]),
        "acknowledged_after": times("acknowledged", [lag * 1000 for lag in acknowledged]),
        "most_unacknowledged": most,
        "unacknowledged": len(passed) - len(acknowledged),
    }


async def _burst(count: int, asker: Peer, port: int, durable_s: Mapping[str, float]) -> Figures:
    began_s = monotonic()
    sending = asyncio.create_task(asyncio.to_thread(_send, count, port))
    stops_ms: list[float] = []
    while len(durable_s) < count:
        asked_s = monotonic()
        assert asked_s < began_s + GIVE_UP_S, "the burst does not end"
        await answer(asker, "stop")
        stops_ms.append((monotonic() - asked_s) * 1000)
        await asyncio.sleep(STOP_EVERY_S)
    return {
        "sent_s": round(await sending - began_s, 2),
        "durable_s": round(monotonic() - began_s, 2),
        "stop": times("stop", stops_ms),
    }


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
