"""The local engine behind the gateway: espeak-ng with a catalogue of voices."""

from __future__ import annotations

from collections.abc import Sequence

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.voices import ESPEAK_VOICES, VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.local import LocalSource
from kugel_bridge.speech.source import Sound


class LocalEngine:
    """Speaks with whichever espeak-ng there is on this machine."""

    def __init__(self) -> None:
        # Only the variant is fixed: a voice may be asked for a text in another language.
        self._sources = {
            each.voice.id: LocalSource("+" + each.name.partition("+")[2]) for each in ESPEAK_VOICES
        }
        self._book = VoiceBook([each.voice for each in ESPEAK_VOICES])

    async def voices(self) -> Sequence[Voice]:
        """One female and one male voice for each language."""
        return self._book.voices

    async def voice(self, ident: int | str) -> Voice | None:
        """The voice with that number or handle."""
        return self._book.find(ident)

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        """Begin to speak; raises a BridgeError if no engine makes a sound."""
        utterance = Utterance(
            text=request.text, language=language, voice=voice.handle, speed=request.speed
        )
        source = self._sources[voice.id]
        sound = Sound(source.stream(utterance))
        await sound.begin()
        return Spoken(source.kind, sound)
