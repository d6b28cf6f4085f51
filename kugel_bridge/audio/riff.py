"""WAV as bytes: reading it as it streams in, writing its header. No files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kugel_bridge.audio import g711
from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat

HEADER_BYTES = 44
_MAX_SIZE = 0xFFFF_FFFF
_MAX_PREAMBLE = 1 << 20
"""No honest file has this much in front of its sound."""
_PCM, _ALAW, _ULAW, _EXTENSIBLE = 1, 6, 7, 0xFFFE
_LAWS = {_ALAW: g711.Law.ALAW, _ULAW: g711.Law.ULAW}


def wav_header(format: PcmFormat, data_bytes: int) -> bytes:  # noqa: A002 - as in PcmChunk
    """The 44 bytes before `data_bytes` of sound; a size beyond 4 GiB is given as the largest."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(_MAX_SIZE, data_bytes + HEADER_BYTES - 8),
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        format.channels,
        format.rate,
        format.rate * format.frame_bytes,
        format.frame_bytes,
        format.sample_bytes * 8,
        b"data",
        min(_MAX_SIZE, data_bytes),
    )


def wav_bytes(chunk: PcmChunk) -> bytes:
    """The chunk as a complete WAV file."""
    return wav_header(chunk.format, len(chunk.data)) + chunk.data


@dataclass(frozen=True, slots=True)
class _Layout:
    kind: int
    channels: int
    rate: int
    sample_bytes: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.sample_bytes

    @property
    def format(self) -> PcmFormat:
        wide = 2 if self.kind in _LAWS or self.sample_bytes == 1 else self.sample_bytes
        return PcmFormat(self.rate, self.channels, wide)


class WavParser:
    """Takes the bytes of one WAV as they come and gives the sound in them.

    The length in the header is not trusted: espeak-ng streams with 0x7ffff000, a killed writer
    leaves 0. PCM of 8 to 32 bit and G.711; 8 bit and G.711 come out as 16 bit.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._layout: _Layout | None = None
        self._left: int | None = None  # bytes of sound still to come; None = before the sound
        self._seen_riff = False
        self._skip = 0

    @property
    def format(self) -> PcmFormat | None:
        """The format of the sound, once it is known."""
        return self._layout.format if self._layout and self._left is not None else None

    def feed(self, data: bytes) -> PcmChunk | None:
        """The sound in `data` and what was held back before; None while there is none yet.

        Raises ProtocolError when this is not a WAV, or one of a kind we cannot play.
        """
        self._held += data
        if self._left is None and not self._read_preamble():
            return None
        assert self._layout is not None
        assert self._left is not None
        frame = self._layout.frame_bytes
        size = min(len(self._held), self._left) // frame * frame
        if not size:
            return None
        sound = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._left -= size
        if self._left < frame:
            self._held.clear()  # chunks after the sound are of no interest
            self._left = 0
        return _as_pcm(self._layout, sound)

    def end(self) -> None:
        """The stream is over; raises ProtocolError when it ended before its sound began."""
        if self._left is None:
            raise ProtocolError("the WAV ends before its sound begins")

    def _read_preamble(self) -> bool:
        """Eat what stands before the sound; True when the sound begins."""
        if not self._seen_riff:
            if len(self._held) < 12:
                if not b"RIFF".startswith(bytes(self._held[:4])):
                    raise ProtocolError("not a WAV: it does not begin with RIFF")
                return False
            if self._held[:4] != b"RIFF" or self._held[8:12] != b"WAVE":
                raise ProtocolError("not a WAV: RIFF and WAVE are missing")
            del self._held[:12]
            self._seen_riff = True
        while True:
            dropped = min(self._skip, len(self._held))
            del self._held[:dropped]
            self._skip -= dropped
            if self._skip or len(self._held) < 8:
                return False
            tag, size = struct.unpack_from("<4sI", self._held)
            if tag == b"data":
                if self._layout is None:
                    raise ProtocolError("a WAV whose sound has no format before it")
                del self._held[:8]
                # 0 is what a killed writer leaves: read to the end, as with a size too large.
                self._left = size or _MAX_SIZE
                return True
            if size > _MAX_PREAMBLE:
                raise ProtocolError(f"a WAV with {size} bytes of {tag!r} before its sound")
            if tag == b"fmt ":
                if len(self._held) < 8 + size:
                    return False
                self._layout = _layout(bytes(self._held[8 : 8 + size]))
            self._skip = 8 + size + size % 2


def _layout(body: bytes) -> _Layout:
    if len(body) < 16:
        raise ProtocolError("a WAV with too short a format")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        kind = struct.unpack_from("<H", body, 24)[0]
    playable = bits == 8 if kind in _LAWS else kind == _PCM and bits in (8, 16, 24, 32)
    if not playable or not 1 <= channels <= 8 or not 1_000 <= rate <= 768_000:
        raise ProtocolError(
            f"a WAV of kind {kind} with {bits} bit, {channels} channels at {rate} Hz: cannot play"
        )
    return _Layout(kind, channels, rate, bits // 8)


def _as_pcm(layout: _Layout, sound: bytes) -> PcmChunk:
    if layout.kind in _LAWS:
        sound = g711.decoded(sound, _LAWS[layout.kind])
    elif layout.sample_bytes == 1:
        # 8 bit WAV counts from 0 to 255, with silence at 128.
        sound = audioop.lin2lin(audioop.bias(sound, 1, -128), 1, 2)
    return PcmChunk(layout.format, sound)
