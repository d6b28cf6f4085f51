"""All generations under way, by phrase."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from kugel_bridge.speech.flight import MAX_AHEAD, Flight, Listener, Piece
from kugel_bridge.speech.pace import Pace
from kugel_bridge.speech.recording import Recording


class Flights:
    """Starts a generation, or joins one that is under way; `run` is where they run."""

    def __init__(self, *, max_ahead: int = MAX_AHEAD) -> None:
        self._max_ahead = max_ahead
        self.pace = Pace(time.monotonic)
        """How the service behind them keeps pace."""
        self._under_way: dict[str, Flight[Any]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._is_running = asyncio.Event()

    async def run(self) -> None:
        """Be there for generations until cancelled; they end with it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._is_running.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._is_running.clear()
                self._tasks = None

    async def board(
        self,
        digest: str,
        sound: Callable[[], AsyncGenerator[Piece, None]],
        recording: Callable[[], Recording | None],
    ) -> tuple[Flight[Piece], Listener[Piece], bool]:
        """The flight of that phrase, a listener on it, and whether it was started for this.

        All who ask for one digest want the same kind of pieces.
        """
        await self._is_running.wait()
        if (listener := self.join(digest)) is not None:
            return self._under_way[digest], listener, False
        for other in self._under_way.values():
            # What only the cache waits for gives way to what somebody waits for.
            if not other.is_heard:
                other.cancel()
        flight = Flight(sound(), recording(), self.pace.watch(), max_ahead=self._max_ahead)
        self._under_way[digest] = flight
        assert self._tasks is not None
        self._tasks.create_task(self._fly(digest, flight), name=f"phrase {digest[:12]}")
        return flight, flight.join(), True

    def join(self, digest: str) -> Listener[Any] | None:
        """A listener on that phrase's flight, if one is under way; it has to be closed."""
        flight = self._under_way.get(digest)
        return flight.join() if flight is not None and flight.can_join else None

    async def _fly(self, digest: str, flight: Flight[Any]) -> None:
        try:
            await flight.run()
        finally:
            if self._under_way.get(digest) is flight:
                del self._under_way[digest]
