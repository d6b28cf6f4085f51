from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.codes import GENERATION_FAILED
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import Settings, SpeechRequest, Usage
from kugel_bridge.kugelaudio.turn import Turn, TurnConfig
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind

COST = Usage(audio_s=0.5, characters=6, cost_cents=0.25, currency="eur", model_id="kugel-3.5")
CONFIG = TurnConfig(SpeechRequest("", "en", 1))


def read(frame: str) -> dict[str, Any]:
    return json.loads(frame)


def spoken(turn: Turn, *costs: Usage, fallbacks: tuple[str, ...] = ()) -> None:
    """Take the turn through one chunk for each cost."""
    for cost, fallback in zip(costs, fallbacks or [""] * len(costs), strict=True):
        turn.start("Hello.", cost.characters)
        turn.spoken_by(SourceKind.LOCAL if fallback else SourceKind.CLOUD, fallback)
        turn.audio(bytes(4))
        turn.complete(cost, gen_ms=1.0)


def test_frames_are_numbered_in_the_turn_and_belong_to_their_chunk() -> None:
    turn = Turn(CONFIG)
    words = WordTimings((WordTiming("Bye", 0, 10, 0, 3),))
    turn.spoken_by(SourceKind.LOCAL)
    frames = [
        read(frame)
        for frame in (
            turn.start("Hello.", 7),
            turn.audio(bytes(4)),
            turn.audio(bytes(6)),
            turn.complete(COST, gen_ms=12.34),
            turn.start("Bye.", 4),
            turn.audio(bytes(2)),
            turn.words(words),
            turn.complete(COST, gen_ms=1.0),
            turn.finish(),
            turn.close(),
        )
    ]
    totals = {"total_audio_seconds": 1.0, "total_text_chunks": 2, "total_audio_chunks": 3}
    assert frames[0] == {"generation_started": True, "chunk_id": 0, "text": "Hello."}
    assert [(f["idx"], f["chunk_id"], f["samples"]) for f in frames if "audio" in f] == [
        (0, 0, 2),
        (1, 0, 3),
        (2, 1, 1),
    ]
    assert frames[3] == {
        "chunk_complete": True,
        "chunk_id": 0,
        "audio_seconds": 0.5,
        "gen_ms": 12.3,
    }
    assert (frames[6]["chunk_id"], frames[6]["word_timestamps"][0]["start_ms"]) == (1, 0)
    assert frames[8] == {"final": True} | totals
    assert frames[9] == {"session_closed": True, "source": "local"} | totals | {
        "usage": {
            "audio_seconds": 1.0,
            "characters": 11,
            "cost_cents": 0.5,
            "currency": "eur",
            "model_id": "kugel-3.5",
        }
    }


def test_one_unknown_cost_makes_the_bill_unknown() -> None:
    turn = Turn(CONFIG)
    spoken(turn, COST, Usage(audio_s=1.0))
    turn.finish()
    usage = read(turn.close())["usage"]
    assert (usage["cost_cents"], usage["cost_unavailable"]) == (None, True)
    assert usage["audio_seconds"] == 1.5


def test_a_turn_without_sound_has_zeros_and_no_bill() -> None:
    turn = Turn(CONFIG)
    assert '"total_audio_seconds":0.0' in turn.finish()
    assert read(turn.close()) == {
        "session_closed": True,
        "total_audio_seconds": 0,
        "total_text_chunks": 0,
        "total_audio_chunks": 0,
    }


def test_the_turn_tells_of_a_fallback_in_any_of_its_chunks() -> None:
    turn = Turn(CONFIG)
    spoken(turn, COST, COST, COST, fallbacks=("", "the cloud is away " * 100, ""))
    turn.finish()
    end = read(turn.close())
    assert end["source"] == "local"
    assert end["fallback"].startswith("the cloud is away")
    assert len(end["fallback"]) == 200


