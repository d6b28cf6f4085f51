"""How long to wait before the next connection, from why the last one ended."""

from __future__ import annotations

import random
from collections.abc import Callable

from kugel_bridge.mqtt.verdict import End

STEADY_S = 10.0
"""A connection that lasted so long was a good one: begin again with the quick try."""
FIRST_S = 0.3
"""Within so long after a loss comes the first try: most often the broker was only restarted."""
LONGEST_S = 15.0
REFUSED_S = 60.0
"""Nobody changes a password sooner, and brokers ban who knocks too often."""
TAKEN_OVER_S = 5.0
LONGEST_TAKEN_OVER_S = 120.0
"""Two clients with one id throw each other out for ever; the slower they do the better."""


class Backoff:
    """Waits that grow from failure to failure, with jitter so that a house does not chime in."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1."""
        self._chance = chance
        self._failures = 0
        self._takeovers = 0

    def wait_s(self, end: End, lasted_s: float) -> float:
        """The pause (s) after a connection that was up for `lasted_s` and ended so."""
        if lasted_s >= STEADY_S:
            self._failures = 0
        if end is End.TAKEN_OVER:
            # Not by the time it lasted: the other one needs its pause too.
            self._takeovers += 1
            longest = min(
                LONGEST_TAKEN_OVER_S, TAKEN_OVER_S * float(2 ** min(self._takeovers - 1, 10))
            )
            return longest * (0.5 + 0.5 * self._chance())
        if lasted_s >= LONGEST_TAKEN_OVER_S:
            self._takeovers = 0
        if end is End.REFUSED:
            return REFUSED_S * (0.8 + 0.4 * self._chance())
        failures, self._failures = self._failures, self._failures + 1
        if failures == 0:
            return FIRST_S * self._chance()
        longest = min(LONGEST_S, float(2 ** min(failures - 1, 10)))
        return longest * (0.5 + 0.5 * self._chance())
