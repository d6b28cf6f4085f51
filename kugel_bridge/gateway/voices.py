"""The gateway's catalogue: the voices of an engine, found and listed as the API does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kugel_bridge.kugelaudio.catalogue import Voice, VoicePage


class VoiceBook:
    """Looks up voices; their order is the engine's."""

    def __init__(self, voices: Sequence[Voice]) -> None:
        self._voices = tuple(voices)
        self._by_id = {voice.id: voice for voice in self._voices}
        self._by_handle = {voice.handle: voice for voice in self._voices if voice.handle}
        if min(self._by_id, default=1) < 1 or len(self._by_id) != len(self._voices):
            raise ValueError("voices need ids of their own, from 1 on")

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All of them."""
        return self._voices

    def find(self, ident: int | str) -> Voice | None:
        """The voice with that number (also as text) or handle."""
        if isinstance(ident, int):
            return self._by_id.get(ident)
        found = self._by_handle.get(ident)
        # The length keeps a number of a million digits from being computed.
        if found is None and ident.isascii() and ident.isdecimal() and len(ident) <= 18:
            found = self._by_id.get(int(ident))
        return found

    def page(
        self,
        *,
        limit: int,
        offset: int,
        language: str | None = None,
        category: str | None = None,
        include_public: bool = True,
    ) -> VoicePage:
        """A part of those that fit every filter given."""
        fitting = [
            voice
            for voice in self._voices
            if (language is None or language in voice.languages)
            and (category is None or category == voice.category)
            and (include_public or not voice.is_public)
        ]
        part = tuple(fitting[offset : offset + limit])
        return VoicePage(part, total=len(fitting), limit=limit, offset=offset)


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """A voice of the catalogue, and what espeak-ng calls it."""

    voice: Voice
    name: str
    """For `espeak-ng -v`: language, plus, variant."""


# Language, its English name, the number of its first voice, what a sample says. The numbers are
# kept for good: they stand in people's configurations.
_LANGUAGES = (
    ("en", "English", 101, "The washing machine is done."),
    ("de", "German", 111, "Die Waschmaschine ist fertig."),
    ("fr", "French", 121, "La machine à laver a terminé."),
    ("es", "Spanish", 131, "La lavadora ha terminado."),
    ("it", "Italian", 141, "La lavatrice ha finito."),
    ("nl", "Dutch", 151, "De wasmachine is klaar."),
    ("pl", "Polish", 161, "Pralka skończyła pranie."),
    ("pt", "Portuguese", 171, "A máquina de lavar terminou."),
    ("sv", "Swedish", 181, "Tvättmaskinen är klar."),
    ("da", "Danish", 191, "Vaskemaskinen er færdig."),
    ("cs", "Czech", 201, "Pračka doprala."),
    ("fi", "Finnish", 211, "Pesukone on valmis."),
)
_VARIANTS = (("female", "f3", 0), ("male", "m3", 1))


def _espeak_voices() -> tuple[EspeakVoice, ...]:
    return tuple(
        EspeakVoice(
            Voice(
                id=first + step,
                name=f"espeak {language} ({sex})",
                handle=f"espeak-{code}-{sex}",
                languages=(code,),
                sex=sex,
                age="middle_age",
                description="Local voice of espeak-ng; needs no internet.",
                category="premade",
                quality="low",
                sample_text=sample,
                is_public=True,
                verified=True,
            ),
            name=f"{code}+{variant}",
        )
        for code, language, first, sample in _LANGUAGES
        for sex, variant, step in _VARIANTS
    )


ESPEAK_VOICES = _espeak_voices()
"""One female and one male voice for each language."""
