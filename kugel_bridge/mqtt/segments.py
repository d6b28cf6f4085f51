"""The parts of an announcement: texts, pauses, chimes and alerts, in any spelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kugel_bridge.model.announcement import (
    MAX_SEGMENTS,
    AlertSegment,
    ChimeSegment,
    PauseSegment,
    Segment,
    TextSegment,
)
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.aliases import SEGMENT
from kugel_bridge.mqtt.fields import (
    Fields,
    chime_of,
    language_of,
    number_of,
    speed_of,
    text_of,
    word_of,
    wrong,
)
from kugel_bridge.mqtt.topics import NAME

MAX_PAUSE_MS = 60_000
_TYPES = {"tts": "text", "text": "text", "delay": "pause", "pause": "pause"}
"""What Chime TTS calls the kinds; the others have the same name here."""


def parse_segments(parts: Sequence[Any], ignored: list[str]) -> tuple[Segment, ...]:
    """The parts in order; names of fields without meaning are added to `ignored`.

    Raises RejectedError for a part that is none, and for too many.
    """
    segments: list[Segment] = []
    for number, part in enumerate(parts, start=1):
        segments.extend(_parse_segment(f"segment {number}", part, ignored))
        if len(segments) > MAX_SEGMENTS:
            raise RejectedError(
                f"more than {MAX_SEGMENTS} segments; send several announcements instead"
            )
    return tuple(segments)


def alert_name_of(field: str, value: object) -> str:
    """The name of a stored alert; it becomes a file name, so only `[a-z0-9_-]` may be in it."""
    name = word_of(field, value).lower()
    if not NAME.fullmatch(name):
        raise wrong(field, value, "give the name of a stored alert: letters, digits, _ and -")
    return name


def _parse_segment(where: str, part: object, ignored: list[str]) -> Sequence[Segment]:
    if isinstance(part, str):
        return (TextSegment(text_of(where, part)),)
    if not isinstance(part, dict):
        raise wrong(where, part, "give a text or an object")
    fields = Fields(part, SEGMENT)
    segment = _segment_of(where, fields)
    count = 1
    if (repeat := fields.take("repeat")) is not None:
        # More would be refused anyway.
        count = round(number_of(f"{where}: {repeat[0]}", repeat[1], 1, MAX_SEGMENTS + 1))
    ignored.extend(name for name in fields.ignored if name not in ignored)
    return (segment,) * count


def _segment_of(where: str, fields: Fields) -> Segment:
    kind = None
    if (given := fields.take("type")) is not None:
        kind = word_of(f"{where}: type", given[1]).lower()
        kind = _TYPES.get(kind, kind)
    for name, build in (
        ("text", _text),
        ("pause", _pause),
        ("chime", _chime),
        ("alert", _alert),
    ):
        if kind in (None, name) and (found := fields.take(name)) is not None:
            return build(f"{where}: {found[0]}", found[1], fields, kind is not None)
    raise RejectedError(f"{where}: holds nothing to say; give text, pause, chime or alert")


def _text(where: str, value: object, fields: Fields, typed: bool) -> Segment:
    voice, language, speed = (fields.take(name) for name in ("voice", "language", "speed"))
    percent = fields.take("speed_percent")
    if speed is None or (typed and isinstance(speed[1], int) and speed[1] > 10):
        # In the parts of Chime TTS, "speed" is percent like "tts_speed".
        percent, speed = speed or percent, None
    factor = None
    if speed is not None:
        factor = speed_of(f"{where}: {speed[0]}", speed[1])
    elif percent is not None:
        factor = speed_of(f"{where}: {percent[0]}", percent[1], percent=True)
    return TextSegment(
        text_of(where, value),
        voice=None if voice is None else word_of(f"{where}: {voice[0]}", voice[1]),
        language=None if language is None else language_of(f"{where}: {language[0]}", language[1]),
        speed=factor,
    )


def _pause(where: str, value: object, _fields: Fields, _typed: bool) -> Segment:
    return PauseSegment(round(number_of(where, value, 0, MAX_PAUSE_MS)))


def _chime(where: str, value: object, _fields: Fields, _typed: bool) -> Segment:
    name = chime_of(where, value)
    if not isinstance(name, str):
        raise wrong(where, value, "give the name of a chime")
    return ChimeSegment(name)


def _alert(where: str, value: object, _fields: Fields, _typed: bool) -> Segment:
    return AlertSegment(alert_name_of(where, value))
