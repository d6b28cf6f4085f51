"""One generation for all who ask for the same phrase at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from kugel_bridge.model.errors import BridgeError, ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.speech.pace import Watch
from kugel_bridge.speech.recording import Recording

logger = logging.getLogger(__name__)

Piece = TypeVar("Piece")
"""What a flight carries: PcmChunk, and what an engine tells beside it, as the words."""

MAX_AHEAD = 4 * 1024 * 1024
"""Bytes of one generation held in memory: 87 s of speech."""
LATE_S = 15.0
"""How long a generation that came too late to be heard may take to reach the cache."""


class Flight(Generic[Piece]):
    """Sound under way from the cloud: read as fast as it comes, kept for each of its listeners.

    All listeners get all of it from the start. Once more than `max_ahead` bytes are held, what
    every listener has had is let go, and nobody new can join; if that is not enough, the
    generation waits for the slowest. When the last listener goes, the generation is cancelled.
    One exception: nobody waited long enough to hear it, but the cache wants it. Then it goes on
    for at most `LATE_S`, so that the phrase is there next time; see `Listener.leave`.
    """

    def __init__(
        self,
        sound: AsyncGenerator[Piece, None],
        recording: Recording | None,
        watch: Watch,
        *,
        max_ahead: int = MAX_AHEAD,
    ) -> None:
        self._sound, self._recording, self._watch = sound, recording, watch
        self._max_ahead = max_ahead
        self._pieces: deque[Piece] = deque()
        self._dropped = 0
        self._held = 0
        self._listeners: set[Listener[Piece]] = set()
        self._is_over = False
        self._error: BridgeError | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.done = asyncio.Event()
        """Set when it has ended, and its sound is in the cache or never will be."""
        self.is_kept = False
        """Whether its sound is in the cache; known when it is done."""

    @property
    def can_join(self) -> bool:
        """Whether a newcomer would still get everything; also while the cache takes it in."""
        is_cancelled = self._task is not None and self._task.cancelling() > 0
        return not self._dropped and self._error is None and not is_cancelled

    @property
    def is_heard(self) -> bool:
        """Whether anybody waits for it."""
        return bool(self._listeners)

    def join(self) -> Listener[Piece]:
        """A new listener; it has to be closed."""
        assert self.can_join
        listener = Listener(self)
        self._listeners.add(listener)
        return listener

    def cancel(self) -> None:
        """End the generation; nothing of it is kept."""
        if self._task is not None and not self._is_over:
            self._task.cancel()

    async def run(self) -> None:
        """Generate to the end; errors go to the listeners."""
        self._task = asyncio.current_task()
        try:
            if await self._generated() and self._recording is not None:
                self.is_kept = await self._recording.commit()
        finally:
            self.done.set()

    async def _generated(self) -> bool:
        """Generate to the end; True if it came to its end."""
        is_whole = False
        try:
            if self._listeners:
                async with contextlib.aclosing(self._sound):
                    await self._generate()
                is_whole = True
                self._watch.end()
        except BridgeError as error:
            self._error = error
            self._watch.fail()
        except asyncio.CancelledError:
            self._error = ServiceUnavailableError("the generation was given up")
            raise
        except Exception as error:
            # The outermost loop of this task: its listeners must not wait for ever.
            logger.exception("the generation of a phrase failed")
            self._error = ServiceUnavailableError(f"internal error: {error}")
        finally:
            self._is_over = True
            self._tell()
            if self._recording is not None and not is_whole:
                self._recording.abort()
        return is_whole

    async def _generate(self) -> None:
        async for piece in self._sound:
            if isinstance(piece, PcmChunk):
                if not piece.frames:
                    continue
                self._watch.heard(piece.seconds)
                if self._recording is not None:
                    self._recording.add(piece)
            await self._room()
            self._pieces.append(piece)
            self._held += _size(piece)
            self._tell()

    async def _room(self) -> None:
        """Return when there is room for another piece."""
        while self._held >= self._max_ahead:
            positions = [listener.position for listener in self._listeners]
            # Without listeners only the cache wants it: nothing needs to be held.
            common = min(positions, default=self._dropped + len(self._pieces))
            while self._dropped < common and self._held >= self._max_ahead // 2:
                self._held -= _size(self._pieces.popleft())
                self._dropped += 1
            if self._held < self._max_ahead:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _next(self, listener: Listener[Piece]) -> Piece | None:
        """What `listener` has not had yet; None at the end. Raises the generation's BridgeError."""
        while True:
            index = listener.position - self._dropped
            if index < len(self._pieces):
                return self._pieces[index]
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return None
            listener.news.clear()
            await listener.news.wait()

    def _moved(self) -> None:
        if self._held >= self._max_ahead:
            self._changed.set()

    def _left(self, listener: Listener[Piece], *, was_late: bool) -> None:
        self._listeners.discard(listener)
        self._changed.set()
        if self._listeners or self._is_over:
            return
        if was_late and self._recording is not None and self._task is not None:
            asyncio.get_running_loop().call_later(LATE_S, self._end_of_patience)
        else:
            self.cancel()

    def _end_of_patience(self) -> None:
        if not self._listeners:
            self.cancel()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.news.set()


class Listener(AsyncGenerator[Piece, None]):
    """One who hears a flight, from its beginning; closing it is leaving."""

    def __init__(self, flight: Flight[Piece]) -> None:
        self._flight: Flight[Piece] | None = flight
        self.position = 0
        """Pieces it has had."""
        self.news = asyncio.Event()

    async def begin(self) -> None:
        """Return when there is sound; raises the flight's BridgeError if none comes."""
        assert self._flight is not None
        if await self._flight._next(self) is None:
            raise ServiceUnavailableError("the source ended without any sound")

    async def asend(self, value: None) -> Piece:
        """The next piece; raises the flight's BridgeError where the sound breaks off."""
        if self._flight is None:
            raise StopAsyncIteration
        flight = self._flight
        try:
            piece = await flight._next(self)
        except BridgeError:
            self.leave()
            raise
        if piece is None:
            self.leave()
            raise StopAsyncIteration
        self.position += 1
        flight._moved()
        return piece

    def leave(self, *, was_late: bool = False) -> None:
        """Hear no more; `was_late`: it would have been heard, had it come sooner."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight._left(self, was_late=was_late)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Piece:
        """Closes it; an error thrown in has nobody to handle it here."""
        await self.aclose()
        raise val or typ

    async def aclose(self) -> None:
        """Leave."""
        self.leave()


def _size(piece: object) -> int:
    """Bytes held; what is not sound is little, and its source bounds it."""
    return len(piece.data) if isinstance(piece, PcmChunk) else 0
