"""The parts of speech by themselves: cache, local engines, cleaning.

.venv/bin/python -m benchmarks.speech [ROUNDS]
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from time import perf_counter

from benchmarks.figures import Figures, printed, times
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.espeak import EspeakSource
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.phrase import PhraseKey

PHRASES = 100
ENTRY_BYTES = 200_000
TEXT = "Die Waschmaschine ist fertig, und im Keller brennt noch das Licht. Bitte ausschalten!"
NOISY = f"## Hinweis\n\n- **{TEXT}** 😀\n- Siehe [hier](https://example.org) &amp; <b>dort</b>"


def _key(number: int) -> PhraseKey:
    return PhraseKey(
        text=f"{TEXT} {number}", source="bench", voice="1", model="kugel-3.5", language="de"
    )


async def _keep(cache: PhraseCache, number: int, sound: bytes) -> None:
    recording = cache.begin(_key(number))
    assert recording is not None
    for start in range(0, len(sound), 9_600):
        recording.add(PcmChunk(SPEECH_FORMAT, sound[start : start + 9_600]))
    assert await recording.commit()


async def of_cache(folder: Path, rounds: int) -> Figures:
    """Looking phrases up that are on disk, and such that are not."""
    cache, sound = PhraseCache(folder, 1_000_000_000), random.Random(1).randbytes(ENTRY_BYTES)
    await cache.open()
    for number in range(PHRASES):
        await _keep(cache, number, sound)
    hits_ms, misses_ms = [], []
    for turn in range(rounds):
        started_s = perf_counter()
        entry = await cache.lookup(_key(turn % PHRASES))
        assert entry is not None
        await anext(entry.chunks())
        hits_ms.append((perf_counter() - started_s) * 1000)
        started_s = perf_counter()
        assert await cache.lookup(_key(-1 - turn)) is None
        misses_ms.append((perf_counter() - started_s) * 1000)
    await cache.close()
    return {"hit": times("hit", hits_ms), "miss": times("miss", misses_ms)}


async def of_engines(rounds: int) -> Figures:
    """First chunk of the local engine, both ways in which it is run."""
    said, library = Utterance(text=TEXT, language="de"), LoaderSource()
    child = EspeakSource()
    found = {"child": [await _first_chunk_ms(child.stream(said)) for _ in range(rounds)]}
    if library.is_installed():
        found["library"] = [await _first_chunk_ms(library.stream(said)) for _ in range(rounds)]
    return {name: times(name, taken_ms) for name, taken_ms in found.items()}


async def _first_chunk_ms(chunks: AsyncGenerator[PcmChunk, None]) -> float:
    started_s = perf_counter()
    await anext(chunks)
    taken_ms = (perf_counter() - started_s) * 1000
    await chunks.aclose()
    return taken_ms


def _taken_ms(work: Callable[[], object]) -> float:
    started_s = perf_counter()
    work()
    return (perf_counter() - started_s) * 1000


async def measured(rounds: int) -> Figures:
    """All parts."""
    with tempfile.TemporaryDirectory() as folder:
        cache = await of_cache(Path(folder), rounds)
    cleaning = [
        _taken_ms(lambda: cleaned(NOISY, "de", {"kwh": "Kilowattstunden"})) for _ in range(rounds)
    ]
    return {**cache, **await of_engines(rounds), "cleaning": times("cleaning", cleaning)}


def figures(rounds: int = 100) -> Figures:
    """All parts, `rounds` times each."""
    return asyncio.run(measured(rounds))


if __name__ == "__main__":
    printed(figures)
