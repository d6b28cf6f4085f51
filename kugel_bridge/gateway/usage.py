"""What each key has used, by day: answered from memory, kept in a file by a thread of its own.

The thread writes whatever waits at a moment in one transaction, as a commit costs an SD card tens
of milliseconds however many rows it holds. Trouble with the disk never stops speech: usage is
then counted in memory, and written once the disk can be used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Self

from kugel_bridge.gateway.usagefile import Key, UsageFile, oldest_kept
from kugel_bridge.kugelaudio.messages import Usage
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.usage import KEPT_DAYS, DayUsage, UsageBook

logger = logging.getLogger(__name__)

OPEN_WAIT_S = 5.0
"""How long the start waits for the file; a disk that takes longer may hang for good."""
COMMIT_WAIT_S = 2.0
"""How long a finished request waits for its record; a slow SD card takes a tenth of that."""
RETRY_S = 30.0
"""An unusable disk is looked at again after so long."""

Call = Callable[[], None]


class Ledger:
    """Usage per account and day; `path` None keeps it in memory only.

    To be entered before use. All methods are for the event loop.
    """

    def __init__(self, path: Path | None, clock: Clock, *, retry_s: float = RETRY_S) -> None:
        self._clock = clock
        self._books: dict[str, UsageBook] = {}
        self._writer = None if path is None else _Writer(path, retry_s, self._found)

    def today(self) -> datetime.date:
        """The local calendar day."""
        now = datetime.datetime.fromtimestamp(self._clock.now().wall_s, datetime.UTC)
        return now.astimezone().date()

    def days(self, account: str) -> list[DayUsage]:
        """The days of an account that had any usage, newest first."""
        book = self._books.get(account)
        return [] if book is None else book.newest(KEPT_DAYS)

    def characters_today(self, account: str) -> int:
        """What the account used of this day's budget."""
        # Not the newest day: that lies ahead after the clock was set back.
        today = self.today()
        return sum(usage.characters for usage in self.days(account) if usage.day == today)

    async def add(self, account: str, usage: Usage) -> None:
        """Count one request; returns when it is on the disk, or the disk had its chance."""
        day = DayUsage(
            day=self.today(),
            requests=1,
            characters=usage.characters,
            audio_s=usage.audio_s,
            cost_cents=usage.cost_cents or 0.0,
        )
        self._count(account, day)
        if self._writer is not None:
            await self._writer.add((account, day.day), day)

    async def __aenter__(self) -> Self:
        if self._writer is not None:
            try:
                await self._writer.start()
            except BaseException:
                await self._writer.end()
                raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._writer is not None:
            await self._writer.end()

    def _count(self, account: str, usage: DayUsage) -> None:
        self._books.setdefault(account, UsageBook()).add(usage)

    def _found(self, rows: Mapping[Key, DayUsage]) -> None:
        for (account, _), usage in rows.items():
            self._count(account, usage)


class _Writer:
    """Hands usage from the event loop to the thread that owns the file."""

    def __init__(
        self, path: Path, retry_s: float, on_found: Callable[[Mapping[Key, DayUsage]], None]
    ) -> None:
        self._file, self._path = UsageFile(path), path
        self._retry_s, self._on_found = retry_s, on_found
        self._condition = threading.Condition()
        self._waiting: dict[Key, DayUsage] = {}
        self._written: asyncio.Future[None] | None = None
        """Done when what waits now has been written, or cannot be."""
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # From here on, what only the thread touches.
        self._totals: dict[Key, DayUsage] = {}
        self._unwritten: set[Key] = set()
        self._has_loaded = False
        self._problem = ""

    # --- called from the event loop --------------------------------------------------------

    async def start(self) -> None:
        """Open the file; returns when its rows are known, or it takes too long."""
        self._loop = asyncio.get_running_loop()
        self._closing = False
        opened = asyncio.Event()
        # A daemon thread: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, args=(opened.set,), name="usage writer", daemon=True
        )
        self._thread.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_WAIT_S):
                await opened.wait()

    async def add(self, key: Key, usage: DayUsage) -> None:
        """Returns when it is written, cannot be, or COMMIT_WAIT_S are over; after `end` at once."""
        assert self._loop is not None
        with self._condition:
            known = self._waiting.get(key)
            self._waiting[key] = usage if known is None else known + usage
            if self._closing:
                return  # nobody is there any more to tell when it is written
            if self._written is None:
                self._written = self._loop.create_future()
            written = self._written
            self._condition.notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMIT_WAIT_S):
                # Shielded: others wait for the same commit.
                await asyncio.shield(written)

    async def end(self) -> None:
        """Write what is left and close the file; a disk that hangs is not waited for."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, COMMIT_WAIT_S)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self, opened: Call) -> None:
        closing = False
        self._attempt()
        self._post(opened)
        while not closing:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._waiting or self._closing,
                    timeout=self._retry_s if self._unwritten or self._problem else None,
                )
                batch, self._waiting = self._waiting, {}
                written, self._written = self._written, None
                closing = self._closing
            for key, usage in batch.items():
                known = self._totals.get(key)
                self._totals[key] = usage if known is None else known + usage
            self._unwritten.update(batch)
            self._attempt()
            if written is not None:
                self._post(partial(_set, written))
        self._file.close()

    def _attempt(self) -> None:
        """Have the file open and everything in it, if the disk lets us."""
        try:
            found = self._file.open()
            if found is not None:
                self._take_over(found)
            if self._unwritten:
                rows = [(key[0], self._totals[key]) for key in self._unwritten]
                self._file.write(rows, oldest_kept(day for _, day in self._totals))
                self._unwritten.clear()
                self._forget()
        except StorageError as error:
            if not self._problem:
                logger.warning("what the gateway's keys use is kept in memory only: %s", error)
            self._problem = str(error)
            return
        # The outermost loop of this thread: whatever happens, the next batch gets its chance.
        except Exception:
            logger.exception("the usage writer failed")
            return
        if self._problem:
            logger.info("what the gateway's keys use is written to %s again", self._path)
            self._problem = ""

    def _take_over(self, found: Mapping[Key, DayUsage]) -> None:
        if not self._has_loaded:
            for key, usage in found.items():
                known = self._totals.get(key)
                self._totals[key] = usage if known is None else known + usage
            self._has_loaded = True
            self._post(partial(self._on_found, found))
        # A file that was lost gets back what is known of it.
        self._unwritten = {key for key, usage in self._totals.items() if found.get(key) != usage}

    def _forget(self) -> None:
        oldest = oldest_kept(day for _, day in self._totals)
        for key in [key for key in self._totals if key[1] < oldest]:
            del self._totals[key]

    def _post(self, call: Call) -> None:
        assert self._loop is not None
        # The loop may have ended without waiting for a disk that hung.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _set(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)
