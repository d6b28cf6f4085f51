from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import (
    LANGUAGES,
    MAX_NEW_TOKENS,
    OUTPUT_FORMATS,
    SAMPLE_RATES,
    Cancel,
    Encoding,
    Settings,
    SpeechRequest,
    UpdateSettings,
    Usage,
    parse_message,
    summed,
    with_parameters,
)
from kugel_bridge.kugelaudio.wire import is_unicode
from kugel_bridge.model.errors import ProtocolError
from tests.kugelaudio.test_wire import JSON

SDK_REQUEST = (
    '{"text": "Hello there.", "model_id": "kugel-3.5", "cfg_scale": 2.0, "max_new_tokens": 2048,'
    ' "sample_rate": 24000, "normalize": true, "word_timestamps": false, "speed": 1.0,'
    ' "voice_id": 1, "language": "en"}'
)

texts = st.text(min_size=1).filter(lambda t: bool(t.strip()) and is_unicode(t))
settings = st.builds(
    Settings,
    cfg_scale=st.none() | st.floats(1.2, 2.5),
    temperature=st.none() | st.floats(0, 1),
    speed=st.none() | st.floats(0.8, 1.2),
    max_new_tokens=st.none() | st.integers(1, MAX_NEW_TOKENS),
    language=st.none() | st.sampled_from(sorted(LANGUAGES)),
    normalize=st.none() | st.booleans(),
)
requests = st.builds(
    SpeechRequest,
    text=texts,
    language=st.none() | st.sampled_from(sorted(LANGUAGES)),
    voice_id=st.integers(1, 10**9) | st.sampled_from(["anna", "b-2"]),
    model_id=st.sampled_from(["kugel-3.5", "kugel-3"]),
    speed=st.floats(0.8, 1.2),
    sample_rate=st.sampled_from(sorted(SAMPLE_RATES)),
    word_timestamps=st.booleans(),
    cfg_scale=st.floats(1.2, 2.5),
    temperature=st.none() | st.floats(0, 1),
    max_new_tokens=st.integers(1, MAX_NEW_TOKENS),
    normalize=st.booleans(),
)


@given(requests)
def test_a_written_request_is_read_back(request_: SpeechRequest) -> None:
    assert parse_message(request_.to_json()) == request_


@given(settings.filter(lambda s: bool(s.to_fields())))
def test_a_written_update_is_read_back(update: Settings) -> None:
    assert parse_message(UpdateSettings(update).to_json()) == UpdateSettings(update)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_anything_else_is_refused_or_a_protocol_error(text: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse_message(text), Refusal | SpeechRequest | Cancel | UpdateSettings)


@given(
    st.sampled_from(
        [
            "text",
            "model_id",
            "cfg_scale",
            "max_new_tokens",
            "sample_rate",
            "normalize",
            "word_timestamps",
            "speed",
            "voice_id",
            "language",
            "temperature",
            "output_format",
            "update_settings",
            "cancel",
        ]
    ),
    JSON,
)
def test_any_value_in_any_field_gets_an_answer_that_can_be_sent(name: str, value: object) -> None:
    with contextlib.suppress(ProtocolError):  # NaN is not JSON
        answer = parse_message(json.dumps(json.loads(SDK_REQUEST) | {name: value}))
        answer.to_json().encode()


def test_the_official_sdk_is_understood() -> None:
    assert parse_message(SDK_REQUEST) == SpeechRequest("Hello there.", "en", 1)


def test_our_request_has_the_fields_of_the_sdk() -> None:
    assert json.loads(SpeechRequest("Hello there.", "en", 1).to_json()) == json.loads(SDK_REQUEST)


def _with(**fields: Any) -> SpeechRequest | Refusal | Cancel | UpdateSettings:
    return parse_message(json.dumps({"text": "Hi", "voice_id": 1} | fields))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": ""}, "VALIDATION_ERROR"),
        ({"text": " \n"}, "VALIDATION_ERROR"),
        ({"text": None}, "VALIDATION_ERROR"),
        ({"text": 5}, "VALIDATION_ERROR"),
        ({"text": "\ud800"}, "VALIDATION_ERROR"),
        ({"voice_id": None}, "MISSING_VOICE_ID"),
        ({"voice_id": ""}, "MISSING_VOICE_ID"),
        ({"voice_id": 0}, "VALIDATION_ERROR"),
        ({"voice_id": -1}, "VALIDATION_ERROR"),
        ({"voice_id": True}, "VALIDATION_ERROR"),
        ({"voice_id": [1]}, "VALIDATION_ERROR"),
        ({"voice_id": "x" * 1000}, "VALIDATION_ERROR"),
        ({"speed": 0.79}, "VALIDATION_ERROR"),
        ({"speed": 1.21}, "VALIDATION_ERROR"),
        ({"temperature": 1.1}, "VALIDATION_ERROR"),
        ({"max_new_tokens": 0}, "VALIDATION_ERROR"),
        ({"max_new_tokens": 2049}, "VALIDATION_ERROR"),
        ({"sample_rate": 48000}, "VALIDATION_ERROR"),
        ({"output_format": "mp3"}, "VALIDATION_ERROR"),
        ({"output_format": "pcm_16000", "sample_rate": 8000}, "VALIDATION_ERROR"),
        ({"language": "de-DE"}, "VALIDATION_ERROR"),
        ({"language": "xx"}, "VALIDATION_ERROR"),
        ({"normalize": "yes"}, "VALIDATION_ERROR"),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, Any], code: str) -> None:
    answer = _with(**fields)
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert answer.status == 400


