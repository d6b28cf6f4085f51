"""How announcements ended lately: for people, and to know an id that is delivered again."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace

from kugel_bridge.model.announcement import Announcement, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Report

KEPT_REPORTS = 2_000
REMEMBERED_S = 24 * 3600.0
"""How long an id that comes again is known (s)."""
TEXT_CHARACTERS = 200
"""So much of a text is kept: enough for a person to recognise it."""


def shortened(report: Report) -> Report:
    """The report with only those parts of its announcement that are worth keeping."""
    full = report.announcement
    brief = Announcement(
        id=full.id,
        segments=(TextSegment(full.text[:TEXT_CHARACTERS]),),
        received=full.received,
        priority=full.priority,
        tag=full.tag,
        delivery=full.delivery,
    )
    return replace(report, announcement=brief, said=report.said or full.said)


class RecentEnds:
    """The last `KEPT_REPORTS` outcomes."""

    def __init__(self) -> None:
        self._reports: deque[Report] = deque()
        self._latest: dict[tuple[str, str], Report] = {}

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, report: Report) -> None:
        """Remember an outcome, newer than all known ones."""
        self._reports.append(report)
        self._latest[_key(report)] = report
        self._shrink()

    def add_older(self, reports: list[Report]) -> None:
        """Remember outcomes of an earlier run, oldest first, all older than the known ones."""
        for report in reversed(reports):
            self._reports.appendleft(report)
            self._latest.setdefault(_key(report), report)
        self._shrink()

    def get(self, announcement_id: str, zone: str, now: Instant) -> Report | None:
        """The latest outcome of that announcement, unless it is older than a day."""
        report = self._latest.get((announcement_id, zone))
        if report is None or now.monotonic_s - report.at.monotonic_s > REMEMBERED_S:
            return None
        return report

    def newest(self, limit: int) -> list[Report]:
        """The last `limit` outcomes, newest first."""
        return list(itertools.islice(reversed(self._reports), limit))

    def _shrink(self) -> None:
        while len(self._reports) > KEPT_REPORTS:
            oldest = self._reports.popleft()
            if self._latest.get(_key(oldest)) is oldest:
                del self._latest[_key(oldest)]


def _key(report: Report) -> tuple[str, str]:
    return report.announcement.id, report.zone
