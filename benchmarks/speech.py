"""How fast the cache and the local engine are: figures, no assertions.

.venv/bin/python benchmarks/speech.py [FOLDER]
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.espeak import EspeakSource
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.phrase import PhraseKey

PHRASES = 200
ENTRY_BYTES = 200_000
TEXT = "Die Waschmaschine ist fertig, und im Keller brennt noch das Licht. Bitte ausschalten!"
NOISY = f"## Hinweis\n\n- **{TEXT}** 😀\n- Siehe [hier](https://example.org) &amp; <b>dort</b>"


def key(number: int) -> PhraseKey:
    return PhraseKey(
        text=f"{TEXT} {number}", source="bench", voice="1", model="kugel-3.5", language="de"
    )


def told(name: str, values: list[float], unit: str = "ms") -> None:
    ordered = sorted(values)
    middle, late = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"{name:46} median {middle:8.3f} {unit}   99 % {late:8.3f} {unit}")


def device_bytes() -> int:
    """Bytes this process had written to a device."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


async def keep(cache: PhraseCache, number: int, sound: bytes) -> None:
    recording = cache.begin(key(number))
    assert recording is not None
    for start in range(0, len(sound), 9_600):
        recording.add(PcmChunk(SPEECH_FORMAT, sound[start : start + 9_600]))
    assert await recording.commit()


async def bench_cache(folder: Path) -> None:
    sound = random.Random(1).randbytes(ENTRY_BYTES)
    cache = PhraseCache(folder, 1_000_000_000)
    await cache.open()
    before, writes, times = device_bytes(), (await cache.stats()).bytes_written, []
    for number in range(PHRASES):
        started = time.perf_counter()
        await keep(cache, number, sound)
        times.append((time.perf_counter() - started) * 1000)
    told(f"keeping {ENTRY_BYTES} bytes", times)
    audio = PHRASES * ENTRY_BYTES
    written = (await cache.stats()).bytes_written - writes
    await asyncio.to_thread(os.sync)
    print(f"handed to the system per byte of sound:        {written / audio:.4f}")
    print(f"written to the device per byte of sound:       {(device_bytes() - before) / audio:.4f}")
    times = []
    for turn in range(1000):
        started = time.perf_counter()
        entry = await cache.lookup(key(turn % PHRASES))
        assert entry is not None
        await anext(entry.chunks())
        times.append((time.perf_counter() - started) * 1000)
    told(f"lookup to first chunk, {ENTRY_BYTES} bytes", times)
    times = []
    for turn in range(1000):
        started = time.perf_counter()
        assert await cache.lookup(key(-1 - turn)) is None
        times.append((time.perf_counter() - started) * 1000)
    told("lookup that misses", times)
    before = device_bytes()
    await cache.close()
    await asyncio.to_thread(os.sync)
    print(f"written to the device at the end:              {device_bytes() - before} bytes")


async def first_chunk_ms(chunks: AsyncGenerator[PcmChunk, None]) -> float:
    started = time.perf_counter()
    await anext(chunks)
    taken = (time.perf_counter() - started) * 1000
    await chunks.aclose()
    return taken


async def bench_engines() -> None:
    said = Utterance(text=TEXT, language="de")
    child, library = EspeakSource(), LoaderSource()
    told(
        "espeak-ng child to first chunk",
        [await first_chunk_ms(child.stream(said)) for _ in range(50)],
    )
    if library.is_installed():
        told(
            "espeak-ng library to first chunk",
            [await first_chunk_ms(library.stream(said)) for _ in range(50)],
        )


def bench_cleaning() -> None:
    for name, text in (("plain", TEXT), ("with markdown", NOISY)):
        times = []
        for _ in range(300):
            started = time.perf_counter()
            cleaned(text, "de", {"kwh": "Kilowattstunden"})
            times.append((time.perf_counter() - started) * 1000)
        told(f"cleaning a text, {name}", times)


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        await bench_cache(Path(folder))
    await bench_engines()
    bench_cleaning()


if __name__ == "__main__":
    asyncio.run(main())
