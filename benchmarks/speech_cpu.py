"""Processor time per second of speech, streamed and cached, and where it goes.

    .venv/bin/python -m benchmarks.speech_cpu [SECONDS]

The daemon plays on a simulated card; its processor time is the kernel's count. Where it goes is
sampled every 2 ms of it, in a bridge of this process that plays the same to nobody.
"""

from __future__ import annotations

import asyncio
import collections
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from benchmarks.cloud import Cloud
from tests.broker import Mosquitto
from tests.house import Caller, Daemon, living, settings_for
from tests.simcard import SimCard, built_simcard

FRAME_S = 0.22
TEXT = "A text that takes its time"
SAMPLE_S = 0.002
LARGEST = 3


def cpu_ms(pid: int) -> float:
    """Processor time of all threads so far (schedstat is in ns)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


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


async def used(seconds: int, rounds: int = 3) -> dict[str, float]:
    """Milliseconds of processor time per second of speech, the least of some rounds."""
    found: dict[str, list[float]] = {"cloud": [], "cache": []}
    async with house(seconds) as (cloud, caller, card, folder, settings):
        daemon = Daemon(folder, settings)
        await daemon.start(**card.environment())
        try:
            await caller.state(state="idle", cloud="ok")
            await say(caller, -1, "cloud")
            for number in range(rounds):
                for source, times in found.items():
                    before_ms = cpu_ms(daemon.pid)
                    await say(caller, number, source)
                    times.append((cpu_ms(daemon.pid) - before_ms) / cloud.seconds)
        finally:
            await daemon.end()
    return {f"{source}_ms_per_s": round(min(times), 2) for source, times in found.items()}


class Sampler:
    """Counts in whose code the main thread is, every so much of its processor time."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _take(self, _number: int, frame: FrameType | None) -> None:
        self.counts[_part(frame)] += 1


def _part(frame: FrameType | None) -> str:
    """The library or package that the innermost frame belongs to; the cloud's share apart."""
    names = []
    while frame is not None:
        names.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    if any(name.startswith(("benchmarks.cloud", "websockets.asyncio.server")) for name in names):
        return "not ours"
    if any(name.startswith("tests") for name in names[:3]):
        return "not ours"
    parts = names[0].split(".")
    return ".".join(parts[:3]) if parts[0] == "kugel_bridge" else parts[0]


async def costs(seconds: int, source: str) -> dict[str, float]:
    """The largest shares of the samples that are the bridge's, in percent."""
    async with house(seconds) as (_, caller, _card, _folder, settings):
        settings["zones"]["main"]["sink"] = "null:"
        async with living(settings):
            await caller.state(state="idle", cloud="ok")
            await say(caller, -1, "cloud")
            if source == "cache":
                await say(caller, 0, "cloud")
            with Sampler() as sampler:
                await say(caller, 0, source)
    ours = {part: n for part, n in sampler.counts.items() if part != "not ours"}
    total = sum(ours.values()) or 1
    largest = sorted(ours.items(), key=lambda item: -item[1])[:LARGEST]
    return {part: round(100 * n / total) for part, n in largest}


def figures(seconds: int = 10) -> dict[str, Any]:
    """Per second of speech, and the largest costs."""
    return {
        **asyncio.run(used(seconds)),
        "largest_percent_streamed": asyncio.run(costs(seconds, "cloud")),
        "largest_percent_cached": asyncio.run(costs(seconds, "cache")),
    }


def main() -> None:
    """Print the figures as JSON."""
    print(json.dumps(figures(int(sys.argv[1]) if len(sys.argv) > 1 else 10), indent=2))


if __name__ == "__main__":
    main()
