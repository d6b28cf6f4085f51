"""Processor time per second of speech, streamed and cached, and where it goes.

    .venv/bin/python -m benchmarks.speech_cpu [SECONDS] [ROUNDS]

The daemon plays on a simulated card; its processor time is the kernel's count. Where it goes is
told by a profile of the event loop, in a bridge of this process that plays the same to nobody.
"""

from __future__ import annotations

import asyncio
import collections
import cProfile
import pstats
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cloud import Cloud
from benchmarks.figures import Figures, printed
from benchmarks.process import Process
from tests.broker import Mosquitto
from tests.house import Caller, Daemon, living, settings_for
from tests.simcard import SimCard, built_simcard

FRAME_S = 0.2
TEXT = "A text that takes its time"
LARGEST = 3


@asynccontextmanager
async def house(seconds: int) -> AsyncIterator[tuple[Cloud, Caller, SimCard, Path, dict[str, Any]]]:
    """Broker, cloud, caller and card, and the settings of a bridge between them."""
    cloud = Cloud([FRAME_S] * round(seconds / FRAME_S))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = SimCard(folder / "card", built_simcard(folder))
        with Mosquitto(folder / "broker") as broker:
            async with cloud.serving(), Caller(broker.port) as caller:
                zones = {"main": {"sink": "alsa:sim"}}
                settings = settings_for(folder, broker.port, gateway=cloud.url, zones=zones)
                yield cloud, caller, card, folder, settings


async def say(caller: Caller, number: int, source: str) -> None:
    """Say the text; a new number is a new phrase."""
    await caller.say(f"{TEXT}, {number}")
    event = await caller.event("finished")
    assert event["source"] == source, event


async def used(seconds: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time per second of speech, the least of some rounds."""
    found: dict[str, list[float]] = {"cloud": [], "cache": []}
    async with house(seconds) as (cloud, caller, card, folder, settings):
        daemon = Daemon(folder, settings)
        await daemon.start(**card.environment())
        try:
            await caller.state(state="idle", cloud="ok")
            await say(caller, -1, "cloud")
            process = Process(daemon.pid)
            for number in range(rounds):
                for source, times in found.items():
                    before_ms = process.cpu_ms
                    await say(caller, number, source)
                    times.append((process.cpu_ms - before_ms) / cloud.seconds)
        finally:
            await daemon.end()
    return {f"{source}_ms_per_s": round(min(times), 2) for source, times in found.items()}


@contextmanager
def elsewhere(cloud: Cloud) -> Iterator[None]:
    """Have the cloud run in a thread of its own, so that its work is not taken for the bridge's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = cloud.serving()
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def costs(seconds: int, source: str) -> dict[str, float]:
    """The largest shares of the event loop's thread, in percent."""
    cloud = Cloud([FRAME_S] * round(seconds / FRAME_S))
    with (
        tempfile.TemporaryDirectory() as name,
        elsewhere(cloud),
        Mosquitto(Path(name) / "broker") as broker,
    ):
        settings = settings_for(Path(name), broker.port, gateway=cloud.url)
        async with Caller(broker.port) as caller, living(settings):
            await caller.state(state="idle", cloud="ok")
            if source == "cache":
                await say(caller, 0, "cloud")
            profile = cProfile.Profile(time.thread_time)
            profile.enable()
            await say(caller, 0, source)
            profile.disable()
    spent: collections.Counter[str] = collections.Counter()
    for (file, _, function), (_, _, own_s, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        spent[_part(file, function)] += own_s
    total = sum(spent.values())
    return {part: round(100 * own_s / total) for part, own_s in spent.most_common(LARGEST)}


def _part(file: str, function: str) -> str:
    """The library or package that a function belongs to; one in C by its name."""
    if file == "~":
        return function
    parts = Path(file).with_suffix("").parts
    for root in ("site-packages", "kugel_bridge"):
        if root in parts:
            return ".".join(parts[parts.index(root) + (root == "site-packages") :][:2])
    return next((part for part in ("asyncio", "json") if part in parts), parts[-1])


def figures(seconds: int = 5, rounds: int = 3) -> Figures:
    """Per second of speech, and the largest costs."""
    return {
        **asyncio.run(used(seconds, rounds)),
        "largest_percent_streamed": asyncio.run(costs(seconds, "cloud")),
        "largest_percent_cached": asyncio.run(costs(seconds, "cache")),
    }


if __name__ == "__main__":
    printed(figures)