def test_the_sound_is_said_to_be_what_was_configured() -> None:
    turn = Turn(TurnConfig(SpeechRequest("", "en", 1, output_format="ulaw_8000")))
    turn.start("Hello.", 6)
    frame = read(turn.audio(bytes(4)))
    assert (frame["enc"], frame["sr"], frame["samples"]) == ("mulaw", 8_000, 4)


STEPS: list[Callable[[Turn], object]] = [
    lambda turn: turn.start("Hello.", 6),
    lambda turn: turn.audio(bytes(2)),
    lambda turn: turn.words(WordTimings(())),
    lambda turn: turn.complete(COST, gen_ms=1.0),
    lambda turn: turn.finish(),
    lambda turn: turn.close(),
    lambda turn: turn.refuse(GENERATION_FAILED),
    lambda turn: turn.drop(),
]
ENDS = STEPS[-3:]


@given(st.lists(st.sampled_from(STEPS)))
def test_a_turn_ends_once_and_nothing_follows_it(steps: list[Callable[[Turn], object]]) -> None:
    turn = Turn(CONFIG)
    ends = 0
    for step in steps:
        was_ended = turn.is_ended
        with contextlib.suppress(RuntimeError):
            step(turn)
            assert not was_ended
            ends += step in ENDS
    assert ends == turn.is_ended


def test_a_configuration_takes_what_is_given_and_keeps_the_rest() -> None:
    config = CONFIG.changed({"speed": 1.1, "flush_timeout_ms": 20, "max_buffer_length": 300})
    config = config.changed({"voice_id": "bert", "project_id": 4, "dictionary_ids": [7]})
    config = config.changed({"speed": None, "chunk_length_schedule": [5], "auto_mode": True})
    assert config == TurnConfig(
        SpeechRequest("", "en", "bert", speed=1.1, project_id=4, dictionary_ids=(7,)), 20, 300
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"flush_timeout_ms": -1},
        {"flush_timeout_ms": "soon"},
        {"max_buffer_length": 0},
        {"max_buffer_length": 1.5},
        {"speed": 3},
        {"sample_rate": 1},
        {"voice_id": {}},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=next(iter(fields))):
        CONFIG.changed(fields)


def test_a_huge_buffer_is_a_large_one() -> None:
    assert CONFIG.changed({"max_buffer_length": 10**9}).max_buffer_length == 10_000


def test_all_six_settings_are_told_also_those_that_are_not_set() -> None:
    config = CONFIG.updated(Settings(speed=0.9, cfg_scale=1.5))
    assert config.settings() == {
        "cfg_scale": 1.5,
        "temperature": None,
        "speed": 0.9,
        "max_new_tokens": 2048,
        "language": "en",
        "normalize": True,
    }


def test_only_what_was_heard_is_on_the_bill() -> None:
    turn = Turn(CONFIG)
    turn.characters = 7_000
    assert turn.usage is None
    turn.start("Hello there.", 13)
    turn.spoken_by(SourceKind.CLOUD)
    assert turn.usage is None
    turn.audio(bytes(2 * 24_000))
    assert turn.usage == Usage(1.0, 13, model_id="kugel-3.5")
    turn.complete(COST, gen_ms=1.0)
    assert turn.usage == dataclasses.replace(COST, characters=13)
    turn.start("This is never heard.", 20)
    assert turn.usage == dataclasses.replace(COST, characters=13)


def test_sound_that_broke_off_costs_nothing_where_all_of_it_would() -> None:
    turn = Turn(CONFIG)
    turn.start("Hello there.", 12)
    turn.spoken_by(SourceKind.LOCAL)
    turn.audio(bytes(2 * 24_000))
    assert turn.usage == Usage(1.0, 12, 0.0, "eur", "kugel-3.5")


def test_characters_without_a_sound_are_billed_with_those_that_have_one() -> None:
    turn = Turn(CONFIG)
    turn.pass_over(3)
    assert turn.usage is None
    spoken(turn, COST)
    turn.pass_over(2)
    assert turn.usage == dataclasses.replace(COST, characters=COST.characters + 5)
