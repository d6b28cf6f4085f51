"""The gateway's catalogue: the voices of an engine, found and listed as the API does it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kugel_bridge.kugelaudio.catalogue import Voice, VoicePage
from kugel_bridge.speech.espeak_voice import voice_for

_LANGUAGE = re.compile(r"[a-z]{2,3}")


class VoiceBook:
    """Looks up voices; their order is the engine's."""

    def __init__(self, voices: Sequence[Voice]) -> None:
        self._voices = tuple(voices)
        self._by_id = {str(voice.id): voice for voice in self._voices}
        self._by_handle = {voice.handle: voice for voice in self._voices if voice.handle}
        numbers = [voice.id for voice in self._voices]
        if min(numbers, default=1) < 1 or len(self._by_id) != len(numbers):
            raise ValueError("voices need ids of their own, from 1 on")

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All of them."""
        return self._voices

    def find(self, ident: int | str) -> Voice | None:
        """The voice with that number (also as text) or handle."""
        found = self._by_handle.get(ident) if isinstance(ident, str) else None
        return found or self._by_id.get(str(ident))

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
    """A voice as `de+f4`, for texts in its language, or only a variant as `+f4`."""


@dataclass(frozen=True, slots=True)
class WyomingVoice:
    """A voice of the catalogue that a Wyoming server speaks."""

    voice: Voice
    uri: str
    """tcp://host:port"""
    name: str | None
    """As in the server's list; None = its choice for the language."""


LocalVoice = EspeakVoice | WyomingVoice


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceWish:
    """A voice as people configure it: a new one, or changes to one there is. None = as it was."""

    handle: str
    id: int | None = None
    name: str | None = None
    languages: tuple[str, ...] | None = None
    sex: str | None = None
    description: str | None = None
    espeak: str | None = None
    wyoming: str | None = None
    wyoming_voice: str | None = None


class VoiceWishError(ValueError):
    """A wish that cannot be fulfilled; its text says what would be right."""

    def __init__(self, handle: str | None, key: str, remedy: str) -> None:
        super().__init__(remedy)
        self.handle = handle
        """None where `key` is not one of a wish."""
        self.key = key


def line_up(wishes: Sequence[VoiceWish], hidden: Sequence[str]) -> tuple[LocalVoice, ...]:
    """The catalogue: espeak-ng's voices, changed and added to, without the hidden ones.

    `hidden` are handles, or numbers as text. Raises VoiceWishError.
    """
    voices: dict[str | None, LocalVoice] = {each.voice.handle: each for each in ESPEAK_VOICES}
    for wish in wishes:
        voices[wish.handle] = _fulfilled(wish, voices.get(wish.handle))
    for ident in hidden:
        # The first: a voice of one's own may have taken over the number of one that is hidden.
        found = next((h for h, each in voices.items() if ident in (h, str(each.voice.id))), None)
        if found is None:
            raise VoiceWishError(
                None, "hidden_voices", f"there is no voice {ident!r}; see `kugel-bridge voices`"
            )
        del voices[found]
    owners: dict[int, str | None] = {}
    for handle, each in voices.items():
        if (number := each.voice.id) in owners:
            wished = [wish.handle for wish in wishes if wish.handle in (handle, owners[number])]
            other = owners[number] if wished[-1] == handle else handle
            raise VoiceWishError(
                wished[-1], "id", f"is taken by the voice {other!r}; choose another number"
            )
        owners[number] = handle
    return tuple(voices.values())


def _fulfilled(wish: VoiceWish, known: LocalVoice | None) -> LocalVoice:
    if wish.handle.isdecimal():
        raise VoiceWishError(wish.handle, "", "must not be a number only: it would look like an id")
    if known is None and wish.id is None:
        raise VoiceWishError(wish.handle, "id", "a new voice needs a number of its own")
    if known is None and wish.espeak is None and wish.wyoming is None:
        raise VoiceWishError(
            wish.handle, "", "a new voice needs what speaks it: espeak or wyoming must be set"
        )
    spoken = () if wish.espeak is None else (wish.espeak.partition("+")[0].split("-")[0],)
    base = known.voice if known else Voice(1, wish.handle, wish.handle, tuple(filter(None, spoken)))
    wished: dict[str, Any] = {
        "id": wish.id,
        "name": wish.name,
        "languages": wish.languages,
        "sex": wish.sex,
        "description": wish.description,
    }
    if known is None:
        wished |= {"category": "premade", "quality": "low" if wish.espeak else "mid"}
        wished |= {"is_public": True, "verified": True}
    voice = replace(base, **{key: value for key, value in wished.items() if value is not None})
    if wish.espeak is not None:
        _check_espeak(wish.handle, wish.espeak, voice.languages)
    if wish.wyoming is not None:
        return WyomingVoice(voice, wish.wyoming, wish.wyoming_voice)
    if wish.espeak is not None:
        return EspeakVoice(voice, wish.espeak)
    assert known is not None
    return replace(known, voice=voice)


def _check_espeak(handle: str, wanted: str, languages: Sequence[str]) -> None:
    """Raises VoiceWishError for a voice of espeak-ng that would never be heard."""
    spoken = wanted.partition("+")[0]
    if not spoken or any(
        _LANGUAGE.fullmatch(code) and voice_for(code, wanted) == wanted for code in languages
    ):
        return
    told = f"; it speaks none of {', '.join(languages)}" if languages != (spoken,) else ""
    raise VoiceWishError(
        handle,
        "espeak",
        'must begin with a language of the voice, as "de+f4", or be a variant only, as "+f4"'
        + told,
    )


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
            # Only the variant: which of a language's voices is the best, speech knows.
            name=f"+{variant}",
        )
        for code, language, first, sample in _LANGUAGES
        for sex, variant, step in _VARIANTS
    )


ESPEAK_VOICES = _espeak_voices()
"""One female and one male voice for each language."""
