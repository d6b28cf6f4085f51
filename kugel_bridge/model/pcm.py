"""Sound as numbers: a format, and a piece of sound in that format."""

from __future__ import annotations

from dataclasses import dataclass, field

PcmBytes = bytes | memoryview
"""Interleaved samples; a memoryview where copying would only cost time."""


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Interleaved signed little-endian PCM; a frame is one sample per channel."""

    rate: int
    """Sample rate: frames per second (Hz)."""
    channels: int = 1
    sample_bytes: int = 2
    frame_bytes: int = field(init=False, repr=False, compare=False)
    """Bytes of one frame; kept, because it is asked for with every piece of sound."""

    def __post_init__(self) -> None:
        if min(self.rate, self.channels, self.sample_bytes) < 1:
            raise ValueError(f"not a PCM format: {self}")
        object.__setattr__(self, "frame_bytes", self.channels * self.sample_bytes)

    def frames_in(self, seconds: float) -> int:
        """The number of whole frames that fit into `seconds` (s)."""
        # Seconds of n frames, times the rate, may come out a hair below n.
        return int(seconds * self.rate + 1e-6)

    def seconds(self, frames: int) -> float:
        """How long `frames` frames take (s)."""
        return frames / self.rate

    def silence(self, seconds: float) -> PcmChunk:
        """`seconds` (s) of nothing."""
        return PcmChunk(self, bytes(self.frames_in(seconds) * self.frame_bytes))


@dataclass(frozen=True, slots=True)
class PcmChunk:
    """Whole frames of sound in one format."""

    format: PcmFormat
    data: PcmBytes

    def __post_init__(self) -> None:
        if isinstance(self.data, memoryview) and self.data.itemsize != 1:
            raise ValueError("a view of sound has to count bytes")
        if len(self.data) % self.format.frame_bytes:
            raise ValueError(f"{len(self.data)} bytes end inside a frame of {self.format}")

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.data) // self.format.frame_bytes

    @property
    def seconds(self) -> float:
        """How long it sounds (s)."""
        return self.frames / self.format.rate


SPEECH_FORMAT = PcmFormat(24_000)
"""What the KugelAudio models make: 24 kHz, mono, 16 bit (API reference, "Audio")."""
