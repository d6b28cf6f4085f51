"""The parts of an announcement, as we and as Chime TTS write them."""

from __future__ import annotations

from typing import Any

import pytest

from kugel_bridge.model.announcement import (
    AlertSegment,
    ChimeSegment,
    PauseSegment,
    Segment,
    TextSegment,
)
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.segments import parse_segments


@pytest.mark.parametrize(
    ("part", "segment"),
    [
        ("a", TextSegment("a")),
        ({"text": "a"}, TextSegment("a")),
        ({"message": "a", "lang": "de-AT"}, TextSegment("a", language="de")),
        ({"tts": "a"}, TextSegment("a")),
        ({"type": "tts", "message": "a"}, TextSegment("a")),
        ({"type": "TTS", "message": "a", "speed": 110}, TextSegment("a", speed=1.1)),
        ({"text": "a", "tts_speed": 90}, TextSegment("a", speed=0.9)),
        ({"text": "a", "speed": 0.9}, TextSegment("a", speed=0.9)),
        ({"pause": 250}, PauseSegment(250)),
        ({"delay": "250"}, PauseSegment(250)),
        ({"type": "delay", "length": 250}, PauseSegment(250)),
        ({"type": "pause", "pause": 0}, PauseSegment(0)),
        ({"chime": "gong"}, ChimeSegment("gong")),
        ({"type": "chime", "path": "media/Gong.mp3"}, ChimeSegment("gong")),
        ({"alert": "Smoke"}, AlertSegment("smoke")),
        ({"type": "alert", "alert": "smoke"}, AlertSegment("smoke")),
    ],
)
def test_a_part_is_read(part: Any, segment: Segment) -> None:
    ignored: list[str] = []
    assert parse_segments([part], ignored) == (segment,)
    assert ignored == []


@pytest.mark.parametrize(
    "part",
    [None, 5, [], {}, {"pause": -1}, {"pause": 60_001}, {"pause": True}, {"chime": True},
     {"alert": "../x"}, {"type": "chime", "text": "a"}, {"type": 5}, {"type": "video", "text": "a"},
     {"text": 5}, {"text": "a", "voice": []}, {"text": "a", "repeat": 0}],
)  # fmt: skip
def test_what_is_no_part_is_refused_with_its_number(part: Any) -> None:
    with pytest.raises(RejectedError, match="segment 2"):
        parse_segments(["a", part], [])


def test_a_repeated_part_counts_as_many() -> None:
    assert parse_segments([{"text": "a", "repeat": 64}], []) == (TextSegment("a"),) * 64
    with pytest.raises(RejectedError, match="more than 64"):
        parse_segments(["b", {"text": "a", "repeat": 64}], [])
