"""Loudness as people hear it, applied to samples; the card's mixer is never touched."""

from __future__ import annotations

import math

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.model.pcm import PcmChunk

_EXPONENT = 0.5 / math.log10(2)
"""Half the percent sounds half as loud, which is 10 dB less (Stevens' rule): 1.66."""
_RAMP_STEPS = 64
"""Steps of a fade: over 10 ms each is far too short and too small to be heard."""


def gain_factor(percent: float) -> float:
    """The factor for samples at `percent` (0 to 100): 1.0 at 100, 0.0 at 0, -10 dB at 50."""
    if percent >= 100:
        return 1.0
    return (percent / 100) ** _EXPONENT if percent > 0 else 0.0


def amplified(chunk: PcmChunk, factor: float) -> PcmChunk:
    """The chunk, `factor` times as strong, clipped at full scale; itself at 1.0."""
    if factor == 1.0:
        return chunk
    if factor == 0.0:
        return PcmChunk(chunk.format, bytes(len(chunk.data)))
    return PcmChunk(chunk.format, audioop.mul(chunk.data, chunk.format.sample_bytes, factor))


def faded(chunk: PcmChunk, start: float, end: float) -> PcmChunk:
    """The chunk with its factor going evenly from `start` to `end`."""
    if start == end:
        return amplified(chunk, start)
    frames, frame = chunk.frames, chunk.format.frame_bytes
    width = chunk.format.sample_bytes
    steps = min(frames, _RAMP_STEPS)
    data = memoryview(chunk.data)
    out = bytearray()
    for step in range(steps):
        piece = data[frames * step // steps * frame : frames * (step + 1) // steps * frame]
        out += audioop.mul(piece, width, start + (end - start) * (step + 0.5) / steps)
    return PcmChunk(chunk.format, bytes(out))


def peak(chunk: PcmChunk) -> float:
    """The strongest sample, 0.0 to 1.0 of full scale."""
    width = chunk.format.sample_bytes
    return audioop.max(chunk.data, width) / float(1 << (8 * width - 1)) if chunk.data else 0.0
