"""Voices of one's own, as the configuration has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kugel_bridge.gateway.voices import EspeakVoice, WyomingVoice, line_up
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings.load import Configuration

Loader = Callable[[str], Configuration]

FULL = """
[gateway]
hidden_voices = [102, "espeak-de-male"]
[gateway.voices.anna]
id = 1001
name = "Anna"
languages = "de, en"
sex = "female"
description = "Kitchen"
espeak = "de+f4"
[gateway.voices.thorsten]
id = 102
wyoming = "tcp://[::1]:10200"
wyoming_voice = "de_DE-thorsten"
[gateway.voices.espeak-en-female]
name = "Betty"
"""


def test_voices_are_added_changed_and_hidden(loaded: Loader) -> None:
    gateway = loaded(FULL).settings.gateway
    line = line_up(gateway.wishes, gateway.hidden_local_voices)
    offered = {each.voice.handle: each for each in line}
    assert "espeak-en-male" not in offered
    assert "espeak-de-male" not in offered
    anna, thorsten, betty = (offered[h] for h in ("anna", "thorsten", "espeak-en-female"))
    assert isinstance(anna, EspeakVoice)
    assert anna.name == "de+f4"
    assert (anna.voice.id, anna.voice.name) == (1001, "Anna")
    assert (anna.voice.languages, anna.voice.sex) == (("de", "en"), "female")
    assert anna.voice.description == "Kitchen"
    assert isinstance(thorsten, WyomingVoice)
    assert (thorsten.uri, thorsten.name) == ("tcp://[::1]:10200", "de_DE-thorsten")
    assert thorsten.voice.id == 102, "the number of a hidden voice is free"
    assert isinstance(betty, EspeakVoice)
    assert (betty.voice.id, betty.voice.name, betty.name) == (101, "Betty", "+f3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[gateway.voices.a]\nid = 0\nespeak = 'de'\n", "gateway.voices.a.id = 0"),
        ("[gateway.voices.a]\nid = -3\nespeak = 'de'\n", "must be at least 1"),
        ("[gateway.voices.a]\nid = true\nespeak = 'de'\n", "must be a number"),
        ("[gateway.voices.a]\nespeak = 'de'\n", "gateway.voices.a.id"),
        ("[gateway.voices.a]\nid = 5\n", "espeak or wyoming must be set"),
        (
            "[gateway.voices.a]\nid = 111\nespeak = 'de'\n",
            "gateway.voices.a.id = 111 ({file}, line 2): is taken by the voice 'espeak-de-female'",
        ),
        (
            "[gateway.voices.a]\nid = 7\nespeak = 'de'\n[gateway.voices.b]\nid = 7\nespeak = 'en'",
            "gateway.voices.b.id = 7 ({file}, line 5): is taken by the voice 'a'",
        ),
        (
            "[gateway.voices.espeak-de-male]\nid = 111\n",
            "gateway.voices.espeak-de-male.id = 111 ({file}, line 2): is taken",
        ),
        ("[gateway]\nhidden_voices = ['nobody']\n", "gateway.hidden_voices"),
        ("[gateway]\nhidden_voices = [9999]\n", "there is no voice '9999'"),
        ("[gateway.voices.'My Voice']\nid = 5\n", "'my-voice' would be a valid name"),
        (
            "[gateway.voices.a]\nid = 5\nlanguages = ['de']\nespeak = 'nonsense'\n",
            'gateway.voices.a.espeak = "nonsense" ({file}, line 4): must begin with a language',
        ),
        ("[gateway.voices.a]\nid = 5\nespeak = 'nonsense'\n", "must begin with a language"),
        ("[gateway.voices.a]\nid = 5\nlanguages = 'fr'\nespeak = 'de+f4'\n", "none of fr"),
        ("[gateway.voices.espeak-de-male]\nespeak = 'en'\n", "it speaks none of de"),
        ("[gateway.voices.5]\nid = 5\nespeak = 'de'\n", "would look like an id"),
        ("[gateway.voices.a]\nid = 5\nespeak = '-w /tmp/x'\n", '"de+f4"'),
        ("[gateway.voices.a]\nid = 5\nwyoming = 'http://x:1'\n", '"tcp://127.0.0.1:10200"'),
        ("[gateway.voices.a]\nid = 5\nwyoming = 'tcp://x'\n", '"tcp://127.0.0.1:10200"'),
        ("[gateway.voices.a]\nid = 5\nwyoming = 'tcp://u:p@x:1'\n", "user or password"),
        (
            "[gateway.voices.a]\nid = 5\nespeak = 'de'\nwyoming = 'tcp://x:1'\n",
            "has both espeak and wyoming",
        ),
        ("[gateway.voices.a]\nid = 5\nespeak = 'de'\nwyoming_voice = 'x'\n", "but no wyoming"),
        ("[gateway.voices.a]\nespeek = 'de'\n", "did you mean gateway.voices.a.espeak?"),
        ("[gateway.voices.a]\nid = 5\nlanguages = ['german']\n", '"en" or "de"'),
    ],
)
def test_a_voice_that_cannot_be_is_refused_by_its_key(
    loaded: Loader, file: object, text: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    assert expected.replace("{file}", str(file)) in str(caught.value)
