"""Keeps what has to wait: writes it down in time, and tells the sender when it is safe.

A message is acknowledged when it was spoken or when its row is on the disk, whichever comes
first. What starts at once is never written. What waits is written after a moment, sooner if the
broker holds no copy of it, and at once when so much is unacknowledged that the broker would
soon deliver nothing more, not even a "stop".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from kugel_bridge.model.announcement import ReplyAddress
from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import StorageError, UnstorableError
from kugel_bridge.model.report import Report
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.store import QueueStore

logger = logging.getLogger(__name__)

WRITE_AFTER_S = 1.5
"""Most announcements are spoken by then, and cost the SD card nothing."""
WRITE_UNKEPT_AFTER_S = 0.2
"""The same for a message at QoS 0 or from a command: nobody else has a copy."""
RUSH_AT = 8
"""So many unsafe ones are written at once: Mosquitto stops delivering at 20 unacknowledged."""
RETRY_S = 5.0
"""Pause after the disk refused a write."""
RUSH_LASTS_S = 1.0
"""So long after that nothing waits for its moment: the last few of a flood would be left for it."""
MOST_AT_ONCE = 200
"""Making a row takes a Pi some 0.5 ms: thousands at once would hold up a "stop"."""
LAY_DOWN_S = 1.5
"""A hanging disk must not keep the program from ending."""

Settle = Callable[[], None]
"""Called once, when the sender may forget the announcement."""
Key = tuple[str, str]
"""Announcement id and zone."""
_Changing = tuple[int, tuple[ReplyAddress, ...]]
"""What of an entry changes while it waits, and matters after a restart."""


class Keeping:
    """The duties towards senders, for all zones."""

    def __init__(self, store: QueueStore, clock: Clock, *, retry_s: float = RETRY_S) -> None:
        self._store, self._clock, self._retry_s = store, clock, retry_s
        self._settlers: dict[Key, list[Settle]] = {}
        self._unwritten: dict[Key, tuple[Entry, float]] = {}
        """What waits without a row, and the monotonic time at which to write it."""
        self._written: dict[Key, _Changing] = {}
        """What has a row, and what it says."""
        self._given: dict[Key, Entry] = {}
        """What the disk was given last for each announcement that has not ended since."""
        self._wake = asyncio.Event()
        self._rush_until_s = 0.0
        self._failing = False

    @property
    def unsafe(self) -> int:
        """How many announcements only the broker and our memory hold."""
        return len(self._settlers)

    def owe(self, key: Key, settle: Settle) -> None:
        """Call `settle` when the announcement is safe or done."""
        if key in self._written:
            settle()
        else:
            self._settlers.setdefault(key, []).append(settle)

    def adopt(self, entries: Iterable[Entry]) -> None:
        """These entries came from the disk."""
        for entry in entries:
            self._written[entry.key] = _changing(entry)
            self._settle(entry.key)

    def watch(self, entry: Entry) -> None:
        """An entry has to wait: write it down in a moment."""
        key = entry.key
        if self._written.get(key) == _changing(entry):
            return  # its row says all that matters after a restart
        kept_by_broker = bool(entry.announcement.delivery)
        delay_s = WRITE_AFTER_S if kept_by_broker else WRITE_UNKEPT_AFTER_S
        at_s = self._clock.now().monotonic_s + delay_s
        if key in self._unwritten:
            at_s = min(at_s, self._unwritten[key][1])
        self._unwritten[key] = entry, at_s
        self._wake.set()

    def unwatch(self, entry: Entry) -> None:
        """An entry has its turn: no need to write it down."""
        self._unwritten.pop(entry.key, None)

    def ended(self, report: Report) -> None:
        """An announcement has its outcome."""
        key = report.announcement.id, report.zone
        self._unwritten.pop(key, None)
        self._written.pop(key, None)
        self._given.pop(key, None)
        self._store.end(report)
        self._settle(key)

    async def run(self) -> None:
        """Write down what has waited long enough, until cancelled."""
        while True:
            now_s = self._clock.now().monotonic_s
            if self.unsafe >= RUSH_AT:
                self._rush_until_s = now_s + RUSH_LASTS_S
            rush = now_s < self._rush_until_s
            due = [entry for entry, at_s in self._unwritten.values() if rush or at_s <= now_s]
            if due and not await self._write(due[:MOST_AT_ONCE]):
                await asyncio.sleep(self._retry_s)
            elif not due:
                first_s = min((at_s for _, at_s in self._unwritten.values()), default=None)
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if first_s is None else first_s - now_s):
                        await self._wake.wait()

    async def lay_down(self, entries: Iterable[Entry]) -> None:
        """Write down all entries that have no row yet, for the next run of the program."""
        fresh = [entry for entry in entries if self._written.get(entry.key) != _changing(entry)]
        try:
            async with asyncio.timeout(LAY_DOWN_S):
                await self._write(fresh)
        except TimeoutError:
            logger.warning("the disk is slow; what waits may be lost: %d", len(fresh))

    async def _write(self, entries: list[Entry]) -> bool:
        # One by one, so that an entry the disk refuses does not keep the others from it; the
        # store makes one transaction of them all the same.
        writes = [(entry, self._store.put(entry)) for entry in entries]
        self._given.update((entry.key, entry) for entry in entries)
        written, refused = [], 0
        for entry, write in writes:
            try:
                await write
            except UnstorableError as error:
                # Trying again would only keep the others waiting.
                logger.error("%s waits in memory only: %s", entry.announcement.id, error)  # noqa: TRY400 (the trace tells nothing)
                self._forget(entry)
            except StorageError as error:
                log = logger.debug if self._failing else logger.warning
                log("%s waits in memory only: %s", entry.announcement.id, error)
                self._failing = True
                refused += 1
            else:
                written.append(entry)
        self._failing = self._failing and refused > 0
        self._note(written)
        return not refused

    def _note(self, written: list[Entry]) -> None:
        """These are on disk: their senders may forget them."""
        for entry in written:
            key = entry.key
            if self._given.get(key) is not entry:
                continue  # it ended while it was written; its row is ended after it
            self._forget(entry)
            self._written[key] = _changing(entry)
            self._settle(key)

    def _forget(self, entry: Entry) -> None:
        held = self._unwritten.get(entry.key)
        if held is not None and held[0] is entry:
            del self._unwritten[entry.key]

    def _settle(self, key: Key) -> None:
        for settle in self._settlers.pop(key, ()):
            try:
                settle()
            except Exception:
                # One sender's trouble must not keep the others from being told.
                logger.exception("the sender of %s could not be told", key[0])


def _changing(entry: Entry) -> _Changing:
    return entry.resume_at, entry.announcement.reply_to
