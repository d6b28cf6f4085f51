"""A clock that tests move by hand."""

from __future__ import annotations

from kugel_bridge.model.clock import Instant


class ManualClock:
    """Both clocks of the machine, standing still until a test moves them."""

    def __init__(self, wall_s: float = 1_800_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self._now = Instant(wall_s, monotonic_s)

    def now(self) -> Instant:
        """This moment, on both clocks."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        now = self._now
        self._now = Instant(now.wall_s + seconds, now.monotonic_s + seconds)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock; no time passes."""
        self._now = Instant(self._now.wall_s + seconds, self._now.monotonic_s)
