"""News of an announcement: the steps on its way and its one outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kugel_bridge.model.announcement import Announcement
from kugel_bridge.model.clock import Instant


class SourceKind(enum.StrEnum):
    """Where the sound came from: the rungs of the ladder."""

    CACHE = "cache"
    CLOUD = "cloud"
    LOCAL = "local"
    ALERT = "alert"
    TONE = "tone"


class Step(enum.StrEnum):
    """Something that happens to an announcement before its end."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    STARTED = "started"
    PREEMPTED = "preempted"
    ESCALATE = "escalate"


class Outcome(enum.StrEnum):
    """How an announcement ends: exactly one for each announcement and zone."""

    FINISHED = "finished"
    FAILED = "failed"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    REPLACED = "replaced"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One event of one announcement in one zone, for whoever asked."""

    event: Step | Outcome
    announcement: Announcement
    zone: str
    at: Instant
    reason: str = ""
    source: SourceKind | None = None
    queued_ms: int | None = None
    """From the arrival of the message to its turn."""
    first_sound_ms: int | None = None
    """From the arrival of the message to the first frame handed to the sink."""
    duration_ms: int | None = None
    """What was really played."""
    characters: int = 0
    """Characters sent to the cloud."""
    attempts: int = 0
    retry_at_s: float | None = None
    """Wall time (s since 1970) of the next try of a deferred one."""
    said: str = ""
    """The announcement's own `said`, where only a part of it is kept."""

    @property
    def is_outcome(self) -> bool:
        """True when this is the announcement's end in this zone."""
        return isinstance(self.event, Outcome)
