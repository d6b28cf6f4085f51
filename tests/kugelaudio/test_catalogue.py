from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kugelaudio.models import VoiceListResponse, VoiceSex

from kugel_bridge.kugelaudio.catalogue import (
    AccountUsage,
    Model,
    Voice,
    VoicePage,
    models_from,
    usage_from,
    voice_page_from,
)
from kugel_bridge.kugelaudio.wire import read_object
from kugel_bridge.model.errors import ProtocolError
from tests.kugelaudio.test_wire import JSON

words = st.text("abcü -", min_size=1)
voices = st.builds(
    Voice,
    id=st.integers(1, 10**6),
    name=words,
    handle=st.none() | words,
    languages=st.lists(st.sampled_from(["de", "en"])).map(tuple),
    sex=st.none() | st.sampled_from(["male", "female", "neutral"]),
    description=st.none() | words,
    is_public=st.booleans(),
)


@given(st.lists(voices), st.integers(0, 999))
def test_a_written_page_is_read_back(some: list[Voice], total: int) -> None:
    page = VoicePage(tuple(some), total=total, limit=20, offset=0)
    assert voice_page_from(json.loads(json.dumps(page.to_fields()))) == page


@given(st.lists(st.builds(Model, id=words, name=words, description=st.text("ab"))))
def test_written_models_are_read_back(some: list[Model]) -> None:
    fields = {"models": [model.to_fields() for model in some]}
    assert models_from(json.loads(json.dumps(fields))) == tuple(some)


def test_written_usage_is_read_back() -> None:
    usage = AccountUsage("2026-11-01T00:00:00Z", None, 3, 1.5, 42, 0.0, "eur")
    assert usage_from(usage.to_fields()) == usage


@given(JSON.map(json.dumps), st.sampled_from(["voices", "models", "total", "requests"]), JSON)
def test_any_answer_raises_nothing_but_protocol_errors(text: str, name: str, value: object) -> None:
    for read in (voice_page_from, models_from, usage_from):
        with contextlib.suppress(ProtocolError):
            read(read_object(text))
        for content in (value, [value], [{"id": value, "name": value}]):
            with contextlib.suppress(ProtocolError):
                read({name: content})


@pytest.mark.parametrize("fields", [{}, {"minutes_used": 3}, {"audio_seconds": None}])
def test_usage_in_an_unknown_form_is_told_as_such(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="form"):
        usage_from(fields)


def test_a_kind_of_voice_that_the_sdk_does_not_know_does_not_cost_its_users_the_list() -> None:
    told = {"id": 7, "name": "Anna", "sex": "nonbinary", "age": "senior"}
    page = voice_page_from({"voices": [told, {"id": 8, "name": "Bert", "sex": "male"}]})
    assert page.voices[0].sex == "nonbinary"
    listed = VoiceListResponse.from_dict(page.to_fields()).voices
    assert [(voice.sex, voice.age) for voice in listed] == [(None, None), (VoiceSex.MALE, None)]
