"""Messages far too large for an announcement: what a bridge on MQTT 5 takes in of them.

    .venv/bin/python -m benchmarks.huge [MEGABYTES]

It has told the broker at login how large a packet may be; the broker keeps the rest from it.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.figures import Figures, printed
from benchmarks.process import Process
from tests.broker import Mosquitto
from tests.house import SAY, Caller, Daemon, settings_for
from tests.raw_mqtt import RawClient

AFTERWARDS = "Dinner is ready"


def _publish(port: int, megabytes: int) -> None:
    with RawClient(port, "huge") as client:
        client.publish_huge(SAY, megabytes * 1_000_000)


async def measured(megabytes: int) -> Figures:
    """How much it grew, the most of it counts, and whether it still speaks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Mosquitto(folder / "broker") as broker:
            daemon = Daemon(folder, settings_for(folder, broker.port))
            async with Caller(broker.port) as caller:
                await daemon.start()
                try:
                    await caller.state(state="idle")
                    # The first announcement makes a reader, a player and an engine.
                    await caller.say(AFTERWARDS)
                    await caller.event("finished")
                    process = Process(daemon.pid)
                    process.forget_most_memory()
                    before_mb = process.memory_mb("VmHWM")
                    # Blocks as the sender does; nobody else has to act in this process.
                    await asyncio.to_thread(_publish, broker.port, megabytes)
                    await caller.request("health_check")
                    growth_mb = process.memory_mb("VmHWM") - before_mb
                    await caller.say(AFTERWARDS)
                    speaks = (await caller.event())["event_type"] == "finished"
                finally:
                    await daemon.end()
    return {
        "megabytes": megabytes,
        "growth_mb": round(growth_mb, 2),
        "resident_before_mb": round(before_mb, 1),
        "silent_afterwards": int(not speaks),
    }


def figures(megabytes: int = 100) -> Figures:
    """After one such message."""
    return asyncio.run(measured(megabytes))


if __name__ == "__main__":
    printed(figures)
