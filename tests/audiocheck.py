"""Compare what was heard with what should have been; 16 bit samples, interleaved."""

from __future__ import annotations

import random
from array import array
from typing import NamedTuple

from kugel_bridge.model.pcm import PcmChunk, PcmFormat


def noise(format: PcmFormat, frames: int, seed: int = 1) -> PcmChunk:  # noqa: A002 - as in PcmChunk
    """Sound in which no two places are alike, and which is never long at zero."""
    return PcmChunk(format, random.Random(seed).randbytes(frames * format.frame_bytes))


def samples(pcm: bytes | memoryview) -> array[int]:
    """The samples as numbers."""
    numbers = array("h")
    numbers.frombytes(bytes(pcm))
    return numbers


class Difference(NamedTuple):
    """Where two recordings part."""

    at_byte: int
    heard_bytes: int
    expected_bytes: int


def exact(heard: bytes, expected: bytes) -> Difference | None:
    """None when equal; a short answer otherwise, where pytest would print two long strings."""
    if heard == expected:
        return None
    low, high = 0, min(len(heard), len(expected))
    while low < high:
        middle = (low + high + 1) // 2
        if heard[:middle] == expected[:middle]:
            low = middle
        else:
            high = middle - 1
    return Difference(low, len(heard), len(expected))
