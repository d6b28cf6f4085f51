"""espeak-ng behind the gateway: the voice of a house without internet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from kugel_bridge.gateway.voices import ESPEAK_VOICES
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import EspeakSource


class EspeakEngine:
    """Speaks with the voices of the built-in catalogue; a child process for each request."""

    def __init__(self) -> None:
        self._sources = {entry.voice.id: EspeakSource(entry.name) for entry in ESPEAK_VOICES}

    def voices(self) -> Sequence[Voice]:
        """The catalogue."""
        return [entry.voice for entry in ESPEAK_VOICES]

    def stream(
        self, text: str, voice: Voice, language: str, speed: float
    ) -> AsyncGenerator[PcmChunk, None]:
        """The sound as espeak-ng makes it; a voice speaks other languages too."""
        utterance = Utterance(text=text, language=language, speed=speed)
        return self._sources[voice.id].stream(utterance)
