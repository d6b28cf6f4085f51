"""What the bridge tells about announcements and itself, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.mqtt.refusal import EVENT_TEXT_CHARACTERS, RefusedAnnouncementError

ONLINE, OFFLINE = "online", "offline"


def json_bytes(value: Any) -> bytes:
    """One line of JSON in UTF-8; raises ValueError for NaN, TypeError for foreign types."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def availability_payload(online: bool) -> bytes:
    """`{"state":"online"}` or `{"state":"offline"}`."""
    return json_bytes({"state": ONLINE if online else OFFLINE})


def iso_time(wall_s: float) -> str:
    """Seconds since 1970 as ISO 8601 with milliseconds and zone."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")


def report_payload(report: Report) -> bytes:
    """The event of one step or outcome: the documented names.

    An outcome says all that is known; a step leaves out what it has not got.
    """
    announcement = report.announcement
    event: dict[str, Any] = {
        "event_type": report.event.value,
        "id": announcement.id,
        "zone": report.zone,
        "priority": announcement.priority.value,
        "text": announcement.text[:EVENT_TEXT_CHARACTERS],
        "at": iso_time(report.at.wall_s),
        "reason": report.reason,
        "source": None if report.source is None else report.source.value,
        "queued_ms": report.queued_ms,
        "first_sound_ms": report.first_sound_ms,
        "duration_ms": report.duration_ms,
        "characters": report.characters,
        "attempts": report.attempts,
        "retry_at": None if report.retry_at_s is None else iso_time(report.retry_at_s),
    }
    if announcement.ignored:
        event["ignored"] = announcement.ignored
    unknown = (None,) if report.is_outcome else (None, "", 0)
    optional = ("reason", "source", "queued_ms", "first_sound_ms", "duration_ms", "characters")
    for name in (*optional, "attempts", "retry_at"):
        if event[name] in unknown:
            del event[name]
    return json_bytes(event)


def refusal_payload(refusal: RefusedAnnouncementError, zone: str, at: Instant) -> bytes:
    """The outcome `rejected` of what never became an announcement."""
    event: dict[str, Any] = {
        "event_type": Outcome.REJECTED.value,
        "id": refusal.id,
        "zone": zone,
        "priority": refusal.priority.value,
        "text": refusal.text,
        "at": iso_time(at.wall_s),
        "reason": str(refusal),
        "characters": 0,
        "attempts": 0,
    }
    if refusal.ignored:
        event["ignored"] = refusal.ignored
    return json_bytes(event)


def state_payload(state: Mapping[str, Any]) -> bytes:
    """The retained state object; enumerations are written as their words."""
    return json_bytes(dict(state))
