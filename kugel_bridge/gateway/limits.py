"""What each key may use: the seam between those who serve and those who count, and the counting.

Nothing here waits or looks at a clock of its own, but for the record at the end of a request.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Protocol

from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.codes import NO_CREDITS, RATE_LIMITED, Refusal
from kugel_bridge.kugelaudio.messages import Usage
from kugel_bridge.model.clock import Clock

WINDOW_S = 60.0
SLOT_RETRY_S = 1.0
"""Nobody knows when a slot will be free; a sentence takes about that long to make."""


class Ticket(Protocol):
    """One request, turn or context under way; holds one slot until it ends."""

    def spend(self, characters: int) -> Refusal | None:
        """Take characters from the day's budget, or say why not."""

    async def end(self, usage: Usage | None) -> None:
        """Free the slot; returns when `usage`, if there was any, is on record. May be repeated.

        Nothing is lost if the wait for it is cancelled.
        """


class Limits(Protocol):
    """Lets requests and sockets in; `account` is the name of a key, see access.Access.account."""

    def open_socket(self, account: str) -> Refusal | None:
        """Take a connection, or say why not; to be given back with `close_socket`."""

    def close_socket(self, account: str) -> None:
        """Give a connection back."""

    def begin(self, account: str) -> Ticket | Refusal:
        """Take one from the minute and one slot, or say why not (with the time to wait)."""


class NoLimits:
    """Lets everything in and counts nothing."""

    def open_socket(self, account: str) -> Refusal | None:
        """Always."""
        return None

    def close_socket(self, account: str) -> None:
        """Nothing to give back."""

    def begin(self, account: str) -> Ticket | Refusal:
        """Always."""
        return _FreeTicket()


class _FreeTicket:
    def spend(self, characters: int) -> Refusal | None:
        return None

    async def end(self, usage: Usage | None) -> None:
        return


@dataclass(frozen=True, slots=True)
class Allowance:
    """What every key may use."""

    requests_per_minute: int
    concurrent_generations: int
    connections: int
    characters_per_day: int | None = None
    """None = as many as it likes."""


class KeyLimits:
    """Counts for each account, and puts what was used on record.

    Its memory is bounded by the number of keys and by `requests_per_minute`.
    """

    def __init__(self, allowance: Allowance, clock: Clock, ledger: Ledger) -> None:
        self._allowance, self._clock, self._ledger = allowance, clock, ledger
        self._standings: defaultdict[str, _Standing] = defaultdict(_Standing)

    def open_socket(self, account: str) -> Refusal | None:
        """Take a connection, or say why not; to be given back with `close_socket`."""
        standing = self._standings[account]
        if standing.sockets >= self._allowance.connections:
            return RATE_LIMITED.waiting(SLOT_RETRY_S)
        standing.sockets += 1
        return None

    def close_socket(self, account: str) -> None:
        """Give a connection back."""
        self._standings[account].sockets -= 1

    def begin(self, account: str) -> Ticket | Refusal:
        """Take one from the minute and one slot, or say why not (with the time to wait).

        What is refused takes nothing.
        """
        standing, now_s = self._standings[account], self._clock.now().monotonic_s
        while standing.begun_s and now_s - standing.begun_s[0] >= WINDOW_S:
            standing.begun_s.popleft()
        if len(standing.begun_s) >= self._allowance.requests_per_minute:
            return RATE_LIMITED.waiting(WINDOW_S - (now_s - standing.begun_s[0]))
        if standing.generations >= self._allowance.concurrent_generations:
            return RATE_LIMITED.waiting(SLOT_RETRY_S)
        standing.begun_s.append(now_s)
        standing.generations += 1
        return _KeyTicket(account, standing, self._allowance, self._ledger)


@dataclass(slots=True)
class _Standing:
    """Where one account stands."""

    begun_s: deque[float] = field(default_factory=deque)
    """When the requests of the last minute began (s, monotonic), oldest first."""
    generations: int = 0
    sockets: int = 0
    reserved: int = 0
    """Characters of requests under way, which are not on record yet."""


class _KeyTicket:
    def __init__(
        self, account: str, standing: _Standing, allowance: Allowance, ledger: Ledger
    ) -> None:
        self._account, self._standing = account, standing
        self._allowance, self._ledger = allowance, ledger
        self._reserved = 0
        self._has_ended = False

    def spend(self, characters: int) -> Refusal | None:
        budget = self._allowance.characters_per_day
        if budget is not None:
            used = self._ledger.characters_today(self._account) + self._standing.reserved
            if used + characters > budget:
                return NO_CREDITS
        self._reserved += characters
        self._standing.reserved += characters
        return None

    async def end(self, usage: Usage | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._standing.generations -= 1
        self._standing.reserved -= self._reserved
        if usage is not None:
            await self._ledger.add(self._account, usage)
