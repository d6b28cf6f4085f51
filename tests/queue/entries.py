"""Entries for tests of the queue."""

from __future__ import annotations

import math
from typing import Any

from kugel_bridge.model.announcement import Announcement, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, Report, SourceKind
from kugel_bridge.queue.policy import Entry
from tests.clock import ManualClock

START = ManualClock().now()


def entry(
    number: int,
    *,
    id: str | None = None,  # noqa: A002 (the announcement's own word)
    zone: str = "hall",
    deadline_s: float = math.inf,
    retry_at_s: float = 0.0,
    received: Instant = START,
    **wishes: Any,
) -> Entry:
    """The entry that came as `number`, with fields of its announcement in `wishes`."""
    announcement = Announcement(
        id=f"a{number}" if id is None else id,
        segments=(TextSegment(f"Announcement number {number}"),),
        received=received,
        **wishes,
    )
    return Entry(
        announcement=announcement,
        zone=zone,
        sequence=number,
        deadline_s=deadline_s,
        retry_at_s=retry_at_s,
    )


def finished(done: Entry, at: Instant = START, **facts: Any) -> Report:
    """The report that an entry was spoken."""
    facts = {"source": SourceKind.CACHE, "duration_ms": 900} | facts
    return Report(
        event=Outcome.FINISHED, announcement=done.announcement, zone=done.zone, at=at, **facts
    )
