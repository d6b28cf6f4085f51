from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.pcm import PcmFormat
from kugel_bridge.speech.entry import description
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
    "project_id": 42,
    "dictionary_ids": (),
    "speaker_prefix": False,
}


def test_every_field_is_tried() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(PhraseKey) if field.init}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_sound_makes_another_phrase(name: str) -> None:
    changes: dict[str, Any] = {name: CHANGES[name]}
    assert dataclasses.replace(key(), **changes).digest != key().digest


def test_the_same_phrase_has_the_same_digest_in_every_run() -> None:
    assert DIGEST.fullmatch(key().digest)
    assert dataclasses.replace(key(), speed=1).digest == key().digest
    assert key("x").digest == "f957baa2aef06a34239e164e3af7a8da72654a40cc2ce3fd14bc908bfc53574b"


@pytest.mark.parametrize(
    "name", [name for name in CHANGES if name not in ("format", "api_version")]
)
def test_a_phrase_is_known_again_by_its_description(name: str) -> None:
    changes: dict[str, Any] = {name: CHANGES[name]}
    other = dataclasses.replace(key(), **changes)
    told = json.loads(json.dumps(description(other, 0.0)))
    assert PhraseKey.described(told) == other


@pytest.mark.parametrize(
    "wrong", [{"temperature": "hot"}, {"dictionary_ids": ["x"]}, {"normalize": 1}]
)
def test_a_description_with_a_wrong_type_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="wrong type"):
        PhraseKey.described(description(key(), 0.0) | wrong)


FIELDS = st.tuples(*[st.text(alphabet='ab",\\:\x00ü', max_size=4)] * 4)


@given(FIELDS, FIELDS)
def test_fields_do_not_run_together(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def made(values: tuple[str, ...]) -> str:
        text, voice, model, language = values
        return PhraseKey(text=text, source="s", voice=voice, model=model, language=language).digest

    assert (made(one) == made(other)) == (one == other)
