"""The announcement that has the floor, and what is known of its way so far."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field, replace

from kugel_bridge.audio.player import Player
from kugel_bridge.conductor.performance import Performance
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import RetryableError
from kugel_bridge.model.report import Outcome, Report, SourceKind, Step
from kugel_bridge.queue.policy import Entry


class Interruption(enum.Enum):
    """Why a performance was cut."""

    STOP = "stopped"
    SKIP = "skipped by request"
    PREEMPT = "preempted"
    PAUSE = "paused"

    @property
    def is_final(self) -> bool:
        """Whether the announcement ends with it, and does not go on later."""
        return self in (Interruption.STOP, Interruption.SKIP)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a performance ended that was not cut."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What an announcement did in earlier turns, before it was cut or put off."""

    heard_s: float = 0.0
    characters: int = 0
    first_sound_ms: int | None = None
    source: SourceKind | None = None
    reason: str = ""
    """Why a lower rung was taken."""


@dataclass(slots=True)
class Turn:
    """One try to speak one entry."""

    entry: Entry
    """As it was before this try; it is replaced where further callers ask for the same."""
    performance: Performance
    player: Player
    task: asyncio.Task[Ending | RetryableError]
    """What came of it, or why it has to be tried again later."""
    began_s: float
    """Monotonic time at which its turn came."""
    past: Past = field(default_factory=Past)
    playing: bool = False
    """Whether the player was asked; before, what it tells is of the announcement before."""
    first_sound_s: float | None = None
    """Monotonic time at which the first frame was handed to the sink."""
    told_started: bool = False
    interruption: Interruption | None = None

    def interrupt(self, why: Interruption) -> bool:
        """Cut it; False if it is over, or was cut for a reason that weighs as much."""
        if isinstance(self.result, Ending):
            return False
        if self.interruption is None:
            self.task.cancel()
        elif self.interruption.is_final or not why.is_final:
            return False
        # What only makes way for a moment can still be stopped for good.
        self.interruption = why
        return True

    @property
    def result(self) -> Ending | RetryableError | None:
        """What came of it; None while it goes on, and if it was cut."""
        return self.task.result() if self.task.done() and not self.task.cancelled() else None

    @property
    def heard_s(self) -> float:
        """How much of it was heard in this turn (s)."""
        return self.player.last.heard_s if self.playing else 0.0

    @property
    def first_sound_ms(self) -> int | None:
        """From the arrival of the message to the first frame handed to the sink, in any turn."""
        if self.past.first_sound_ms is not None or self.first_sound_s is None:
            return self.past.first_sound_ms
        return milliseconds(self.first_sound_s - self.entry.announcement.received.monotonic_s)

    @property
    def source(self) -> SourceKind | None:
        """Where the first words of this turn came from, or of the last one that had words left."""
        return self.performance.source or self.past.source

    @property
    def is_said(self) -> bool:
        """Whether nothing of its words is left to be heard."""
        return self.performance.is_said(self.heard_s)

    @property
    def tried(self) -> Entry:
        """The entry after this try."""
        return replace(self.entry, attempts=self.entry.attempts + 1)

    def resumed(self) -> Entry:
        """The entry as it has to go on: with the sentence in which it was cut."""
        heard_s = self.heard_s
        position = self.performance.resume_at(heard_s) if heard_s > 0 else 0
        return replace(self.tried, resume_at=max(self.entry.resume_at, position))

    def as_past(self) -> Past:
        """What a later turn of the same announcement has to know of this one."""
        return Past(
            self.past.heard_s + self.heard_s,
            self.past.characters + self.performance.characters,
            self.first_sound_ms,
            self.source,
            self.past.reason or self.performance.reason,
        )

    def report(self, event: Step | Outcome, at: Instant, reason: str = "") -> Report:
        """A step or the outcome, with all that is known now."""
        sums = self.as_past()
        received_s = self.entry.announcement.received.monotonic_s
        ended = isinstance(event, Outcome)
        if event is Outcome.FINISHED:
            reason = reason or sums.reason
        return Report(
            event=event,
            announcement=self.entry.announcement,
            zone=self.entry.zone,
            at=at,
            reason=reason,
            source=sums.source,
            queued_ms=milliseconds(self.began_s - received_s),
            first_sound_ms=sums.first_sound_ms,
            duration_ms=milliseconds(sums.heard_s) if ended else None,
            characters=sums.characters,
            attempts=self.entry.attempts + 1,
        )


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, never negative."""
    return max(0, round(seconds * 1000))
