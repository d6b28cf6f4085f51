"""What a level of urgency means, and what people may change while the bridge runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from kugel_bridge.model.announcement import Announcement, OfflineRule, Priority
from kugel_bridge.model.errors import RetryableError

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
"""Waits between tries double up to this; a wish of the other side's own wins."""
RETRY_LEAST_S = 0.2
"""A wish for no wait at all must not become a loop that never rests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRule:
    """How announcements of one level are treated unless they say otherwise."""

    ttl_s: float
    """How long one stays true (s)."""
    first_sound_s: float
    """How long the cloud may take to the first sound before the next rung is taken (s)."""
    offline: OfflineRule
    dedupe_s: float = 0.0
    """The same words within so many seconds are said once; 0 = off."""


LevelRules = Mapping[Priority, LevelRule]


@dataclass(slots=True)
class Switches:
    """What a person sets while the bridge runs; one instance, shared by all zones."""

    language: str
    muted: bool = False
    quiet: bool = False
    paused: bool = False
    voice: str | None = None
    """Default voice; None = the configured one."""
    chime: bool | str | None = None
    """Default chime; None = the zone's."""

    def stops(self, announcement: Announcement) -> bool:
        """Whether it has to wait because the bridge is paused; critical ones never do."""
        return self.paused and announcement.priority is not Priority.CRITICAL

    def holds(self, announcement: Announcement) -> bool:
        """Whether do-not-disturb keeps this announcement waiting: only urgent ones pass."""
        return self.quiet and not announcement.priority.preempts

    def silences(self, announcement: Announcement) -> bool:
        """Whether it is muted away; critical ones are heard all the same."""
        return self.muted and announcement.priority is not Priority.CRITICAL


def retry_wait_s(error: RetryableError, attempts: int) -> float:
    """How long to wait after the `attempts`-th try failed with `error` (s)."""
    if error.retry_after_s is not None:
        return max(RETRY_LEAST_S, error.retry_after_s)
    wait_s = min(RETRY_FIRST_S * 2.0 ** min(attempts - 1, 10), RETRY_MAX_S)
    return wait_s * random.uniform(0.8, 1.2)
