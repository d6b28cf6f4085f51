"""A cached phrase: from an MQTT publish to the first frame at the card, beside a tuned script.

    .venv/bin/python -m benchmarks.cached [ROUNDS]

Both play on a simulated ALSA card, which writes down when it starts; brokers, cloud and cards are
this run's own. They take turns, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.cloud import Cloud
from benchmarks.summary import summary
from tests.broker import Mosquitto, Peer
from tests.house import Caller, Daemon, settings_for
from tests.simcard import SimCard, built_simcard

PHRASE = "Dinner is ready"
PAUSE_S = 0.2

Round = Callable[[], Awaitable[float]]
"""Says the phrase once; milliseconds from the publish to the card's start."""


def rounds_of(
    card: SimCard, say: Callable[[], Awaitable[None]], done: Callable[[], Awaitable[None]]
) -> Round:
    """Publishes with `say`, and waits with `done` until it was heard."""

    async def once() -> float:
        starts = len(card.events("start"))
        at_s = monotonic()
        await say()
        await done()
        return (card.events("start")[starts].at_s - at_s) * 1000

    return once


@asynccontextmanager
async def tuned(folder: Path, library: Path) -> AsyncIterator[Round]:
    """The tuned script, alive in the block."""
    card = SimCard(folder / "tuned", library)
    with Mosquitto(folder / "tuned broker") as broker:
        async with Peer(broker.port, filters=["bench/done", "bench/ready"]) as peer:
            script = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "benchmarks.tuned_script", str(broker.port)),
                env={**os.environ, **card.environment()},
            )

            async def done() -> None:
                await peer.next("bench/done")

            try:
                await peer.next("bench/ready")
                yield rounds_of(card, lambda: peer.publish("bench/say", "x"), done)
            finally:
                script.terminate()
                await script.wait()


@asynccontextmanager
async def bridge(folder: Path, library: Path) -> AsyncIterator[Round]:
    """The bridge with the phrase in its cache, alive in the block."""
    card, cloud = SimCard(folder / "bridge", library), Cloud((1.0,))
    with Mosquitto(folder / "bridge broker") as broker:
        async with cloud.serving(), Caller(broker.port) as caller:
            zones = {"main": {"sink": "alsa:sim"}}
            settings = settings_for(folder, broker.port, gateway=cloud.url, zones=zones)
            daemon = Daemon(folder, settings)
            await daemon.start(**card.environment())

            async def done() -> None:
                event = await caller.event("finished")
                assert event["source"] == "cache", event

            try:
                await caller.state(state="idle")
                await caller.say(PHRASE)
                await caller.event("finished")
                yield rounds_of(card, lambda: caller.say(PHRASE), done)
            finally:
                await daemon.end()


async def measured(rounds: int) -> dict[str, Any]:
    """Both in turns."""
    times: dict[str, list[float]] = {"tuned_script": [], "kugel_bridge": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = built_simcard(folder)
        async with tuned(folder, library) as script, bridge(folder, library) as ours:
            for _ in range(rounds):
                for found, once in zip(times.values(), (script, ours), strict=True):
                    found.append(await once())
                    await asyncio.sleep(PAUSE_S)
    figures = {name: summary(found) for name, found in times.items()}
    ratios = {
        f"ratio_of_{what}": round(
            figures["kugel_bridge"][f"{what}_ms"] / figures["tuned_script"][f"{what}_ms"], 2
        )
        for what in ("min", "median", "p99")
    }
    return {**figures, **ratios}


def figures(rounds: int = 40) -> dict[str, Any]:
    """Both, and how many times the script's figures ours are."""
    return asyncio.run(measured(rounds))


def main() -> None:
    """Print the figures as JSON."""
    print(json.dumps(figures(int(sys.argv[1]) if len(sys.argv) > 1 else 40), indent=2))


if __name__ == "__main__":
    main()
