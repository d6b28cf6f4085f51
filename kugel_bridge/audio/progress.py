"""How far a sound card has come with what it was given: pure counting."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kugel_bridge.model.pcm import PcmFormat


class Position(NamedTuple):
    """One look at the card; replaced as a whole, so that another thread reads it whole."""

    heard_before: int = 0
    """Frames heard in earlier runs; a run lasts from the card's start to its standstill."""
    written: int = 0
    """Frames given to the card in this run."""
    played: int = 0
    """Frames of this run that were heard."""
    seen_at_s: float = 0.0

    @property
    def in_card(self) -> int:
        """Frames given and not yet heard."""
        return self.written - self.played


class Progress:
    """Counts written and heard frames, and keeps the sound that may still be in the card."""

    def __init__(self, heard_frames: int = 0) -> None:
        self.position = Position(heard_frames)
        self.meant: int | None = None
        """Frames of this run that are sound, once silence was put behind them."""
        self._moved_at_s = 0.0
        self._history: deque[memoryview] = deque()
        self._history_bytes = 0

    @property
    def heard_frames(self) -> int:
        """Frames that have left the card, as last seen; never falls."""
        position = self.position
        return position.heard_before + position.played

    def wrote(self, data: memoryview, frames: int, keep_bytes: int, now_s: float) -> None:
        """The card took `data`; at least its last `keep_bytes` are kept for `rest`."""
        before, written, played, seen_at_s = self.position
        if not written:
            self._moved_at_s = seen_at_s = now_s
        self.position = Position(before, written + frames, played, seen_at_s)
        self._history.append(data)
        self._history_bytes += len(data)
        while self._history_bytes - len(self._history[0]) >= keep_bytes:
            self._history_bytes -= len(self._history.popleft())

    def seen(self, in_card: int, now_s: float) -> float:
        """The card was seen with so many frames left in it; how long it has not moved (s)."""
        before, written, played, _ = self.position
        now_played = max(played, min(written - in_card, self._sound(written)))
        if now_played > played or in_card <= written - self._sound(written):
            self._moved_at_s = now_s
        self.position = Position(before, written, now_played, now_s)
        return now_s - self._moved_at_s

    def broke_off(self, rate: int, tolerance: int, now_s: float) -> None:
        """The card stands still and does not tell where: it ran dry, or was suspended.

        A buffer that ran dry was heard to its end. One that was emptied for another reason was
        heard as far as the clock tells. `tolerance` is in frames.
        """
        _, written, played, seen_at_s = self.position
        by_clock = played + round((now_s - seen_at_s) * rate)
        self.stopped(written if by_clock + tolerance >= written else by_clock)

    def stopped(self, played: int) -> None:
        """The card stands still, having played so many frames of this run."""
        before, written, known, _ = self.position
        heard = max(known, min(played, self._sound(written)))
        self.position = Position(before + heard)
        self.meant = None
        self._history.clear()
        self._history_bytes = 0

    def heard_also(self, frames: int) -> None:
        """So many frames were heard besides those of a run: a fade's."""
        self.position = self.position._replace(heard_before=self.position.heard_before + frames)

    def rest(self, format: PcmFormat) -> bytes:  # noqa: A002 - as in PcmChunk
        """The sound that was in the card when it was seen last."""
        size = self.position.in_card * format.frame_bytes
        return b"".join(self._history)[-size:] if size else b""

    def queued_s(self, rate: int, now_s: float) -> float:
        """Seconds of sound in the card by now, by the clock since it was seen last."""
        position = self.position
        if not position.in_card:
            return 0.0
        return max(0.0, position.in_card / rate - (now_s - position.seen_at_s))

    def _sound(self, written: int) -> int:
        return written if self.meant is None else self.meant
