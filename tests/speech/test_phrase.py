from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.pcm import PcmFormat
from kugel_bridge.speech.phrase import DIGEST, PhraseKey
from tests.speech.sounds import key

CHANGES = {
    "text": "anders",
    "source": "anders",
    "voice": "2",
    "model": "kugel-3",
    "language": "en",
    "speed": 1.1,
    "format": PcmFormat(8_000),
    "cfg_scale": 1.5,
    "temperature": 0.4,
    "max_new_tokens": 100,
    "normalize": False,
    "api_version": 2,
}


def test_every_field_is_tried() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(PhraseKey)}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_sound_makes_another_phrase(name: str) -> None:
    changes: dict[str, Any] = {name: CHANGES[name]}
    assert dataclasses.replace(key(), **changes).digest != key().digest


def test_the_same_phrase_has_the_same_digest_in_every_run() -> None:
    assert DIGEST.fullmatch(key().digest)
    assert dataclasses.replace(key(), speed=1).digest == key().digest
    assert key("x").digest == "f957baa2aef06a34239e164e3af7a8da72654a40cc2ce3fd14bc908bfc53574b"


FIELDS = st.tuples(*[st.text(alphabet='ab",\\:\x00ü', max_size=4)] * 4)


@given(FIELDS, FIELDS)
def test_fields_do_not_run_together(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def made(values: tuple[str, ...]) -> str:
        text, voice, model, language = values
        return PhraseKey(text=text, source="s", voice=voice, model=model, language=language).digest

    assert (made(one) == made(other)) == (one == other)
