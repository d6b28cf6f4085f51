"""An engine's sound, cut and coded as a request wants it."""

from __future__ import annotations

from collections.abc import Iterator

from kugel_bridge.audio import g711
from kugel_bridge.audio.convert import Converter
from kugel_bridge.kugelaudio.answer import LAWS
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest
from kugel_bridge.model.pcm import PcmChunk, PcmFormat

FRAME_S = 0.2
"""The size in the API's examples; 16 KiB of JSON, far below the 1 MiB that clients accept."""


class Delivery:
    """Takes the chunks of one request, gives the data of its audio frames."""

    def __init__(self, request: SpeechRequest) -> None:
        self._encoding, rate = request.delivery
        self._target = PcmFormat(rate)
        self._frame_bytes = self._target.frames_in(FRAME_S) * self._target.frame_bytes
        self._converter: Converter | None = None
        self._waiting = bytearray()
        self._is_first = True
        self.made_s = 0.0
        """How much sound the engine made (s)."""

    def add(self, chunk: PcmChunk) -> Iterator[bytes]:
        """The frames that are full now; the first one goes out however short it is."""
        if self._converter is None or self._converter.source != chunk.format:
            self._flush()
            self._converter = Converter(chunk.format, self._target)
        self.made_s += chunk.seconds
        self._waiting += self._converter.convert(chunk).data
        while len(self._waiting) >= self._frame_bytes:
            yield self._cut(self._frame_bytes)
        if self._is_first and self._waiting:
            yield self._cut(len(self._waiting))

    def end(self) -> Iterator[bytes]:
        """What is left."""
        self._flush()
        while self._waiting:
            yield self._cut(self._frame_bytes)

    def _flush(self) -> None:
        if self._converter is not None:
            self._waiting += self._converter.flush().data

    def _cut(self, size: int) -> bytes:
        self._is_first = False
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data if self._encoding is Encoding.PCM else g711.encoded(data, LAWS[self._encoding])
