from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.turn import Turn
from kugel_bridge.kugelaudio.turns import (
    Added,
    Answered,
    Begun,
    Completed,
    Dropped,
    Event,
    Failed,
    Leaving,
    TurnIntake,
)
from tests.kugelaudio.test_wire import JSON

CONFIG = {"voice_id": 1, "language": "en"}
TEXT = {"text": "Hello. "}


def taken(*messages: dict[str, Any] | str | bytes, max_characters: int = 100) -> list[Event]:
    """What becomes of the messages, on a socket that has a voice."""
    intake = TurnIntake(max_characters=max_characters)
    assert intake.receive(json.dumps(CONFIG)) == []
    return [
        event
        for message in messages
        for event in intake.receive(json.dumps(message) if isinstance(message, dict) else message)
    ]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def frames(events: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.frame) for event in events if isinstance(event, Answered | Dropped)]


def test_the_first_text_begins_a_turn_and_flush_completes_it() -> None:
    events = taken(TEXT, {"text": "More."}, {"flush": True}, {"text": "Next.", "flush": True})
    assert kinds(events) == [Begun, Added, Added, Completed, Begun, Added, Completed]
    assert [event.text for event in events if isinstance(event, Added)] == [
        "Hello. ",
        "More.",
        "Next.",
    ]


@pytest.mark.parametrize("end", ["flush", "close", "end_session"])
def test_every_way_to_end_a_turn_is_the_same(end: str) -> None:
    assert kinds(taken(TEXT, {end: True})) == [Begun, Added, Completed]


def test_configuration_text_and_flush_of_one_message_apply_in_this_order() -> None:
    intake = TurnIntake(max_characters=100)
    message = {"text": "Hi.", "flush": True, "voice_id": 2, "speed": 0.9, "flush_timeout_ms": 7}
    events = intake.receive(json.dumps(message))
    assert kinds(events) == [Begun, Added, Completed]
    assert isinstance(events[0], Begun)
    config = events[0].turn.config
    assert (config.request.voice_id, config.request.speed) == (2, 0.9)
    assert config.flush_timeout_ms == 7


def test_a_turn_keeps_the_configuration_it_began_with() -> None:
    events = taken(TEXT, {"voice_id": 2, "text": "More."}, {"flush": True}, TEXT)
    turns = [event.turn for event in events if isinstance(event, Begun)]
    assert [turn.config.request.voice_id for turn in turns] == [1, 2]


def test_settings_count_from_the_next_turn_on() -> None:
    events = taken(TEXT, {"update_settings": {"speed": 1.2}}, {"flush": True}, TEXT)
    turns = [event.turn for event in events if isinstance(event, Begun)]
    assert [turn.config.request.speed for turn in turns] == [1.0, 1.2]
    assert frames(events)[0]["settings"]["speed"] == 1.2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"speed": 9},
        {"voice_id": 2},
        {"model_id": "kugel-3"},
        {"sample_rate": 8000},
        {"output_format": "pcm_8000"},
        {"project_id": 1},
        {"dictionary_ids": []},
        {"speed": 1.1, "voice_id": 2},
        [],
        None,
    ],
)
def test_a_refused_update_changes_nothing_and_ends_no_turn(fields: object) -> None:
    events = taken(TEXT, {"update_settings": fields}, {"flush": True}, TEXT)
    assert kinds(events) == [Begun, Added, Answered, Completed, Begun, Added]
    assert frames(events)[0]["error_code"] == "VALIDATION_ERROR"
    assert isinstance(events[2], Answered)
    assert events[2].is_urgent
    turns = [event.turn for event in events if isinstance(event, Begun)]
    assert turns[0].config == turns[1].config


def test_a_flush_without_a_turn_is_answered_with_a_zero_end_without_a_bill() -> None:
    for end in ("flush", "close", "end_session"):
        (frame,) = frames(taken({end: True}))
        assert frame["session_closed"]
        assert frame["total_audio_seconds"] == 0
        assert "usage" not in frame


@pytest.mark.parametrize("text", ["", " \n"])
def test_blank_text_with_a_flush_ends_with_zeros(text: str) -> None:
    final, closed = frames(taken({"text": text, "flush": True}))
    assert (final["final"], final["total_text_chunks"]) == (True, 0)
    assert (closed["session_closed"], closed["total_audio_chunks"]) == (True, 0)


def test_blank_text_begins_no_turn_and_needs_no_voice() -> None:
    intake = TurnIntake(max_characters=100)
    assert intake.receive('{"text": " "}') == []
    assert intake.receive('{"text": ""}') == []
    assert intake.expire() == []


def test_blank_text_belongs_to_an_open_turn() -> None:
    events = taken(TEXT, {"text": " "}, {"text": ""})
    assert kinds(events) == [Begun, Added, Added, Added]
    assert isinstance(events[0], Begun)
    assert events[0].turn.characters == len("Hello. ") + 1


def test_text_without_a_voice_fails_its_turn() -> None:
    begun, failed = TurnIntake(max_characters=100).receive('{"text": "Hi."}')
    assert isinstance(begun, Begun)
    assert isinstance(failed, Failed)
    assert (failed.turn, failed.refusal.code) == (begun.turn, "MISSING_VOICE_ID")


