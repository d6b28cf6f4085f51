"""What announcements write to the device: cached ones, and new ones beside their sound.

    .venv/bin/python -m benchmarks.disk [PHRASES]

The kernel's own count, in whole pages, over whole lives of the daemon with its files in /var/tmp:
what it gathers and writes every hour, or when it ends, is in it. From each life that of one which
said nothing is subtracted. What the file system writes beside (its journal) is not counted.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.cloud import RATE, Cloud
from benchmarks.figures import Figures, printed
from benchmarks.process import Process
from tests.broker import Mosquitto
from tests.house import Caller, Daemon, settings_for

FRAMES_S = (0.2,) * 12
BLOCK_BYTES = 512
"""In which getrusage counts."""
FOLDER = "/var/tmp"
"""On a disk everywhere; /tmp may be memory, where nothing would be counted."""


class Life(NamedTuple):
    """What a daemon wrote (bytes)."""

    first: int
    """For the first announcement."""
    awake: int
    """For the others, while it ran."""
    whole: int
    """From its start to its end."""


async def life(folder: Path, cloud: Cloud, texts: list[str], source: str) -> Life:
    """One that says the texts, all of which have to come from `source`."""
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker") as broker:
        # A broker of its own: no state kept from the life before says that this one is ready.
        settings = settings_for(folder, broker.port, gateway=cloud.url, log={"level": "warning"})
        return await _lived(Daemon(folder, settings), broker.port, texts, source)


async def _lived(daemon: Daemon, port: int, texts: list[str], source: str) -> Life:
    async with Caller(port) as caller:
        await daemon.start()
        process = Process(daemon.pid)
        await caller.state(state="idle", cloud="ok")
        written = [process.written_bytes]
        for text in texts:
            await caller.say(text)
            event = await caller.event("finished")
            assert event["source"] == source, event
            written.append(process.written_bytes)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
        await daemon.end()
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    first, last = written[min(1, len(texts))], written[-1]
    return Life(first - written[0], last - first, (after - before) * BLOCK_BYTES)


async def measured(phrases: int) -> Figures:
    """Lives that said nothing, new phrases, the same again, and nothing."""
    texts = [f"Phrase number {number} of a long day" for number in range(phrases)]
    cloud = Cloud(FRAMES_S)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        async with cloud.serving():
            await life(folder, cloud, [], "")  # makes the files
            new = await life(folder, cloud, texts, "cloud")
            silent = await life(folder, cloud, [], "")
            cached = await life(folder, cloud, texts, "cache")
    stored = phrases * cloud.seconds * RATE * 2
    return {
        "phrases": phrases,
        "stored_audio_bytes": round(stored),
        "cached_first_bytes": cached.first,
        "cached_bytes": round(cached.awake / (phrases - 1)),
        "cached_later_bytes": round(max(0, cached.whole - silent.whole) / phrases),
        "new_of_stored": round((new.whole - silent.whole) / stored, 3),
        "silent_life_bytes": silent.whole,
    }


def figures(phrases: int = 20) -> Figures:
    """Bytes for each announcement."""
    return asyncio.run(measured(phrases))


if __name__ == "__main__":
    printed(figures)
