"""Has the recordings of alerts read before they are needed, and tells which cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

from kugel_bridge.speech.alerts import AlertBook

logger = logging.getLogger(__name__)

READ_WAIT_S = 2.0
"""A disk that hangs must not keep everything else from being spoken."""


class Recordings:
    """Reads what an alert book has no sound for yet, in a thread that ends with the process."""

    def __init__(self, book: AlertBook, *, wait_s: float = READ_WAIT_S) -> None:
        self._book, self._wait_s = book, wait_s
        self._reading: threading.Thread | None = None
        self._told: dict[str, str] = {}

    @property
    def problem(self) -> str:
        """Which alert cannot be played, and why; the first one, empty if there is none."""
        for name, why in self._book.problems.items():
            return f"alert {name!r} cannot be played: {why}"
        return ""

    async def read(self) -> None:
        """Try those that could not be read so far; returns when it is done, or takes too long."""
        if not self._book.problems or (self._reading and self._reading.is_alive()):
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            try:
                self._book.load()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(done.set)

        self._reading = threading.Thread(target=work, name="alerts", daemon=True)
        try:
            self._reading.start()
        except RuntimeError as error:
            logger.warning("alerts: no thread to read their recordings: %s", error)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await done.wait()
        self._tell()

    def _tell(self) -> None:
        """One line for each change."""
        now = dict(self._book.problems)
        for name, why in now.items():
            if self._told.get(name) != why:
                logger.warning("alert %r cannot be played, a tone takes its place: %s", name, why)
        for name in self._told.keys() - now.keys():
            logger.info("alert %r can be played again", name)
        self._told = now
