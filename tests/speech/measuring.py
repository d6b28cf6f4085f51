"""What sound is like: its pauses, its pitch, where it is loud."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from itertools import pairwise
from operator import mul
from statistics import geometric_mean

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.audio.convert import Converter
from kugel_bridge.model.pcm import PcmChunk, PcmFormat

BLOCK_S = 0.005
LOUD = 150
"""RMS (of 32768) from which on something is heard."""
_PITCH_FORMAT = PcmFormat(8_000)
_PITCHES = range(70, 401)
"""Of human voices (Hz)."""


async def recorded(chunks: AsyncGenerator[PcmChunk, None]) -> PcmChunk:
    """All of it in one piece."""
    pieces = [chunk async for chunk in chunks]
    return PcmChunk(pieces[0].format, b"".join(bytes(piece.data) for piece in pieces))


def loud_spans_s(sound: PcmChunk, gap_s: float = 0.08) -> list[tuple[float, float]]:
    """Where it is heard, from and to (s); shorter silences than `gap_s` are consonants."""
    block = sound.format.frames_in(BLOCK_S) * sound.format.frame_bytes
    block_s = block / sound.format.frame_bytes / sound.format.rate
    spans: list[tuple[float, float]] = []
    for number in range(len(sound.data) // block):
        if audioop.rms(sound.data[number * block : (number + 1) * block], 2) >= LOUD:
            start, end = number * block_s, (number + 1) * block_s
            if spans and start - spans[-1][1] < gap_s:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
    return spans


def pauses_s(sound: PcmChunk, gap_s: float = 0.08) -> list[float]:
    """The silences between what is heard (s)."""
    spans = loud_spans_s(sound, gap_s)
    return [after[0] - before[1] for before, after in pairwise(spans)]


def spoken_s(sound: PcmChunk) -> float:
    """From the first thing heard to the last (s)."""
    spans = loud_spans_s(sound)
    return spans[-1][1] - spans[0][0]


def pitch(sound: PcmChunk) -> float:
    """The mean pitch of its voiced parts (Hz), by autocorrelation."""
    low = Converter(sound.format, _PITCH_FORMAT).convert(sound)
    samples = struct.unpack(f"<{low.frames}h", low.data)
    rate = _PITCH_FORMAT.rate
    longest, window = rate // _PITCHES[0], rate // 25
    found = []
    for start in range(0, len(samples) - window - longest, window // 2):
        here = samples[start : start + window]
        energy = sum(sample * sample for sample in here)
        if energy < window * 500**2:
            continue
        alike = [
            sum(map(mul, here, samples[start + lag : start + lag + window])) / energy
            for lag in range(longest)
        ]
        shortest = rate // _PITCHES[-1]
        # Twice the period is as alike as the period: the first that is nearly the best counts.
        nearly = 0.9 * max(alike[shortest : longest - 1])
        lag = next(n for n in range(shortest, longest) if alike[n] >= nearly)
        while lag + 1 < longest - 1 and alike[lag + 1] > alike[lag]:
            lag += 1
        before, best, after = alike[lag - 1 : lag + 2]
        if best > 0.7 and before < best > after:
            # The top of the parabola through the three: lags are too coarse for high voices.
            found.append(rate / (lag + 0.5 * (before - after) / (before - 2 * best + after)))
    return geometric_mean(found)
