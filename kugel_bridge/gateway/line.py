"""Who may ask the service now: as many as the account allows, the others wait their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from kugel_bridge.model.errors import RateLimitedError

MAX_WAITING = 64
"""A hall full of bridges; what is behind them would wait longer than anybody listens."""
MAX_WAIT_S = 10.0
"""About what a client gives a request until its first sound."""
RETRY_S = 2.0
"""About how long a sentence takes; then a place is free."""


class Line:
    """`places` at a time, in order of arrival, and a bound on those who wait.

    It stands before the client's own queue, so that the bridge itself, which does not wait here,
    is never behind more than those who are speaking.
    """

    def __init__(
        self, places: int, *, max_waiting: int = MAX_WAITING, max_wait_s: float = MAX_WAIT_S
    ) -> None:
        self._places = asyncio.Semaphore(places)
        self._max_waiting, self._max_wait_s = max_waiting, max_wait_s
        self.waiting = 0
        """How many wait now."""

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place; raises RateLimitedError if none will be free in time."""
        if self.waiting >= self._max_waiting:
            raise RateLimitedError(
                f"{self.waiting} requests wait for the service already", retry_after_s=RETRY_S
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise RateLimitedError(
                f"the service was busy with others for {self._max_wait_s:g} s",
                retry_after_s=RETRY_S,
            ) from error
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._places.release()
