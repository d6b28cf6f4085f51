"""The file of what each key has used, as its writer sees it: a row for each key and day."""

from __future__ import annotations

import datetime
import logging
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.queuefile import (
    DamagedError,
    Layout,
    Lock,
    connect,
    explained,
    is_damage,
    prepare,
    set_aside,
    transaction,
)
from kugel_bridge.queue.usage import KEPT_DAYS, DayUsage

logger = logging.getLogger(__name__)

Key = tuple[str, datetime.date]
"""An account, see access.Access.account, and a day."""

LAYOUT = Layout(
    schema="""
CREATE TABLE key_usage (
    account TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL,
    characters INTEGER NOT NULL, audio_s REAL NOT NULL, cost_cents REAL NOT NULL,
    PRIMARY KEY (account, day)) WITHOUT ROWID
""",
    version=1,
    setting="gateway.usage_path",
)
MAX_ROWS = 100_000
"""Read back at most: 250 keys for all days that are kept."""
_SAVE = "INSERT OR REPLACE INTO key_usage VALUES (?, ?, ?, ?, ?, ?)"
_LOAD = "SELECT * FROM key_usage ORDER BY day DESC LIMIT ?"
_FORGET = "DELETE FROM key_usage WHERE day < ?"


class UsageFile:
    """Rows of usage on disk; for one thread. Its methods raise StorageError, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock(path, LAYOUT.setting)
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def open(self) -> dict[Key, DayUsage] | None:
        """Open the file if it is not open; what lies in it, None if it was open already.

        A damaged file is moved aside and a new one begun; one that lost its name is begun anew.
        """
        try:
            if self._connection is not None and self._was_moved():
                logger.warning("%s was deleted or replaced; it is written anew", self._path)
                self._disconnect()
            if self._connection is not None:
                return None
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            found = self._opened()
            status = self._path.stat()
        except (StorageError, sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StorageError(explained(error, self._path)) from error
        self._inode = status.st_dev, status.st_ino
        return found

    def write(self, rows: Iterable[tuple[str, DayUsage]], forget_before: datetime.date) -> None:
        """Make all of it durable in one transaction, and drop the days before."""
        assert self._connection is not None
        try:
            with transaction(self._connection):
                self._connection.executemany(_SAVE, (_row(name, usage) for name, usage in rows))
                self._connection.execute(_FORGET, (forget_before.isoformat(),))
        except (sqlite3.Error, OSError) as error:
            # A full disk may have room again; after anything else a fresh look is needed.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                self._disconnect()
            raise StorageError(explained(error, self._path)) from error

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._disconnect()
        self._lock.release()

    def _opened(self) -> dict[Key, DayUsage]:
        connection = connect(self._path)
        try:
            return self._taken_over(connection)
        except DamagedError as error:
            # Before closing, which would fold the log into the damaged file, or delete it.
            aside = set_aside(self._path, time.time())
            connection.close()
            logger.error("usage is counted anew: %s; it was moved to %s", error, aside)  # noqa: TRY400 (the trace tells nothing)
        except BaseException:
            connection.close()
            raise
        connection = connect(self._path)
        try:
            return self._taken_over(connection)
        except BaseException:
            connection.close()
            raise

    def _taken_over(self, connection: sqlite3.Connection) -> dict[Key, DayUsage]:
        prepare(connection, self._path, LAYOUT)
        try:
            rows = connection.execute(_LOAD, (MAX_ROWS,)).fetchall()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise DamagedError(f"{self._path} is damaged: {error}") from error
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
                # Sound, but without our table: a queue file, for one, is not ours to move.
                raise StorageError(
                    f"{self._path} is the database of another program; set {LAYOUT.setting}"
                ) from error
            raise
        self._connection = connection
        return dict(_read(rows))

    def _was_moved(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # the write will tell what is wrong
        return (status.st_dev, status.st_ino) != self._inode

    def _disconnect(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                logger.debug("closing %s: %s", self._path, error)
            self._connection = None


def oldest_kept(days: Iterable[datetime.date]) -> datetime.date:
    """The first of the last `KEPT_DAYS` days that had any usage.

    Not so many days back from the newest: a clock that was wrong once would have emptied the file.
    """
    return sorted(set(days))[-KEPT_DAYS:][0]


def _row(account: str, usage: DayUsage) -> tuple[str, str, int, int, float, float]:
    return (
        account,
        usage.day.isoformat(),
        usage.requests,
        usage.characters,
        usage.audio_s,
        usage.cost_cents,
    )


def _read(rows: Iterable[sqlite3.Row]) -> Iterable[tuple[Key, DayUsage]]:
    for row in rows:
        try:
            usage = DayUsage(
                day=datetime.date.fromisoformat(row["day"]),
                requests=int(row["requests"]),
                characters=int(row["characters"]),
                audio_s=float(row["audio_s"]),
                cost_cents=float(row["cost_cents"]),
            )
        except (ValueError, TypeError) as error:
            logger.warning("a row of usage cannot be read and is left out: %s", error)
            continue
        yield (str(row["account"]), usage.day), usage
