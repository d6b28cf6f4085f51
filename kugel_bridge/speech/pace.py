"""How a service has kept pace lately, and so with how little of its sound playing may begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

KEPT = 4
"""Answers that are remembered."""
PROOF = 2
"""Answers it takes before a service is relied on."""
MARGIN_S = 0.06
"""How much early every piece has to have been: what is played first hides a stall this long."""


class Pace:
    """Watches answers come in, piece by piece; `now_s` is any clock that never goes back (s)."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._answers: deque[float | None] = deque(maxlen=KEPT)

    @property
    def head_start_s(self) -> float | None:
        """Sound (s) with which playing may begin at once; None where that is not known.

        It is the first piece's length, once every piece of the last answers came in time for a
        listener who began with the first one.
        """
        if len(self._answers) < PROOF:
            return None
        first_s = [each for each in self._answers if each is not None]
        return max(first_s) if len(first_s) == len(self._answers) else None

    def watch(self) -> Watch:
        """Of one answer that begins."""
        return Watch(self)

    def now_s(self) -> float:
        """The time (s), on the clock it was given."""
        return self._now_s()

    def add(self, first_s: float, slack_s: float) -> None:
        """An answer: the length of its first piece, and how early its tardiest piece was."""
        self._answers.append(first_s if slack_s >= MARGIN_S else None)


class Watch:
    """One answer as it comes in."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._began_s = self._first_s = self._received_s = 0.0
        self._slack_s: float | None = None

    def heard(self, sound_s: float) -> None:
        """A piece of so many seconds is here."""
        now_s = self._pace.now_s()
        if not self._received_s:
            self._began_s, self._first_s = now_s, sound_s
        else:
            slack_s = self._received_s - (now_s - self._began_s)
            self._slack_s = slack_s if self._slack_s is None else min(self._slack_s, slack_s)
        self._received_s += sound_s

    def end(self) -> None:
        """It came to its end; an answer of one piece tells nothing."""
        if self._slack_s is not None:
            self._pace.add(self._first_s, self._slack_s)

    def fail(self) -> None:
        """It broke off: the next ones are not relied on."""
        self._pace.add(0.0, 0.0)
