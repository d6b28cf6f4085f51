"""The local engine behind the gateway: espeak-ng with a catalogue of voices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from kugel_bridge.gateway.voices import ESPEAK_VOICES
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.local import LocalSource


class LocalEngine:
    """Speaks with whichever espeak-ng there is on this machine."""

    def __init__(self) -> None:
        # Only the variant is fixed: a voice may be asked for a text in another language.
        self._sources = {
            each.voice.id: LocalSource("+" + each.name.partition("+")[2]) for each in ESPEAK_VOICES
        }

    def voices(self) -> Sequence[Voice]:
        """One female and one male voice for each language."""
        return [each.voice for each in ESPEAK_VOICES]

    def stream(
        self, text: str, voice: Voice, language: str, speed: float
    ) -> AsyncGenerator[PcmChunk, None]:
        """The sound as the engine makes it; raises a BridgeError if there is none."""
        utterance = Utterance(text=text, language=language, voice=voice.handle, speed=speed)
        return self._sources[voice.id].stream(utterance)
