"""The local engine behind the gateway: espeak-ng and Wyoming servers with a catalogue of voices."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence

from kugel_bridge.gateway.engine import Piece, Spoken
from kugel_bridge.gateway.voices import ESPEAK_VOICES, LocalVoice, VoiceBook, WyomingVoice
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.local import LocalSource
from kugel_bridge.speech.source import Sound
from kugel_bridge.speech.wyoming import WyomingSource

logger = logging.getLogger(__name__)


class LocalEngine:
    """Speaks with whichever espeak-ng there is on this machine, and with Wyoming servers.

    Markup in a text is honoured as the API says. `normalize` changes nothing: these engines read
    numbers and abbreviations as their language does and have no switch for it; `<spell>` is the
    way around it. Wyoming voices have one speed, and do not tell when words sound.
    """

    def __init__(self, voices: Sequence[LocalVoice] = ESPEAK_VOICES) -> None:
        self._sources = {each.voice.id: _source(each) for each in voices}
        self._book = VoiceBook([each.voice for each in voices])
        self._has_told = False

    async def voices(self) -> Sequence[Voice]:
        """All voices, in the order of the catalogue."""
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
        pieces: AsyncGenerator[Piece, None]
        if request.word_timestamps and isinstance(source, LocalSource):
            pieces = source.timed(utterance)
        else:
            pieces = source.stream(utterance)
            if request.word_timestamps and not self._has_told:
                logger.info("the voice %s does not tell when its words sound", voice.handle)
                self._has_told = True
        sound = Sound(pieces)
        await sound.begin()
        return Spoken(source.kind, sound)


def _source(each: LocalVoice) -> LocalSource | WyomingSource:
    if isinstance(each, WyomingVoice):
        return WyomingSource(each.uri, each.name)
    return LocalSource(each.name)
