"""The queue file as the writer thread sees it: opened again and again, whatever becomes of it."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kugel_bridge.model.clock import Clock
from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.report import Report
from kugel_bridge.queue import rows
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.queuefile import (
    DamagedError,
    InUseError,
    Lock,
    connect,
    explained,
    is_damage,
    open_read_only,
    prepare,
    reserve_space,
    set_aside,
    transaction,
)
from kugel_bridge.queue.stamp import Stamp
from kugel_bridge.queue.usage import DayUsage
from kugel_bridge.queue.work import Change, End, Figures, Loaded, Put

logger = logging.getLogger(__name__)

WARN_EVERY_S = 3600.0
"""A disk that stays unusable is worth one line an hour (s)."""
COMMIT_BYTES = 8 * 1024
"""What a commit writes beside its rows, about: an index page and a page of the log."""
PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})
"""Troubles after which the same connection goes on; others may need a fresh one."""


class Disk:
    """Writes changes, and says in `figures` how it goes; for one thread.

    `on_found` is told what lay in the file each time it was opened, without what is known.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        boot_id: str,
        retry_s: float,
        figures: Figures,
        on_found: Callable[[Loaded], None],
    ) -> None:
        self._path, self._clock, self._boot_id = path, clock, boot_id
        self._retry_s, self._figures, self._on_found = retry_s, figures, on_found
        self._lock = Lock(path)
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._known: dict[tuple[str, str], Entry] = {}
        """What is in the table, or was when there was a disk."""
        self._loaded_past = False
        # Monotonic seconds of the real clock: a disk recovers in real time.
        self._next_try_s = 0.0
        self._next_warning_s = 0.0

    def __contains__(self, key: object) -> bool:
        """Whether there is a row for that announcement id and zone."""
        return key in self._known

    def open(self) -> None:
        """Open the file for the first time; raises InUseError, and for nothing else.

        When it cannot be written, what can be read of it is found nevertheless.
        """
        try:
            self._connected()
        except InUseError:
            raise
        except (StorageError, sqlite3.Error, OSError) as error:
            self._failed(error)
            self._salvage()

    def reserve(self) -> None:
        """Keep some space for rows that come while the disk is full."""
        if self._connection is not None:
            reserve_space(self._connection, self._path)

    def write(
        self, changes: Sequence[Change], reports: Sequence[Report], usage: Sequence[DayUsage]
    ) -> None:
        """Make all of it durable in one transaction, changes in their order.

        Raises StorageError, and then nothing of it is written.
        """
        try:
            try:
                self._write(changes, reports, usage)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                # Opening it again finds the damage, moves the file aside and fills a new one.
                self._disconnect()
                self._next_try_s = 0.0
                self._write(changes, reports, usage)
        except (StorageError, sqlite3.Error, OSError) as error:
            self._failed(error)
            raise StorageError(self._figures.problem) from error
        self._remember(changes)
        self._worked()

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._disconnect()
        self._lock.release()

    # --- writing --------------------------------------------------------------------------

    def _write(
        self, changes: Sequence[Change], reports: Sequence[Report], usage: Sequence[DayUsage]
    ) -> None:
        connection = self._connected()
        written = COMMIT_BYTES
        with transaction(connection):
            for kind, group in itertools.groupby(changes, key=type):
                if kind is Put:
                    fresh = [row for c in group if isinstance(c, Put) for row in c.rows]
                    rows.save_entry_rows(connection, fresh)
                    written += sum(map(rows.size_of, fresh))
                else:
                    rows.delete_entries(connection, [c.key for c in group if isinstance(c, End)])
            ended = [change.report for change in changes if isinstance(change, End)]
            rows.save_reports(connection, [*reports, *ended], self._boot_id)
            rows.add_usage(connection, usage)
            if self._figures.problem:
                # An empty transaction would succeed on any disk.
                connection.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION}")
        self._figures.commits += 1
        self._figures.bytes_written += written

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Put):
                self._known.update((entry.key, entry) for entry in change.entries)
            else:
                self._known.pop(change.key, None)
        self._figures.rows = len(self._known)

    # --- opening ---------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        """The open file; raises StorageError without a look while the last one was just now."""
        if self._connection is not None and self._was_moved():
            logger.warning("%s was deleted or replaced; it is written anew", self._path)
            self._disconnect()
            self._next_try_s = 0.0
        if self._connection is None:
            now_s = time.monotonic()
            if now_s < self._next_try_s:
                raise StorageError(self._figures.problem or f"{self._path} is not open")
            self._next_try_s = now_s + self._retry_s
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            self._connection = self._opened()
            status = self._path.stat()
            self._inode = status.st_dev, status.st_ino
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        """A connection to a sound file that holds all rows it should; a damaged one makes way."""
        connection = connect(self._path)
        try:
            self._take_over(connection)
        except DamagedError as error:
            # Before closing, which would fold the log into the damaged file, or delete it.
            aside = set_aside(self._path, self._clock.now().wall_s)
            connection.close()
            self._figures.set_aside = f"{error}; it was moved to {aside}"
            logger.error("the queue starts empty: %s", self._figures.set_aside)  # noqa: TRY400 (the trace tells nothing)
        except BaseException:
            connection.close()
            raise
        else:
            return connection
        connection = connect(self._path)
        try:
            self._take_over(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_over(self, connection: sqlite3.Connection) -> None:
        """Check and load the file, set its unreadable rows aside, and put back what it lost."""
        prepare(connection, self._path)
        stamp = self._stamp()
        try:
            entries, broken = rows.load_entries(connection, stamp)
            loaded = self._past_of(connection, entries, stamp)
        except (sqlite3.DatabaseError, IndexError) as error:
            # A table or column that is missing spoils the file as much as a torn page.
            if is_damage(error) or getattr(error, "sqlite_errorcode", 1) == sqlite3.SQLITE_ERROR:
                raise DamagedError(f"{self._path} is damaged: {error}") from error
            raise
        found = {entry.key for entry in entries}
        lost = [entry for key, entry in self._known.items() if key not in found]
        if broken or lost:
            with transaction(connection):
                rows.set_rows_aside(connection, broken, stamp)
                rows.save_entry_rows(connection, (rows.entry_row(e, stamp) for e in lost))
        for row in broken:
            logger.error("the row of announcement %r is unreadable: %s", row.id, row.problem)
        self._figures.broken_rows += len(broken)
        self._found(loaded)

    def _salvage(self) -> None:
        """Find what can be read of a file that cannot be written, on a read-only disk for one."""
        try:
            connection = open_read_only(self._path)
            try:
                stamp = self._stamp()
                entries, _ = rows.load_entries(connection, stamp)
                loaded = self._past_of(connection, entries, stamp)
            finally:
                connection.close()
        except (StorageError, sqlite3.Error, OSError, IndexError) as error:
            logger.debug("nothing can be read of %s: %s", self._path, error)
            return
        self._found(loaded)

    def _past_of(
        self, connection: sqlite3.Connection, entries: list[Entry], stamp: Stamp
    ) -> Loaded:
        """The entries that are news, with history and usage the first time."""
        news = [entry for entry in entries if entry.key not in self._known]
        if self._loaded_past:
            return Loaded(news, [], [])
        return Loaded(news, rows.load_reports(connection, stamp), rows.load_usage(connection))

    def _found(self, loaded: Loaded) -> None:
        self._loaded_past = True
        self._known.update((entry.key, entry) for entry in loaded.entries)
        self._figures.rows = len(self._known)
        self._on_found(loaded)

    # --- trouble ------------------------------------------------------------------------------

    def _was_moved(self) -> bool:
        """Whether the open file has lost its name: rows in it would not be found again."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # the write will tell what is wrong
        return (status.st_dev, status.st_ino) != self._inode

    def _worked(self) -> None:
        if self._figures.problem:
            logger.info("the queue is written to %s again", self._path)
        self._figures.problem, self._next_warning_s = "", 0.0

    def _failed(self, error: Exception) -> None:
        problem = explained(error, self._path)
        now_s = time.monotonic()
        warn = now_s >= self._next_warning_s
        if warn:
            self._next_warning_s = now_s + WARN_EVERY_S
        logger.log(
            logging.WARNING if warn else logging.DEBUG,
            "what waits is kept in memory only: %s",
            problem,
        )
        self._figures.problem = problem
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in PASSING:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                logger.debug("closing %s: %s", self._path, error)
            self._connection = None

    def _stamp(self) -> Stamp:
        return Stamp(self._boot_id, self._clock.now())
