from __future__ import annotations

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from kugel_bridge.speech.espeak_voice import input_for, is_voice, voice_for, words_per_minute
from kugel_bridge.speech.reading import read


@pytest.mark.parametrize(
    ("language", "wish", "voice"),
    [
        ("de", None, "de"),
        ("DE", None, "de"),
        ("en", None, "en-us"),
        ("en", "en-gb", "en-gb"),
        ("en", "en-gb+f2", "en-gb+f2"),
        ("de", "en-gb+f2", "de+f2"),
        ("de", "+f3", "de+f3"),
        ("de", "de+f3", "de+f3"),
        ("no", "no+f3", "no+f3"),
        ("zh", None, "cmn"),
        ("de", "-w /tmp/x", "de"),
        ("de", "../x", "de"),
        ("../x", None, "en"),
        ("", None, "en"),
    ],
)
def test_the_voice_fits_the_language(language: str, wish: str | None, voice: str) -> None:
    assert voice_for(language, wish) == voice


def test_the_pace_follows_the_speed_within_reason() -> None:
    assert words_per_minute(0.8) < words_per_minute(1.0) < words_per_minute(1.2)
    assert words_per_minute(0.0) > 50
    assert words_per_minute(1e9) < 500


@pytest.mark.parametrize("name", ["de", "de+f4", "en-gb-x-rp", "+m3", "cmn"])
def test_voices_look_like_voices(name: str) -> None:
    assert is_voice(name)


@pytest.mark.parametrize("name", ["", "+", "-w /tmp/x", "de f4", "../de", "de+f4+m3"])
def test_what_is_no_voice_does_not(name: str) -> None:
    assert not is_voice(name)


def test_brackets_that_begin_phonemes_are_parted() -> None:
    (passage,) = read("a [[[[tESt]] b", "de").passages
    given = input_for(passage)
    assert "[[" not in given.text
    assert not given.is_ssml
    assert len(given.text) == len(given.places) == len(passage.text)


def test_only_letters_are_marked_up() -> None:
    (passage,) = read("<spell>a@b&, c</spell>", "de").passages
    given = input_for(passage)
    assert given.is_ssml
    letters = '<say-as interpret-as="characters">{}</say-as>'
    assert given.text == (
        f"{letters.format('a')} ät {letters.format('b &amp;')}, {letters.format('c')}"
    )


@drawn(st.text("ab@-<&>\u00df \n,", max_size=20))
def test_every_character_given_knows_its_place(text: str) -> None:
    for source in (text, f"<spell>{text}</spell>"):
        for passage in read(source, "de").passages:
            given = input_for(passage)
            assert len(given.places) == len(given.text)
            assert list(given.places) == sorted(given.places)
            assert all(0 <= place < len(passage.text) for place in given.places)