def test_a_turn_may_not_be_longer_than_a_request() -> None:
    events = taken({"text": "x" * 60}, {"text": "x" * 40}, {"text": "x"})
    assert kinds(events) == [Begun, Added, Added, Failed]
    assert isinstance(events[-1], Failed)
    assert events[-1].refusal.status == 413
    assert kinds(taken({"text": "x" * 60, "flush": True}, {"text": "x" * 60})) == [
        Begun,
        Added,
        Completed,
        Begun,
        Added,
    ]


BROKEN: list[dict[str, Any] | str | bytes] = [
    "{",
    "[]",
    "",
    "[" * 50_000,
    b"{}",
    b"\xff",
    {"voice_id": 0},
    {"speed": 3},
    {"flush": "yes"},
    {"close": 1},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_message_between_turns_is_refused_and_no_more(
    broken: dict[str, Any] | str | bytes,
) -> None:
    events = taken(broken if broken != {"flush": "yes"} else {"end_session": "yes"}, TEXT)
    assert kinds(events) == [Answered, Begun, Added]
    assert frames(events)[0]["code"] == 400


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_message_fails_the_turn_that_is_open(
    broken: dict[str, Any] | str | bytes,
) -> None:
    events = taken(TEXT, broken)
    assert kinds(events) == [Begun, Added, Failed]
    assert isinstance(events[-1], Failed)
    assert events[-1].refusal.status == 400


@pytest.mark.parametrize("broken", [{"text": 5}, TEXT | {"speed": 9}, {"flush": True, "speed": 9}])
def test_a_refused_beginning_is_a_failed_turn(broken: dict[str, Any]) -> None:
    assert kinds(taken(broken)) == [Begun, Failed]


def test_a_refused_configuration_changes_nothing() -> None:
    events = taken({"voice_id": 2, "speed": 9}, TEXT)
    assert isinstance(events[1], Begun)
    assert events[1].turn.config.request.voice_id == 1


def test_cancel_drops_everything_and_the_next_text_begins_anew() -> None:
    events = taken(TEXT, {"cancel": True}, TEXT)
    assert kinds(events) == [Begun, Added, Dropped, Begun, Added]
    assert frames(events) == [{"interrupted": True}]


def test_cancel_is_harmless_without_a_turn() -> None:
    assert kinds(taken({"cancel": True})) == [Dropped]


def test_close_socket_completes_the_turn_and_nothing_counts_after_it() -> None:
    events = taken(TEXT, {"close_socket": True}, TEXT, "{", {"cancel": True})
    assert kinds(events) == [Begun, Added, Completed, Leaving]


def test_close_socket_without_a_turn_says_goodbye() -> None:
    events = taken({"close_socket": True})
    assert kinds(events) == [Answered, Leaving]
    assert frames(events)[0]["session_closed"]


def test_silence_completes_a_turn_with_a_warning() -> None:
    intake = TurnIntake(max_characters=100)
    assert intake.expire() == []
    intake.receive(json.dumps(CONFIG | TEXT))
    warning, completed = intake.expire()
    assert isinstance(warning, Answered)
    assert warning.is_urgent
    assert json.loads(warning.frame)["warning"]
    assert isinstance(completed, Completed)
    assert intake.expire() == []


fields = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(["", " ", "Hello. ", "x" * 60]) | JSON,
        "flush": st.booleans() | JSON,
        "close": st.booleans(),
        "cancel": st.booleans() | JSON,
        "close_socket": st.booleans(),
        "update_settings": st.sampled_from([{"speed": 1.1}, {"speed": 7}, None]) | JSON,
        "voice_id": st.sampled_from([1, "anna", None, 0]) | JSON,
        "speed": st.sampled_from([1.1, 9]) | JSON,
        "max_buffer_length": JSON,
        "flush_timeout_ms": JSON,
    },
).map(json.dumps)
messages = st.lists(fields | st.just("expire") | st.text() | st.binary(), max_size=30)


@given(messages)
def test_any_messages_give_every_turn_one_end_at_most(texts: list[str | bytes]) -> None:
    intake = TurnIntake(max_characters=100)
    begun: list[Turn] = []
    ended: list[Turn] = []
    has_left = False
    for text in texts:
        events = intake.expire() if text == "expire" else intake.receive(text)
        assert not (has_left and events)
        for event in events:
            match event:
                case Begun(turn):
                    assert begun == ended
                    begun.append(turn)
                case Added(turn, added):
                    assert [*ended, turn] == begun
                    added.encode()
                    assert turn.characters <= 100
                    assert turn.config.request.voice_id is not None
                case Completed(turn) | Failed(turn):
                    assert [*ended, turn] == begun
                    ended.append(turn)
                case Dropped():
                    ended = [*begun]
                case Answered(frame):
                    assert {
                        "error",
                        "final",
                        "session_closed",
                        "settings_updated",
                        "warning",
                    } & set(json.loads(frame))
                case Leaving():
                    assert begun == ended
                    has_left = True
    completed = [event.turn for event in intake.expire() if isinstance(event, Completed)]
    assert [*ended, *completed] == begun
