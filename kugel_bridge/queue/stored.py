"""The queue file for commands: a look at it beside the daemon, and clearing it without one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.report import Outcome, Report
from kugel_bridge.queue import rows
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.queuefile import (
    Lock,
    connect,
    explained,
    open_read_only,
    prepare,
    transaction,
)
from kugel_bridge.queue.stamp import Stamp, boot_id


def stored_entries(path: Path, clock: Clock | None = None) -> list[Entry]:
    """What waits on disk, in order of arrival; also while a daemon runs, which is not disturbed.

    Blocks for the disk. Raises StorageError if the file cannot be read.
    """
    if not path.exists():
        return []
    try:
        connection = open_read_only(path)
        try:
            return rows.load_entries(connection, _now(clock))[0]
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise StorageError(explained(error, path)) from error


def clear_stored(path: Path, clock: Clock | None = None) -> int:
    """End everything that waits on disk as skipped; returns how much that was.

    Blocks for the disk. Raises StorageError if the file cannot be written, or a daemon has it.
    """
    if not path.exists():
        return 0
    lock = Lock(path)
    try:
        lock.take()
        connection = connect(path)
        try:
            prepare(connection, path)
            now = _now(clock)
            entries, broken = rows.load_entries(connection, now)
            with transaction(connection):
                rows.set_rows_aside(connection, broken, now)
                rows.delete_entries(connection, [entry.key for entry in entries])
                rows.save_reports(connection, [_cleared(e, now) for e in entries], now.boot_id)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise StorageError(explained(error, path)) from error
    finally:
        lock.release()
    return len(entries)


def _now(clock: Clock | None) -> Stamp:
    return Stamp(boot_id(), (clock or SystemClock()).now())


def _cleared(entry: Entry, now: Stamp) -> Report:
    return Report(
        event=Outcome.SKIPPED,
        announcement=entry.announcement,
        zone=entry.zone,
        at=now.at,
        reason="cleared",
        attempts=entry.attempts,
    )
