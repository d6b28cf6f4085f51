"""The JSON that others read: events, state, availability."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kugel_bridge.model.announcement import Announcement, Priority, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, Report, SourceKind, Step
from kugel_bridge.model.status import CloudStatus, PlayState
from kugel_bridge.mqtt.events import (
    availability_payload,
    json_bytes,
    refusal_payload,
    report_payload,
    state_payload,
)
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError

AT = Instant(1_800_000_000.1234, 50.0)
ANNOUNCEMENT = Announcement(id="door-17", segments=(TextSegment("Grüße"),), received=AT)


def event(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report_payload(report))
    return found


def test_an_outcome_says_all_that_is_known() -> None:
    report = Report(
        event=Outcome.FINISHED,
        announcement=ANNOUNCEMENT,
        zone="hall",
        at=AT,
        source=SourceKind.CACHE,
        queued_ms=3,
        first_sound_ms=12,
        duration_ms=1840,
        attempts=1,
    )
    assert event(report) == {
        "event_type": "finished",
        "id": "door-17",
        "zone": "hall",
        "priority": "normal",
        "text": "Grüße",
        "at": "2027-01-15T08:00:00.123+00:00",
        "reason": "",
        "source": "cache",
        "queued_ms": 3,
        "first_sound_ms": 12,
        "duration_ms": 1840,
        "characters": 0,
        "attempts": 1,
    }


def test_a_step_leaves_out_what_it_has_not_got() -> None:
    queued = event(Report(event=Step.QUEUED, announcement=ANNOUNCEMENT, zone="hall", at=AT))
    assert set(queued) == {"event_type", "id", "zone", "priority", "text", "at"}


def test_a_deferred_one_says_why_and_until_when() -> None:
    report = Report(
        event=Step.DEFERRED,
        announcement=ANNOUNCEMENT,
        zone="hall",
        at=AT,
        reason="no cloud",
        retry_at_s=1_800_000_030,
    )
    assert event(report)["reason"] == "no cloud"
    assert event(report)["retry_at"] == "2027-01-15T08:00:30.000+00:00"


def test_a_started_one_keeps_a_first_sound_of_zero_off_and_a_source_on() -> None:
    report = Report(
        event=Step.STARTED,
        announcement=ANNOUNCEMENT,
        zone="hall",
        at=AT,
        source=SourceKind.CLOUD,
        first_sound_ms=7,
    )
    assert event(report)["source"] == "cloud"
    assert event(report)["first_sound_ms"] == 7
    assert "duration_ms" not in event(report)


def test_long_texts_are_cut_and_ignored_fields_named() -> None:
    long = replace(ANNOUNCEMENT, segments=(TextSegment("ä" * 300),), ignored=("colour",))
    found = event(Report(event=Step.QUEUED, announcement=long, zone="hall", at=AT))
    assert found["text"] == "ä" * 200
    assert found["ignored"] == ["colour"]


def test_a_refusal_is_an_outcome() -> None:
    refusal = RefusedAnnouncementError(
        "volume: 'loud' is not possible",
        id="7",
        received=AT,
        text="x",
        priority=Priority.HIGH,
        ignored=("colour",),
    )
    assert json.loads(refusal_payload(refusal, "hall", AT)) == {
        "event_type": "rejected",
        "id": "7",
        "zone": "hall",
        "priority": "high",
        "text": "x",
        "at": "2027-01-15T08:00:00.123+00:00",
        "reason": "volume: 'loud' is not possible",
        "characters": 0,
        "attempts": 0,
        "ignored": ["colour"],
    }


def test_availability_is_an_object() -> None:
    assert availability_payload(online=True) == b'{"state":"online"}'
    assert availability_payload(online=False) == b'{"state":"offline"}'


def test_a_state_writes_enumerations_as_words_and_switches_as_booleans() -> None:
    state = {"state": PlayState.IDLE, "cloud": CloudStatus.NO_CREDITS, "muted": False}
    assert state_payload(state) == b'{"state":"idle","cloud":"no_credits","muted":false}'


def test_what_json_cannot_say_is_an_error_and_half_characters_are_replaced() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes(float("nan"))
    assert json_bytes("\ud800") == b'"?"'
