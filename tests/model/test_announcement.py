from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kugel_bridge.model.announcement import (
    Announcement,
    ChimeSegment,
    PauseSegment,
    Priority,
    TextSegment,
    Volume,
)
from kugel_bridge.model.clock import Instant
from tests.model.announcements import announcements

NOW = Instant(1_800_000_000.0, 50.0)
PLAIN = Announcement(id="a", segments=(TextSegment("Hello"),), received=NOW)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(announcements)
def test_what_is_written_as_json_reads_back_the_same(announcement: Announcement) -> None:
    again = Announcement.from_json(announcement.to_json())
    assert again == announcement
    assert again.ignored == announcement.ignored
    # 1 and True are equal to Python, but not to whoever reads the JSON.
    assert repr(again) == repr(announcement)


def test_the_strategy_fills_every_field() -> None:
    """A field that is added later has to be added to the round trip."""
    filled = {item.name for item in dataclasses.fields(Announcement)}
    assert filled == set(announcements.wrapped_strategy.kwargs)  # type: ignore[attr-defined]


@given(anything.map(json.dumps) | st.text(max_size=50))
@example("[" * 100_000)
@example("9" * 5_000)
def test_other_json_raises_only_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a stored announcement"):
        Announcement.from_json(text)


@given(announcements, st.data())
def test_a_field_of_any_value_gives_value_error_or_a_usable_announcement(
    announcement: Announcement, data: st.DataObject
) -> None:
    raw = json.loads(announcement.to_json())
    raw[data.draw(st.sampled_from([f.name for f in dataclasses.fields(Announcement)]))] = data.draw(
        anything
    )
    with contextlib.suppress(ValueError):
        again = Announcement.from_json(json.dumps(raw))
        assert isinstance(again.text, str)
        assert Announcement.from_json(again.to_json()) == again


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 5),
        ("id", ""),
        ("segments", []),
        ("segments", [["text", {"text": 5}]]),
        ("segments", [["pause", {"milliseconds": "1"}]]),
        ("segments", [["song", {"name": "x"}]]),
        ("received", ["now", 1.0]),
        ("received", [1.0]),
        ("zones", "hall"),
        ("ttl_s", "60"),
        ("ttl_s", True),
        ("preempt", 1),
        ("volume", ["loud", False]),
        ("repeat", [1.5, 1.0]),
        ("priority", "urgent"),
        ("reply_to", [["topic", "not base64"]]),
        ("reply_to", [[7, None]]),
    ],
)
def test_a_field_of_a_wrong_type_is_refused(field: str, value: Any) -> None:
    raw = json.loads(PLAIN.to_json()) | {field: value}
    with pytest.raises(ValueError, match="not a stored announcement"):
        Announcement.from_json(json.dumps(raw))


def test_fields_of_a_newer_version_are_skipped() -> None:
    raw = json.loads(PLAIN.to_json()) | {"smell": "lavender"}
    assert Announcement.from_json(json.dumps(raw)) == PLAIN


def test_an_announcement_needs_an_id_and_something_to_say() -> None:
    with pytest.raises(ValueError, match="id"):
        Announcement(id="", segments=PLAIN.segments, received=NOW)
    with pytest.raises(ValueError, match="something to say"):
        Announcement(id="a", segments=(), received=NOW)


def test_its_text_is_its_words_only() -> None:
    parts = (TextSegment("One"), PauseSegment(100), ChimeSegment("gong"), TextSegment("two"))
    assert Announcement(id="a", segments=parts, received=NOW).text == "One two"


def test_levels_are_ranked_from_critical_to_status() -> None:
    ranked = sorted(Priority, key=lambda level: level.rank)
    assert [level.value for level in ranked] == ["critical", "high", "normal", "low", "status"]
    assert [level.rank for level in ranked] == [0, 1, 2, 3, 4]


def test_only_critical_and_high_stop_what_speaks() -> None:
    assert {level for level in Priority if level.preempts} == {Priority.CRITICAL, Priority.HIGH}


@pytest.mark.parametrize(
    ("volume", "zone_percent", "result"),
    [
        (Volume(30), 80, 30),
        (Volume(130), 80, 100),
        (Volume(-5), 80, 0),
        (Volume(-10, relative=True), 80, 70),
        (Volume(50, relative=True), 80, 100),
        (Volume(-90, relative=True), 80, 0),
    ],
)
def test_a_volume_stays_between_0_and_100(
    volume: Volume, zone_percent: float, result: float
) -> None:
    assert volume.applied_to(zone_percent) == result
