from __future__ import annotations

import pytest

from kugel_bridge.gateway.voices import (
    ESPEAK_VOICES,
    VoiceBook,
    VoiceWish,
    WyomingVoice,
    line_up,
)
from kugel_bridge.kugelaudio.catalogue import Voice


def test_the_espeak_catalogue_has_both_sexes_in_every_language() -> None:
    have = {(entry.voice.languages[0], entry.voice.sex) for entry in ESPEAK_VOICES}
    for language in ("en", "de", "fr", "es", "it", "nl", "pl", "pt"):
        assert {(language, "female"), (language, "male")} <= have


def test_the_numbers_that_stand_in_configurations_do_not_change() -> None:
    numbers = {entry.voice.handle: entry.voice.id for entry in ESPEAK_VOICES}
    assert (numbers["espeak-en-female"], numbers["espeak-en-male"]) == (101, 102)
    assert (numbers["espeak-de-female"], numbers["espeak-pt-male"]) == (111, 172)
    VoiceBook([entry.voice for entry in ESPEAK_VOICES])


def test_nothing_wished_is_the_whole_catalogue() -> None:
    assert line_up([], []) == ESPEAK_VOICES


def test_a_new_voice_speaks_the_language_of_its_espeak_voice() -> None:
    new = line_up([VoiceWish(handle="tess", id=9, espeak="en-gb+f2")], [])[-1]
    assert (new.voice.handle, new.voice.languages) == ("tess", ("en",))


@pytest.mark.parametrize(
    ("languages", "espeak"),
    [(("de", "en"), "en-gb"), (("zh",), "cmn+f2"), (("de",), "+f4"), (("fr",), "fr-be")],
)
def test_an_espeak_voice_that_will_be_heard_is_taken(
    languages: tuple[str, ...], espeak: str
) -> None:
    new = line_up([VoiceWish(handle="tess", id=9, languages=languages, espeak=espeak)], [])[-1]
    assert new.voice.languages == languages


def test_a_voice_that_is_there_can_be_spoken_by_another_engine() -> None:
    wish = VoiceWish(handle="espeak-de-female", wyoming="tcp://127.0.0.1:1")
    changed = next(each for each in line_up([wish], []) if each.voice.id == 111)
    assert isinstance(changed, WyomingVoice)
    assert changed.voice.languages == ("de",)


def test_all_voices_may_be_hidden() -> None:
    assert line_up([], [str(entry.voice.id) for entry in ESPEAK_VOICES]) == ()


@pytest.mark.parametrize("ident", [7, "7", "anna"])
def test_a_voice_is_found_by_number_text_or_handle(ident: int | str) -> None:
    voice = Voice(7, "Anna", "anna")
    assert VoiceBook([voice]).find(ident) is voice


@pytest.mark.parametrize(
    "ident", [0, -7, "", "07", " 7", "7.0", "-7", "Anna", "\u0667", "9" * 10_000]
)
def test_anything_else_is_not_found(ident: int | str) -> None:
    found = VoiceBook([Voice(7, "Anna", "anna")]).find(ident)
    assert found is None


@pytest.mark.parametrize("ids", [[0], [1, 1]])
def test_a_catalogue_with_unusable_numbers_cannot_be_built(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="ids"):
        VoiceBook([Voice(number, "x") for number in ids])
