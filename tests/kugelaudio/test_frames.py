from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.frames import (
    AudioFrame,
    Finished,
    Interrupted,
    SettingsUpdated,
    WordTiming,
    WordTimings,
    parse_frame,
)
from kugel_bridge.kugelaudio.messages import Encoding, Settings, Usage
from kugel_bridge.model.errors import ProtocolError
from tests.kugelaudio.test_messages import settings
from tests.kugelaudio.test_wire import JSON

SOUND: dict[str, Any] = {
    "audio": base64.b64encode(bytes(8)).decode(),
    "enc": "pcm_s16le",
    "idx": 0,
    "sr": 24000,
    "samples": 4,
    "chunk_id": 0,
}
FINAL = (
    '{"final": true, "chunks": 10, "total_samples": 48000, "dur_ms": 2000, "gen_ms": 150,'
    ' "rtf": 0.075, "debug": {"original_text": "Hello.", "ttfa_ms": 42.1, "speed": 1.0},'
    ' "usage": {"audio_seconds": 2.0, "characters": 31, "cost_cents": 0.18, "currency": "eur",'
    ' "model_id": "kugel-3"}}'
)
numbers = st.floats(0, 1e9)


@given(
    st.binary(min_size=2).map(lambda b: b[: len(b) // 2 * 2]),
    st.sampled_from(Encoding),
    st.integers(8000, 48000),
    st.integers(0, 10**6),
)
def test_a_written_audio_frame_is_read_back(
    data: bytes, encoding: Encoding, rate: int, index: int
) -> None:
    frame = AudioFrame(data, encoding, rate, index)
    assert parse_frame(frame.to_json()) == frame


@given(
    st.builds(
        Finished,
        chunks=st.integers(0, 10**6),
        total_samples=st.integers(0, 10**9),
        dur_ms=numbers,
        gen_ms=numbers,
        text=st.none() | st.text("aä ", min_size=1),
        first_audio_ms=st.none() | numbers,
        speed=st.none() | numbers,
        usage=st.none()
        | st.builds(
            Usage,
            audio_s=numbers,
            characters=st.integers(0, 10**6),
            cost_cents=st.none() | numbers,
            currency=st.none() | st.just("eur"),
            model_id=st.none() | st.just("kugel-3"),
        ),
    )
)
def test_a_written_end_is_read_back(frame: Finished) -> None:
    assert parse_frame(frame.to_json()) == frame


@given(
    st.lists(
        st.builds(
            WordTiming,
            word=st.text("abcü"),
            start_ms=numbers,
            end_ms=numbers,
            char_start=st.integers(0, 9),
            char_end=st.integers(0, 9),
            score=st.floats(0, 1),
        ),
        min_size=1,
    )
)
def test_written_word_timings_are_read_back(words: list[WordTiming]) -> None:
    frame = WordTimings(tuple(words))
    assert parse_frame(frame.to_json()) == frame


@given(settings)
def test_written_settings_are_read_back(values: Settings) -> None:
    assert parse_frame(SettingsUpdated(values).to_json()) == SettingsUpdated(values)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_parsing_raises_nothing_but_protocol_errors(text: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_frame(text)


@given(
    st.sampled_from(
        [
            "audio",
            "enc",
            "idx",
            "sr",
            "samples",
            "chunk_id",
            "final",
            "usage",
            "debug",
            "dur_ms",
            "error",
            "error_code",
            "code",
            "interrupted",
            "settings_updated",
            "settings",
            "word_timestamps",
            "warning",
        ]
    ),
    JSON,
)
def test_any_value_in_any_field_raises_nothing_but_protocol_errors(
    name: str, value: object
) -> None:
    for base in (SOUND, json.loads(FINAL), {"settings_updated": True}, {"error": "x"}):
        with contextlib.suppress(ProtocolError):
            parse_frame(json.dumps(base | {name: value}))


@pytest.mark.parametrize(
    "change",
    [
        {"audio": "AAA"},
        {"audio": "AA=="},
        {"audio": "!!!!"},
        {"audio": "AAAA\nAAAA"},
        {"audio": "ÄÄÄÄ"},
        {"audio": 5},
        {"audio": ["AAAA"]},
        {"enc": "opus"},
        {"enc": None},
        {"enc": 1},
        {"sr": None},
        {"sr": 0},
        {"sr": 7999},
        {"sr": 48001},
        {"sr": "24000"},
        {"sr": 1e300},
        {"idx": "0"},
    ],
)
def test_an_unusable_audio_frame_is_a_protocol_error(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_frame(json.dumps(SOUND | change))


def test_a_binary_message_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        parse_frame(json.dumps(SOUND).encode())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"unknown_future_frame": true}',
        '{"generation_started": true, "chunk_id": 0}',
        '{"chunk_complete": true}',
        '{"session_closed": true, "usage": {}}',
        '{"warning": "slow"}',
        '{"audio": ""}',
        '{"final": false}',
    ],
)
def test_a_frame_of_no_interest_is_none(text: str) -> None:
    assert parse_frame(text) is None


def test_the_documented_end_is_read_with_its_bill() -> None:
    frame = parse_frame(FINAL)
    assert isinstance(frame, Finished)
    assert frame.usage == Usage(2.0, 31, 0.18, "eur", "kugel-3")
    assert frame.first_audio_ms == 42.1


def test_an_unknown_cost_is_not_zero() -> None:
    frame = parse_frame('{"final": true, "usage": {"audio_seconds": 1, "cost_cents": null}}')
    assert isinstance(frame, Finished)
    assert frame.usage is not None
    assert frame.usage.cost_cents is None


@pytest.mark.parametrize("usage", ["[]", '"x"', '{"audio_seconds": "2"}', '{"audio_seconds": -1}'])
def test_odd_statistics_do_not_spoil_the_end(usage: str) -> None:
    assert parse_frame('{"final": true, "usage": ' + usage + "}") == Finished()


def test_an_error_is_recognised_before_everything_else() -> None:
    frame = parse_frame('{"final": true, "error": "no", "error_code": "RATE_LIMITED", "code": 429}')
    assert frame == Refusal(429, "RATE_LIMITED", "no")


def test_interrupted_is_recognised() -> None:
    assert parse_frame(Interrupted().to_json()) == Interrupted()


def test_whole_milliseconds_are_written_as_integers() -> None:
    text = WordTimings((WordTiming("Hello", 100.0, 250.5, 0, 5),)).to_json()
    assert '"start_ms":100,"end_ms":250.5' in text
    read = parse_frame(text)
    assert isinstance(read, WordTimings)
    assert read.to_json() == text
