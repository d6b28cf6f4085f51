"""Tells what becomes of a zone's announcements: each step, and exactly one outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kugel_bridge.conductor.keeping import Keeping
from kugel_bridge.conductor.turn import Past, Turn, milliseconds
from kugel_bridge.model.clock import Clock, Instant
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.queue.policy import Entry

logger = logging.getLogger(__name__)

_NO_PAST = Past()


class Herald:
    """Makes the reports of one zone, and remembers what they have to sum up."""

    def __init__(self, keeping: Keeping, clock: Clock, on_report: Callable[[Report], None]) -> None:
        self._keeping, self._clock, self._on_report = keeping, clock, on_report
        self._untold: set[str] = set()
        self._past: dict[str, Past] = {}

    @property
    def untold(self) -> list[str]:
        """Ids of which nobody was told yet that they arrived."""
        return list(self._untold)

    def expect(self, entry: Entry) -> None:
        """An announcement arrived; `queued` is told for it, but not before its first sound."""
        self._untold.add(entry.announcement.id)

    def past(self, entry: Entry) -> Past:
        """What the announcement did in earlier turns."""
        return self._past.get(entry.announcement.id, _NO_PAST)

    def remember(self, turn: Turn) -> None:
        """A turn ended, the announcement did not."""
        self._past[turn.entry.announcement.id] = turn.as_past()

    def queued(self, entry: Entry) -> None:
        """Tell that it arrived, unless that was told."""
        if entry.announcement.id in self._untold:
            self._untold.discard(entry.announcement.id)
            self._tell(entry, Step.QUEUED, at=entry.announcement.received)

    def started(self, turn: Turn) -> None:
        """Tell that it can be heard, once it can and it is known where its words come from."""
        heard = turn.first_sound_s is not None
        if heard and not turn.told_started and turn.performance.is_sourced:
            turn.told_started = True
            self.queued(turn.entry)
            self._send(turn.report(Step.STARTED, self._clock.now()))

    def preempted(self, turn: Turn) -> None:
        """Tell that it makes way for something more urgent."""
        self.queued(turn.entry)
        self._send(turn.report(Step.PREEMPTED, self._clock.now()))

    def deferred(self, entry: Entry, now: Instant) -> None:
        """Tell why it is put off, and until when if that is known."""
        self.queued(entry)
        wait_s = entry.retry_at_s - now.monotonic_s
        self._tell(
            entry,
            Step.DEFERRED,
            reason=entry.reason,
            retry_at_s=now.wall_s + wait_s if wait_s < float("inf") else None,
        )

    def escalated(self, entry: Entry) -> None:
        """Tell that it is not heard yet although it should be."""
        self.queued(entry)
        self._tell(entry, Step.ESCALATE, reason="not heard in time")

    def ended(self, turn: Turn, outcome: Outcome, reason: str = "") -> None:
        """Tell the outcome of what had its turn, and let its sender forget it."""
        self._finish(turn.report(outcome, self._clock.now(), reason))

    def ended_waiting(self, entry: Entry, outcome: Outcome, reason: str) -> None:
        """The same for something that did not get a turn, or not another one."""
        now, past = self._clock.now(), self.past(entry)
        received_s = entry.announcement.received.monotonic_s
        self._finish(
            Report(
                event=outcome,
                announcement=entry.announcement,
                zone=entry.zone,
                at=now,
                reason=reason,
                source=past.source,
                queued_ms=milliseconds(now.monotonic_s - received_s),
                first_sound_ms=past.first_sound_ms,
                duration_ms=milliseconds(past.heard_s) if past.heard_s else None,
                characters=past.characters,
                attempts=entry.attempts,
            )
        )

    def _finish(self, report: Report) -> None:
        self._untold.discard(report.announcement.id)
        self._past.pop(report.announcement.id, None)
        self._send(report)
        self._keeping.ended(report)

    def _tell(
        self,
        entry: Entry,
        step: Step,
        *,
        at: Instant | None = None,
        reason: str = "",
        retry_at_s: float | None = None,
    ) -> None:
        self._send(
            Report(
                event=step,
                announcement=entry.announcement,
                zone=entry.zone,
                at=at or self._clock.now(),
                reason=reason,
                attempts=entry.attempts,
                retry_at_s=retry_at_s,
            )
        )

    def _send(self, report: Report) -> None:
        try:
            self._on_report(report)
        except Exception:
            # Whoever listens must not keep an announcement from its end, or the next from its turn.
            logger.exception("the news of %s could not be told", report.announcement.id)
