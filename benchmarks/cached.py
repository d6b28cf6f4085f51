"""A cached phrase: from an MQTT publish to the first frame at the card, beside a tuned script.

    .venv/bin/python -m benchmarks.cached [ROUNDS]

Both play on a simulated ALSA card, which writes down when it starts; broker, gateway and card are
this run's own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

from tests.broker import Mosquitto, Peer
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import ROOT, Caller, Daemon, settings_for
from tests.simcard import SimCard, built_simcard

PHRASE = "Dinner is ready"
PAUSE_S = 0.2


async def measured(
    card: SimCard,
    rounds: int,
    say: Callable[[], Awaitable[None]],
    done: Callable[[], Awaitable[object]],
) -> list[float]:
    """Milliseconds from each publish to the card's start."""
    found = []
    for _ in range(rounds):
        starts = len(card.events("start"))
        at_s = monotonic()
        await say()
        await done()
        found.append((card.events("start")[starts].at_s - at_s) * 1000)
        await asyncio.sleep(PAUSE_S)
    return sorted(found)


async def tuned(folder: Path, library: Path, port: int, rounds: int) -> list[float]:
    """The tuned script's times."""
    card = SimCard(folder / "tuned", library)
    async with Peer(port, filters=["bench/done", "bench/ready"]) as peer:
        script = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks.tuned_script", str(port)),
            env={**os.environ, **card.environment()},
        )
        try:
            await peer.next("bench/ready")
            return await measured(
                card,
                rounds,
                lambda: peer.publish("bench/say", "x"),
                lambda: peer.next("bench/done"),
            )
        finally:
            script.terminate()
            await script.wait()


async def bridge(folder: Path, library: Path, port: int, rounds: int) -> list[float]:
    """The bridge's times for a phrase that is in its cache."""
    card = SimCard(folder / "bridge", library)
    async with serving(ScriptedEngine([hum(1.0)])) as gateway, Caller(port) as caller:
        zones = {"main": {"sink": "alsa:sim"}}
        daemon = Daemon(folder, settings_for(folder, port, gateway=gateway.url, zones=zones))
        await daemon.start(**card.environment())
        try:
            await caller.state(state="idle")
            await caller.say(PHRASE)
            await caller.event("finished")

            async def done() -> None:
                event = await caller.event("finished")
                assert event["source"] == "cache", event

            return await measured(card, rounds, lambda: caller.say(PHRASE), done)
        finally:
            await daemon.end()


async def main(rounds: int) -> None:
    """Measure both, and print medians, 99th percentiles and ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = built_simcard(folder)
        with Mosquitto(folder / "broker") as broker:
            script = await tuned(folder, library, broker.port, rounds)
            ours = await bridge(folder, library, broker.port, rounds)
    print(f"{ROOT}: {rounds} rounds, milliseconds")
    for what, times in (("tuned script", script), ("kugel-bridge, cached", ours)):
        p99 = times[min(len(times) - 1, round(len(times) * 0.99))]
        print(f"  {what:<22} median {statistics.median(times):5.2f}   p99 {p99:6.2f}")
    print(f"  ratio of the medians   {statistics.median(ours) / statistics.median(script):.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
