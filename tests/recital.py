"""An engine whose sound tells which words it is, and how to read a loudspeaker's record."""

from __future__ import annotations

import random
from typing import NamedTuple

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from tests.gateway_server import ScriptedEngine

_RECOGNISED_BY = 128
"""Bytes of noise that no two texts share."""
_CHUNK_S = 0.5
"""Long: while the test machine is busy, the sound must not run out and be faded."""


class Heard(NamedTuple):
    """A text that began to sound."""

    text: str
    part: float
    """How much of it was heard, from its beginning: 1.0 = all."""


class Recital(ScriptedEngine):
    """Speaks every text as noise of its own: a lost, doubled or shifted frame is seen."""

    def __init__(self, seconds: float = 0.4, **lengths_s: float) -> None:
        """All texts last `seconds`, but for those that `lengths_s` names."""
        super().__init__()
        self._seconds, self._lengths_s = seconds, lengths_s
        self._sounds: dict[str, bytes] = {}

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        sound = self.sound(request.text)
        size = SPEECH_FORMAT.frames_in(_CHUNK_S) * SPEECH_FORMAT.frame_bytes
        pieces = (sound[start : start + size] for start in range(0, len(sound), size))
        # Read by the stream's first step, before anybody else can ask.
        self.chunks = [PcmChunk(SPEECH_FORMAT, piece) for piece in pieces]
        return await super().speak(request, voice, language)

    def sound(self, text: str) -> bytes:
        """How a text sounds."""
        if text not in self._sounds:
            frames = SPEECH_FORMAT.frames_in(self._lengths_s.get(text, self._seconds))
            noise = bytearray(random.Random(text).randbytes(frames * SPEECH_FORMAT.frame_bytes))
            # Soft enough for every gain, and never a whole sample of zeros.
            noise[1::2] = noise[1::2].translate(bytes(n & 0x1F for n in range(256)))
            noise[0::2] = noise[0::2].translate(bytes(n | 1 for n in range(256)))
            self._sounds[text] = bytes(noise)
        return self._sounds[text]

    def heard_in(self, record: bytes) -> list[Heard]:
        """What a card's record holds, in order."""
        found: list[tuple[int, Heard]] = []
        for text, sound in self._sounds.items():
            at = record.find(sound[:_RECOGNISED_BY])
            while at >= 0:
                piece = record[at : at + len(sound)]
                same = len(piece)
                if not sound.startswith(piece):
                    same = next(n for n, byte in enumerate(piece) if byte != sound[n])
                found.append((at, Heard(text, same / len(sound))))
                at = record.find(sound[:_RECOGNISED_BY], at + same)
        return [heard for _, heard in sorted(found)]

    def whole(self, record: bytes) -> list[str]:
        """The texts heard to their end, in order; fails where one was heard in part only."""
        heard = self.heard_in(record)
        assert all(h.part == 1.0 for h in heard), heard
        return [h.text for h in heard]
