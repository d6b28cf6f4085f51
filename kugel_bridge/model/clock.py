"""Time, as a seam: real in the daemon, moved by hand in tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks.

    Ages and waits are counted on the monotonic clock, which a jump of the wall clock cannot
    move; the wall clock is for people, and for rows that outlive the process.
    """

    wall_s: float
    """Seconds since 1970, UTC."""
    monotonic_s: float
    """Seconds since the machine was started, suspend included; never set by anybody."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> Instant:
        """This moment, on both clocks."""


class SystemClock:
    """The machine's own clocks; ages go on while it is suspended."""

    def now(self) -> Instant:
        """This moment, on both clocks."""
        return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
