"""How we stand with the service: whether asking now makes sense, and when it will again."""

from __future__ import annotations

import random
from collections.abc import Callable

from kugel_bridge.model.errors import (
    BridgeError,
    ConfigurationError,
    InvalidRequestError,
    NoCreditsError,
    NoSoundError,
    RateLimitedError,
    RetryableError,
    UnauthorizedError,
)
from kugel_bridge.model.status import CloudStatus

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
PAUSE_S = 900.0
"""Between probes while a person has to act: a refused key, an empty account."""

_PAUSING = (UnauthorizedError, NoCreditsError, ConfigurationError)


class Standing:
    """Counts failures and waits; the caller brings the time, monotonic, in seconds."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._trouble: BridgeError | None = None
        self._while_connecting = False
        self._not_before_s = 0.0
        self._failures = 0
        self._was_reached = False

    @property
    def trouble(self) -> BridgeError | None:
        """The last failure that has not been made good."""
        return self._trouble

    @property
    def status(self) -> CloudStatus | None:
        """For the state topic; None while nothing is known yet."""
        match self._trouble:
            case None:
                return CloudStatus.OK if self._was_reached else None
            case RateLimitedError():
                return CloudStatus.LIMITED
            case UnauthorizedError():
                return CloudStatus.UNAUTHORIZED
            case NoCreditsError():
                return CloudStatus.NO_CREDITS
            case _:
                return CloudStatus.UNREACHABLE

    @property
    def has_verdict(self) -> bool:
        """Whether the service itself told us to stay away, rather than being out of reach."""
        return isinstance(self._trouble, RateLimitedError | UnauthorizedError | NoCreditsError)

    def failed(self, error: BridgeError, now_s: float, *, connecting: bool = False) -> None:
        """Take note of a failure; one that came of its text alone says nothing about us."""
        if isinstance(error, InvalidRequestError | NoSoundError) and not connecting:
            return
        self._failures += 1
        self._trouble, self._while_connecting = error, connecting
        self._not_before_s = now_s + self._wait_after(error, connecting=connecting)

    def connected(self) -> None:
        """A socket is open and stays so: what kept us from connecting is over."""
        self._was_reached = True
        if self._while_connecting or not self.has_verdict:
            self._trouble, self._not_before_s = None, 0.0

    def settled(self) -> None:
        """The socket has stayed open for a while: the next failure is a first one."""
        if self._trouble is None:
            self._failures = 0

    def spoke(self) -> None:
        """A request was answered with sound: all is well."""
        self._was_reached = True
        self._trouble, self._not_before_s, self._failures = None, 0.0, 0

    def lapse(self, now_s: float) -> None:
        """Forget a rate limit whose time is over."""
        if isinstance(self._trouble, RateLimitedError) and now_s >= self._not_before_s:
            self._trouble = None

    def wait_s(self, now_s: float) -> float:
        """Seconds until asking again makes sense; 0 = now."""
        return max(0.0, self._not_before_s - now_s) if self._trouble is not None else 0.0

    def objection(self, now_s: float) -> BridgeError | None:
        """A fresh error like the last one while its time runs, with what is left of the wait."""
        wait = self.wait_s(now_s)
        if self._trouble is None or wait <= 0:
            return None
        error: BridgeError
        if isinstance(self._trouble, RetryableError):
            error = type(self._trouble)(str(self._trouble), retry_after_s=wait)
        else:
            error = type(self._trouble)(str(self._trouble))
        error.__cause__ = self._trouble
        return error

    def knows(self, error: BridgeError) -> bool:
        """Whether it is the last failure itself, or an objection because of it."""
        return self._trouble is not None and self._trouble in (error, error.__cause__)

    def _wait_after(self, error: BridgeError, *, connecting: bool) -> float:
        if isinstance(error, _PAUSING):
            return PAUSE_S
        # 2 ** 20 s is far beyond the cap; the exponent is bounded for an outage of months.
        backoff_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(20, self._failures - 1))
        backoff_s *= 0.5 + 0.5 * self._jitter()
        if not isinstance(error, RetryableError) or error.retry_after_s is None:
            return backoff_s
        # A little later than asked, so that many bridges do not come back at one moment.
        wish_s = error.retry_after_s * (1 + 0.1 * self._jitter())
        # Sockets are reopened by nobody's wish but ours, and 0 s are a wish too.
        return max(wish_s, backoff_s) if connecting else wish_s