@pytest.mark.parametrize(("asked", "got"), [(9.0, 2.5), (0.1, 1.2), (1.5, 1.5)])
def test_cfg_scale_is_clamped(asked: float, got: float) -> None:
    answer = _with(cfg_scale=asked)
    assert isinstance(answer, SpeechRequest)
    assert answer.cfg_scale == got


@pytest.mark.parametrize("token", sorted(OUTPUT_FORMATS))
def test_an_output_format_wins_over_the_sdk_default_rate(token: str) -> None:
    answer = _with(output_format=token, sample_rate=24000)
    assert isinstance(answer, SpeechRequest)
    assert answer.delivery == OUTPUT_FORMATS[token]


def test_44100_is_a_rate_without_a_token() -> None:
    answer = _with(sample_rate=44100)
    assert isinstance(answer, SpeechRequest)
    assert answer.delivery == (Encoding.PCM, 44_100)


def test_unknown_fields_and_the_old_model_field_are_taken() -> None:
    answer = _with(model="kugel-2", speaker_prefix=True, project_id=42, dictionary_ids=[], x={})
    assert isinstance(answer, SpeechRequest)
    assert answer.model_id == "kugel-2"


def test_defaults_fill_only_what_a_request_leaves_out() -> None:
    defaults = Settings(speed=1.1, language="de", temperature=0.2)
    answer = parse_message('{"text": "Hi", "voice_id": 1, "speed": 0.9}', defaults)
    assert answer == SpeechRequest("Hi", "de", 1, speed=0.9, temperature=0.2)


@pytest.mark.parametrize("fields", [{}, {"voice_id": 2}, {"speed": 3.0}, {"new": 1}, [], None, 5])
def test_an_impossible_update_is_refused(fields: object) -> None:
    answer = parse_message(json.dumps({"update_settings": fields}))
    assert isinstance(answer, Refusal)
    assert answer.code == "VALIDATION_ERROR"


def test_cancel_is_understood() -> None:
    assert parse_message(Cancel().to_json()) == Cancel()


def test_the_bill_adds_up_and_an_unknown_cost_is_no_zero() -> None:
    one, other = Usage(0.5, 6, 0.25, "eur", "kugel-3"), Usage(0.25, 7, 0.5, "eur", "kugel-3.5")
    assert summed(None, None) is None
    assert summed(one, None) == summed(None, one) == one
    assert summed(one, other) == Usage(0.75, 13, 0.75, "eur", "kugel-3.5")
    for unknown in (summed(one, Usage(1.0)), summed(Usage(1.0), one)):
        assert unknown is not None
        assert (unknown.audio_s, unknown.currency) == (1.5, None)
        assert unknown.to_fields()["cost_cents"] is None
        assert unknown.to_fields()["cost_unavailable"] is True


@pytest.mark.parametrize(
    ("messages", "delivery"),
    [
        ([{"output_format": "ulaw_8000"}, {"sample_rate": 44_100}], (Encoding.PCM, 44_100)),
        ([{"output_format": "ulaw_8000"}, {"sample_rate": 24_000}], (Encoding.MULAW, 8_000)),
        ([{"output_format": "ulaw_8000"}, {"sample_rate": 8_000}], (Encoding.MULAW, 8_000)),
        ([{"sample_rate": 16_000}, {"output_format": "ulaw_8000"}], (Encoding.MULAW, 8_000)),
        (
            [{"sample_rate": 16_000}, {"output_format": "ulaw_8000"}, {"sample_rate": 16_000}],
            (Encoding.PCM, 16_000),
        ),
    ],
)
def test_of_a_rate_and_a_format_in_two_messages_the_later_one_counts(
    messages: list[dict[str, Any]], delivery: tuple[Encoding, int]
) -> None:
    request = SpeechRequest("", None, 1)
    for fields in messages:
        request = with_parameters(request, fields)
    assert request.delivery == delivery


def test_a_rate_and_a_format_of_one_message_must_not_contradict_each_other() -> None:
    with pytest.raises(ProtocolError, match="contradicts"):
        with_parameters(
            SpeechRequest("", None, 1), {"sample_rate": 16_000, "output_format": "ulaw_8000"}
        )
