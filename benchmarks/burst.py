"""A burst of announcements at QoS 1 with an id of its own each, at a bridge that is paused.

    .venv/bin/python -m benchmarks.burst [COUNT]

Every half second somebody asks it to stop, and looks at its figures. Afterwards what lies on its
disk is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.summary import summary
from kugel_bridge.queue.stored import stored_entries
from tests.broker import Mosquitto, Peer
from tests.house import ROOT, Caller, Daemon, settings_for

LOOK_EVERY_S = 0.5
GIVE_UP_S = 120.0


def field_mb(pid: int, name: str) -> float:
    """A size from the kernel's view of the process (MB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


async def answer(asker: Peer, verb: str) -> dict[str, Any]:
    """What a request is answered with."""
    await asker.publish(f"{ROOT}/request/{verb}")
    message = await asker.next(f"{ROOT}/response/{verb}", GIVE_UP_S)
    found: dict[str, Any] = json.loads(message.payload)["data"]
    return found


async def measured(count: int) -> dict[str, Any]:
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
                try:
                    await answer(asker, "pause")
                    before_mb = field_mb(daemon.pid, "VmRSS")
                    found = await _burst(count, asker, broker.port)
                    found["resident_before_mb"] = round(before_mb, 1)
                    found["resident_most_mb"] = round(field_mb(daemon.pid, "VmHWM"), 1)
                finally:
                    await daemon.end()
        ids = [entry.announcement.id for entry in stored_entries(folder / "queue.db")]
        wanted = [str(number) for number in range(count)]
        return found | {
            "n": count,
            "lost": len(set(wanted) - set(ids)),
            "twice": len(ids) - len(set(ids)),
            "in_order": ids == wanted,
        }


async def _burst(count: int, asker: Peer, port: int) -> dict[str, Any]:
    began_s = monotonic()
    sending = asyncio.create_task(asyncio.to_thread(_send, count, port))
    stops_ms: list[float] = []
    lags: list[int] = []
    taken_s = durable_s = 0.0
    while not durable_s:
        asked_s = monotonic()
        assert asked_s < began_s + GIVE_UP_S, "the burst does not end"
        await answer(asker, "stop")
        stops_ms.append((monotonic() - asked_s) * 1000)
        health = await answer(asker, "health_check")
        now_s = monotonic() - began_s
        queue = health["queue"]
        arrived = health["mqtt"]["received"]
        lags.append(queue["unacknowledged"])
        if not taken_s and arrived >= count:
            taken_s = now_s
        if taken_s and not queue["unacknowledged"]:
            durable_s = now_s
        await asyncio.sleep(LOOK_EVERY_S)
    return {
        "sent_s": round(await sending - began_s, 2),
        "taken_s": round(taken_s, 2),
        "durable_s": round(durable_s, 2),
        "most_not_durable": max(lags),
        "stop": summary(stops_ms),
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


def figures(count: int = 10_000) -> dict[str, Any]:
    """What became of the burst."""
    return asyncio.run(measured(count))


def main() -> None:
    """Print the figures as JSON."""
    print(json.dumps(figures(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000), indent=2))


if __name__ == "__main__":
    main()
