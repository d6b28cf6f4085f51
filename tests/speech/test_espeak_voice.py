from __future__ import annotations

import pytest

from kugel_bridge.speech.espeak_voice import speakable, voice_for, words_per_minute


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


def test_brackets_that_begin_phonemes_are_parted() -> None:
    assert "[[" not in speakable("a [[[[tESt]] b")
