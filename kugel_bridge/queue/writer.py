"""The one thread that writes the queue file, in groups.

Whatever waits at a moment goes into one transaction, because a commit costs an SD card tens of
milliseconds whether it holds one row or a thousand. Without a usable disk the thread refuses
rows, keeps in mind which ones have to go, and looks for the disk again now and then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.report import Report
from kugel_bridge.queue.disk import Disk
from kugel_bridge.queue.queuefile import InUseError
from kugel_bridge.queue.recent import KEPT_REPORTS
from kugel_bridge.queue.usage import KEPT_DAYS, DayUsage, UsageBook
from kugel_bridge.queue.work import Change, End, Figures, Loaded, Ping, Put, Work

logger = logging.getLogger(__name__)

MAX_HANDED_OVER = 50_000
"""Rows and outcomes that may wait for a slow disk; some 50 MB."""
WAKE_AT = 500
"""So much work that is in no hurry wakes the thread, which keeps only the newest in mind."""
USAGE_FLUSH_S = 600.0
"""Usage that no other transaction took along is written after so long (s)."""

Call = Callable[[], None]


class Writer:
    """Hands work from the event loop to the thread.

    `post` runs a function on the event loop. There `on_found` is told what lay in the file, and
    `on_opened` that the first opening is over, with the error if another process has the file.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        boot_id: str,
        retry_s: float,
        post: Callable[[Call], None],
        on_found: Callable[[Loaded], None],
        on_opened: Callable[[InUseError | None], None],
    ) -> None:
        self.figures = Figures()
        self._post, self._on_opened, self._retry_s = post, on_opened, retry_s
        self._work: deque[Work] = deque()
        self._load = 0
        self._condition = threading.Condition()
        self._awake = False
        self._closing = False
        # A daemon thread: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="queue writer", daemon=True)
        # From here on, what only the thread touches.
        self._disk = Disk(
            path,
            clock,
            boot_id=boot_id,
            retry_s=retry_s,
            figures=self.figures,
            on_found=lambda loaded: post(partial(on_found, loaded)),
        )
        self._unended: list[Change] = []
        """Ends whose rows could not be deleted yet."""
        self._reports: deque[Report] = deque(maxlen=KEPT_REPORTS)
        """Outcomes without a row, for the next transaction."""
        self._usage = UsageBook()
        self._flush_at_s = time.monotonic() + USAGE_FLUSH_S

    # --- called from the event loop --------------------------------------------------------

    @property
    def handed_over(self) -> int:
        """Rows and outcomes the thread has not looked at."""
        return self._load

    def start(self) -> None:
        """Open the file, in the thread."""
        self._thread.start()

    def hand_over(self, work: Work, *, hurry: bool) -> bool:
        """Give work to the thread; False if it has too much already. Never waits for the disk."""
        # The end of something that has a row is never refused: it would be spoken again.
        must = hurry and isinstance(work, End)
        load = len(work.entries) if isinstance(work, Put) else 1
        with self._condition:
            if self._closing or (self._load + load > MAX_HANDED_OVER and not must):
                return False
            self._work.append(work)
            self._load += load
            if hurry or len(self._work) >= WAKE_AT:
                self._awake = True
                self._condition.notify()
        return True

    def close(self) -> None:
        """Let the thread finish its work and end."""
        with self._condition:
            self._closing = True
            self._condition.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread has ended; False if it has not within `timeout_s` (s)."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._disk.open()
        except InUseError as error:
            self.close()
            self._answer(self._next_batch()[0], error)
            self._post(partial(self._on_opened, error))
            return
        self._post(partial(self._on_opened, None))
        self._disk.reserve()
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            try:
                self._handle(batch, closing)
            # The outermost loop of this thread: whatever happens, the next batch gets its chance.
            except Exception as error:
                logger.exception("the queue writer failed at a batch of %s", len(batch))
                self._answer(batch, StorageError(f"a fault in kugel-bridge: {error}"))
        self._disk.close()

    def _next_batch(self) -> tuple[list[Work], bool]:
        """All work there is, once some of it is in a hurry or it is time for a look."""
        trouble = self._unended or self.figures.problem
        with self._condition:
            self._condition.wait_for(
                lambda: self._awake or self._closing,
                timeout=self._retry_s if trouble else self._flush_at_s - time.monotonic(),
            )
            self._awake = False
            batch = list(self._work)
            self._work.clear()
            self._load = 0
            return batch, self._closing

    def _handle(self, batch: list[Work], closing: bool) -> None:
        """Write what has to be written now, and keep the rest in mind."""
        changes, due = self._sorted(batch), time.monotonic() >= self._flush_at_s
        if due:
            self._flush_at_s = time.monotonic() + USAGE_FLUSH_S
        worth_it = (closing and self._reports) or ((closing or due) and self._usage)
        problem = None
        if changes or worth_it:
            problem = self._write(changes)
        elif self.figures.problem:
            problem = self._write([])  # is the disk fine again?
        self._answer(batch, problem)

    def _sorted(self, batch: list[Work]) -> list[Change]:
        """The changes of rows, in order; outcomes without a row, and usage, are noted."""
        changes = list(self._unended)
        fresh: set[tuple[str, str]] = set()
        for work in batch:
            match work:
                case Put():
                    fresh.update(entry.key for entry in work.entries)
                    changes.append(work)
                case End():
                    if work.key in fresh or work.key in self._disk:
                        changes.append(work)
                    else:
                        self._reports.append(work.report)
                case DayUsage():
                    self._usage.add(work)
        return changes

    def _write(self, changes: list[Change]) -> StorageError | None:
        try:
            self._disk.write(changes, self._reports, self._usage.newest(KEPT_DAYS))
        except StorageError as error:
            ends = [change for change in changes if isinstance(change, End)]
            self._unended = [end for end in ends if end.key in self._disk]
            self._reports.extend(end.report for end in ends if end.key not in self._disk)
            return error
        self._unended.clear()
        self._reports.clear()
        self._usage.clear()
        return None

    def _answer(self, batch: Iterable[Work], problem: StorageError | None) -> None:
        """Tell all who wait, in one hop to the event loop."""
        calls: list[Call] = []
        for work in batch:
            if isinstance(work, Put):
                calls.append(partial(work.done, problem))
            elif isinstance(work, Ping):
                calls.append(work.done)
        if calls:
            self._post(partial(_call, calls))


def _call(calls: Iterable[Call]) -> None:
    for call in calls:
        call()
