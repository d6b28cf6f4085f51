"""The copy of the queue that outlives the process, seen from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import BridgeError, StorageError, UnstorableError
from kugel_bridge.model.report import Report
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.queuefile import InUseError
from kugel_bridge.queue.recent import RecentEnds, shortened
from kugel_bridge.queue.rows import entry_row
from kugel_bridge.queue.stamp import Stamp
from kugel_bridge.queue.stamp import boot_id as this_boot
from kugel_bridge.queue.usage import DayUsage, UsageBook
from kugel_bridge.queue.work import End, Loaded, Ping, Put
from kugel_bridge.queue.writer import Writer

logger = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0
"""Start goes on without what a slower disk holds; it is taken up when it comes."""
RETRY_S = 5.0
"""Pause between two looks for a disk that could not be used (s)."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How the store does, for health figures."""

    rows: int
    """Announcements on disk that wait."""
    handed_over: int
    """Rows and outcomes on their way to the disk."""
    commits: int
    bytes_written: int
    """An estimate."""
    broken_rows: int
    problem: str
    """Why the disk cannot be used now; empty when it can."""


class QueueStore:
    """Waiting announcements, history and usage in one SQLite file.

    One writer thread touches the file; no method waits for the disk, except those one awaits.
    Trouble with the disk never stops the store: rows are refused until it is fine again.
    `on_found` is told about entries that came to light after `open` had returned.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        on_found: Callable[[list[Entry]], None] = lambda entries: None,
        boot_id: str | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        self._path, self._clock, self._on_found = path, clock, on_found
        self._boot_id = this_boot() if boot_id is None else boot_id
        self._retry_s = retry_s
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        self._entries: list[Entry] = []
        self._next_sequence = 0
        self._keys: set[tuple[str, str]] = set()
        """What has a row, may have one, or will have one soon."""
        self._recent = RecentEnds()
        self._usage = UsageBook()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- opening and closing ---------------------------------------------------------------

    async def open(self) -> None:
        """Load what an earlier run left.

        Raises StorageError if another process uses the file, and for nothing else: without a
        usable disk `problem` says why, and the store works in memory.
        """
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._opened.add_done_callback(_look_at_result)  # it may come after the timeout
        self._writer = Writer(
            self._path,
            self._clock,
            boot_id=self._boot_id,
            retry_s=self._retry_s,
            post=self._post,
            on_found=self._take_up,
            on_opened=self._settle_opening,
        )
        self._writer.start()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.shield(self._opened)
        except InUseError:
            self._writer = None
            raise
        except TimeoutError:
            self._opened.cancel()
            logger.warning("%s is slow to open; starting without what it holds", self._path)

    async def close(self, timeout_s: float = 2.0) -> None:
        """Write what is still in memory and let the file go; a hanging disk is left to itself."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        writer.close()
        if not await asyncio.to_thread(writer.join, timeout_s):
            logger.warning("%s is slow; its last changes may be lost", self._path)

    # --- what waits ---------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """What an earlier run left, in order of arrival, its times on this boot's clock."""
        return list(self._entries)

    @property
    def next_sequence(self) -> int:
        """The first sequence number after all that were loaded."""
        return self._next_sequence

    def put(self, entries: Entry | Iterable[Entry]) -> asyncio.Future[None]:
        """Write entries down, over older rows of theirs; await it to know that they are durable.

        They are handed over at once, in order with calls of `end`. The result is StorageError if
        they are in memory only, UnstorableError if that would be so on any disk.
        """
        chosen = (entries,) if isinstance(entries, Entry) else tuple(entries)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever does not wait for it does not care; the trouble is logged in any case.
        future.add_done_callback(_look_at_result)

        def done(problem: BridgeError | None) -> None:
            if future.done():
                return  # whoever waited was cancelled
            if problem is None:
                future.set_result(None)
            else:
                future.set_exception(problem)

        try:
            stamp = Stamp(self._boot_id, self._clock.now())
            # One row that cannot be written would spoil the whole group of others.
            rows = tuple(entry_row(entry, stamp) for entry in chosen)
        except ValueError as error:
            done(UnstorableError(f"cannot be stored: {error}"))
            return future
        if not chosen:
            done(None)
        elif self._writer is None:
            done(StorageError("the queue file is closed"))
        elif self._writer.hand_over(Put(chosen, rows, done), hurry=True):
            self._keys.update(entry.key for entry in chosen)
        else:
            done(StorageError("the disk is too slow: too many rows wait for it"))
        return future

    def end(self, report: Report) -> None:
        """An announcement has its outcome: forget its row, remember how it ended.

        Without a row nothing is written now; the next transaction takes it along.
        """
        if not report.is_outcome:
            raise ValueError(f"not an outcome: {report.event}")
        brief = shortened(report)
        self._recent.add(brief)
        self._end_row(End(brief))

    # --- what was -------------------------------------------------------------------------------

    def ended(self, announcement_id: str, zone: str) -> Report | None:
        """How that announcement ended within the last day, its text cut short."""
        return self._recent.get(announcement_id, zone, self._clock.now())

    def history(self, limit: int = 100) -> list[Report]:
        """The last outcomes, newest first, their texts cut short."""
        return self._recent.newest(limit)

    def add_usage(
        self,
        day: datetime.date,
        *,
        characters: int = 0,
        audio_s: float = 0.0,
        cost_cents: float = 0.0,
        requests: int = 0,
    ) -> None:
        """Count speech that was bought; written along with the next transaction."""
        usage = DayUsage(
            day=day,
            characters=characters,
            audio_s=audio_s,
            cost_cents=cost_cents,
            requests=requests,
        )
        self._usage.add(usage)
        if self._writer is not None:
            self._writer.hand_over(usage, hurry=False)

    def usage(self, days: int = 30) -> list[DayUsage]:
        """The last days on which speech was bought, newest first."""
        return self._usage.newest(days)

    # --- how it does ----------------------------------------------------------------------------

    @property
    def set_aside(self) -> str:
        """Why, and to which name, a damaged file was moved in this run; empty if none was."""
        return self._writer.figures.set_aside if self._writer else ""

    @property
    def problem(self) -> str:
        """Why the disk cannot be used now; empty when it can."""
        return self._writer.figures.problem if self._writer else ""

    @property
    def status(self) -> StoreStatus:
        """Figures for health."""
        if self._writer is None:
            return StoreStatus(0, 0, 0, 0, 0, "closed")
        figures = self._writer.figures
        return StoreStatus(
            rows=figures.rows,
            handed_over=self._writer.handed_over,
            commits=figures.commits,
            bytes_written=figures.bytes_written,
            broken_rows=figures.broken_rows,
            problem=figures.problem,
        )

    async def alive(self, timeout_s: float = 5.0) -> bool:
        """Whether the writer thread answers within `timeout_s` (s); a broken disk is no reason."""
        answered = asyncio.Event()
        if self._writer is None or not self._writer.hand_over(Ping(answered.set), hurry=True):
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await answered.wait()
        except TimeoutError:
            return False
        return True

    # --- called by the thread, on the event loop -----------------------------------------------

    def _post(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _settle_opening(self, error: InUseError | None) -> None:
        assert self._opened is not None
        if self._opened.done():
            if error is not None:
                self._writer = None
                logger.error("what waits is kept in memory only: %s", error)
        elif error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _end_row(self, end: End) -> None:
        has_row = end.key in self._keys
        self._keys.discard(end.key)
        if self._writer is not None:
            self._writer.hand_over(end, hurry=has_row)

    def _take_up(self, loaded: Loaded) -> None:
        self._recent.add_older(loaded.reports)
        for usage in loaded.usage:
            self._usage.add(usage)
        self._keys.update(entry.key for entry in loaded.entries)
        for entry in loaded.entries:
            self._next_sequence = max(self._next_sequence, entry.sequence + 1)
        if self._opened is not None and not self._opened.done():
            self._entries = loaded.entries
        else:
            self._take_up_late(loaded.entries)

    def _take_up_late(self, entries: list[Entry]) -> None:
        fresh = []
        for entry in entries:
            known = self.ended(*entry.key)
            received_s = entry.announcement.received.monotonic_s
            if known is None or known.at.monotonic_s < received_s:
                fresh.append(entry)
            else:
                # The broker sent it again while the disk was away.
                self._end_row(End(known))
        if fresh:
            self._on_found(fresh)


def _look_at_result(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
