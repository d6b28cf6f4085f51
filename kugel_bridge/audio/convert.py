"""From one PCM format to another, chunk by chunk, as if it were one piece."""

from __future__ import annotations

from typing import Any

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.model.pcm import PcmBytes, PcmChunk, PcmFormat

_CENTRE_LEVEL = 0.5
"""Weight of left and right in the middle; together they keep full scale."""


class Converter:
    """Changes channels, width and rate; the split into chunks does not change the result.

    A stream of n frames becomes ceil(n * target rate / source rate) frames once `flush` was
    called: nothing is lost at its end. Rates are changed by linear interpolation, which for
    speech at 22 to 48 kHz is good enough, and cheap on a small processor.
    """

    def __init__(self, source: PcmFormat, target: PcmFormat) -> None:
        self.source = source
        self.target = target
        # The rate is changed where a frame has the fewest channels: there is least to compute.
        self._middle_channels = min(source.channels, target.channels)
        self._state: Any = None  # audioop's own between two calls of ratecv
        self._last = b""
        self._taken = 0
        self._given = 0

    def convert(self, chunk: PcmChunk) -> PcmChunk:
        """The chunk in the target format; the very same object where nothing has to change.

        Raises ValueError for a chunk that is not in the source format.
        """
        if chunk.format != self.source:
            raise ValueError(f"a chunk in {chunk.format} for a converter from {self.source}")
        if self.source == self.target or not chunk.data:
            return chunk if self.source == self.target else PcmChunk(self.target, b"")
        data: PcmBytes = chunk.data
        width = self.source.sample_bytes
        if width != self.target.sample_bytes:
            # Wider first and narrower first come to the same: each step keeps the sign.
            data = audioop.lin2lin(data, width, self.target.sample_bytes)
        width = self.target.sample_bytes
        data = _rechannelled(data, width, self.source.channels, self._middle_channels)
        if self.source.rate != self.target.rate:
            data = self._resampled(data, chunk.frames)
        data = _rechannelled(data, width, self._middle_channels, self.target.channels)
        return PcmChunk(self.target, data)

    def flush(self) -> PcmChunk:
        """What the stream still owes; afterwards the converter is as new."""
        owed = -(-self._taken * self.target.rate // self.source.rate) - self._given
        data: PcmBytes = b""
        if owed > 0 and self._last:
            # The last frame, held: interpolation between it and itself gives the rest.
            missing = -(-owed * self.source.rate // self.target.rate)
            frame = self._middle_channels * self.target.sample_bytes
            held = self._resampled(self._last * missing, 0)[: owed * frame]
            width = self.target.sample_bytes
            data = _rechannelled(held, width, self._middle_channels, self.target.channels)
        self._state, self._last, self._taken, self._given = None, b"", 0, 0
        return PcmChunk(self.target, data)

    def _resampled(self, data: PcmBytes, frames: int) -> bytes:
        width, channels = self.target.sample_bytes, self._middle_channels
        out, self._state = audioop.ratecv(
            data, width, channels, self.source.rate, self.target.rate, self._state
        )
        self._last = bytes(data[-width * channels :])
        self._taken += frames
        self._given += len(out) // (width * channels)
        return out


def _rechannelled(data: PcmBytes, width: int, have: int, want: int) -> PcmBytes:
    """The same sound on `want` channels; more than two of them stay silent beyond left and right.

    Down to one: left and right in equal parts. The channels past the second carry no speech.
    """
    if have == want:
        return data
    if want == 1:
        stereo = data if have == 2 else _picked(data, width, have, 2)
        return audioop.tomono(stereo, width, _CENTRE_LEVEL, _CENTRE_LEVEL)
    if have == 1:
        data, have = audioop.tostereo(data, width, 1, 1), 2
        return data if want == 2 else _picked(data, width, have, want)
    return _picked(data, width, have, want)


def _picked(data: PcmBytes, width: int, have: int, want: int) -> bytes:
    frames = len(data) // (width * have)
    out = bytearray(frames * width * want)
    source = memoryview(data)
    # Slices with a stride copy at C speed, one pass for each byte of each channel.
    for byte in range(width * min(have, want)):
        out[byte :: width * want] = source[byte :: width * have]
    return bytes(out)
