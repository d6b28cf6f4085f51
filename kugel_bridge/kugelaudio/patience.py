"""How long to wait for the next frame of a request."""

from __future__ import annotations


class Patience:
    """Counts waiting only, not the time that the player takes to play what came (all in s)."""

    def __init__(self, first_audio_s: float, stall_s: float, total_s: float) -> None:
        self._gap_s = first_audio_s
        self._stall_s = stall_s
        self._total_s = total_s
        self._has_heard = False
        self._waited_in_gap_s = 0.0
        self._waited_s = 0.0

    @property
    def left_s(self) -> float:
        """How long the next wait may be; 0 = patience is over."""
        left = min(self._gap_s - self._waited_in_gap_s, self._total_s - self._waited_s)
        return max(0.0, left)

    @property
    def complaint(self) -> str:
        """Why patience is over, for a person."""
        if self._waited_s >= self._total_s:
            return f"the request is not done after {self._total_s:.0f} s of waiting"
        if self._has_heard:
            return f"no further sound for {self._stall_s:g} s"
        return f"no sound within {self._gap_s:g} s"

    def waited(self, seconds: float) -> None:
        """Note time spent waiting."""
        self._waited_in_gap_s += seconds
        self._waited_s += seconds

    def heard(self) -> None:
        """Sound came: only sound starts a new gap, no other frame does."""
        self._has_heard = True
        self._gap_s, self._waited_in_gap_s = self._stall_s, 0.0
