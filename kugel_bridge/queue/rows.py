"""The tables of the queue file, and how values become rows and come back."""

from __future__ import annotations

import datetime
import json
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from kugel_bridge.model.announcement import Announcement, Priority, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, Report, SourceKind
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.recent import KEPT_REPORTS
from kugel_bridge.queue.stamp import Stamp
from kugel_bridge.queue.usage import KEPT_DAYS, DayUsage

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
KEPT_BROKEN = 100
MAX_INTEGER = 2**63 - 1
_MOST = 2**53
"""No count or number of ours comes near it; one that is larger was damaged, and those that follow
it would not fit into a row."""

# Times are monotonic seconds of the boot named in the row, unless the name says wall.
SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    id TEXT NOT NULL, zone TEXT NOT NULL, sequence INTEGER NOT NULL, announcement TEXT NOT NULL,
    deadline_s REAL NOT NULL, retry_at_s REAL NOT NULL, attempts INTEGER NOT NULL,
    resume_at INTEGER NOT NULL, reason TEXT NOT NULL,
    boot_id TEXT NOT NULL, saved_wall_s REAL NOT NULL, saved_s REAL NOT NULL,
    PRIMARY KEY (id, zone));
CREATE TABLE IF NOT EXISTS broken (
    number INTEGER PRIMARY KEY, id, zone, announcement, problem TEXT NOT NULL,
    found_wall_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, zone TEXT NOT NULL, outcome TEXT NOT NULL,
    boot_id TEXT NOT NULL, at_wall_s REAL NOT NULL, at_s REAL NOT NULL, details TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS usage (
    day TEXT PRIMARY KEY, characters INTEGER NOT NULL, audio_s REAL NOT NULL,
    cost_cents REAL NOT NULL, requests INTEGER NOT NULL);
"""

_SAVE_ENTRY = "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LOAD_ENTRIES = "SELECT rowid AS number, * FROM waiting ORDER BY sequence, rowid"
_BREAK_ENTRY = """
INSERT INTO broken SELECT NULL, id, zone, announcement, ?, ? FROM waiting WHERE rowid = ?"""
_SAVE_REPORT = "INSERT INTO history VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
_LOAD_REPORTS = "SELECT * FROM history ORDER BY number"
_ADD_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (day) DO UPDATE SET
    characters = characters + excluded.characters, audio_s = audio_s + excluded.audio_s,
    cost_cents = cost_cents + excluded.cost_cents, requests = requests + excluded.requests"""
_DETAILS = ("reason", "source", "queued_ms", "first_sound_ms", "duration_ms", "characters")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A waiting row that cannot be read."""

    number: int
    id: object
    problem: str


# --- what waits ---------------------------------------------------------------------------


def entry_row(entry: Entry, stamp: Stamp) -> Row:
    """The entry as a row; raises ValueError for what SQLite would refuse.

    It would refuse the whole group with it: text that is not Unicode, numbers over 64 bits.
    """
    text = entry.announcement.to_json()
    for part in (entry.announcement.id, entry.zone, entry.reason, text):
        part.encode()
    if max(entry.sequence, entry.attempts, entry.resume_at) > MAX_INTEGER:
        raise ValueError(f"a number of announcement {entry.announcement.id!r} is too large")
    return (
        *entry.key,
        entry.sequence,
        text,
        entry.deadline_s,
        entry.retry_at_s,
        entry.attempts,
        entry.resume_at,
        entry.reason,
        stamp.boot_id,
        stamp.at.wall_s,
        stamp.at.monotonic_s,
    )


def size_of(row: Row) -> int:
    """The bytes of a row, about."""
    return 64 + sum(len(value) for value in row if isinstance(value, str))


def save_entry_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write rows of `entry_row`, each over an older one of its id and zone."""
    connection.executemany(_SAVE_ENTRY, rows)


def delete_entries(connection: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Remove what no longer waits."""
    connection.executemany("DELETE FROM waiting WHERE id = ? AND zone = ?", keys)


def load_entries(connection: sqlite3.Connection, now: Stamp) -> tuple[list[Entry], list[BrokenRow]]:
    """What waits, in order of arrival, its times on the clock of `now`; and unreadable rows."""
    entries, broken = [], []
    for row in connection.execute(_LOAD_ENTRIES):
        try:
            entries.append(_entry(row, now))
        except (ValueError, TypeError, OverflowError) as error:
            broken.append(BrokenRow(row["number"], row["id"], str(error)))
    return entries, broken


def set_rows_aside(connection: sqlite3.Connection, broken: Iterable[BrokenRow], now: Stamp) -> None:
    """Move unreadable rows to a table of their own, for a person to look at."""
    for row in broken:
        problem = row.problem.encode("utf-8", "replace").decode()
        connection.execute(_BREAK_ENTRY, (problem, now.at.wall_s, row.number))
        connection.execute("DELETE FROM waiting WHERE rowid = ?", (row.number,))
    _keep_newest(connection, "broken", KEPT_BROKEN)


def _entry(row: sqlite3.Row, now: Stamp) -> Entry:
    text = str(row["announcement"])
    text.encode()  # bytes that are not UTF-8 were read as lone surrogates
    announcement = Announcement.from_json(text)
    if announcement.id != row["id"]:
        raise ValueError("the row's id is not its announcement's")
    saved_at = Instant(float(row["saved_wall_s"]), float(row["saved_s"]))
    shift_s = Stamp(row["boot_id"], saved_at).shift_s(now)
    received = replace(
        announcement.received, monotonic_s=announcement.received.monotonic_s + shift_s
    )
    retry_at_s = float(row["retry_at_s"])
    return Entry(
        announcement=replace(announcement, received=received),
        zone=str(row["zone"]),
        sequence=_counted(row["sequence"]),
        deadline_s=float(row["deadline_s"]) + shift_s,
        # 0 means now, on any clock.
        retry_at_s=retry_at_s + shift_s if retry_at_s else 0.0,
        attempts=_counted(row["attempts"]),
        resume_at=_counted(row["resume_at"]),
        reason=str(row["reason"]),
    )


def _counted(value: Any) -> int:
    count = int(value)
    if not 0 <= count <= _MOST:
        raise ValueError(f"{count} is no count")
    return count


# --- how it ended -----------------------------------------------------------------------


def save_reports(connection: sqlite3.Connection, reports: Iterable[Report], boot_id: str) -> None:
    """Add outcomes to the history, which keeps the last `KEPT_REPORTS`."""
    connection.executemany(_SAVE_REPORT, (_report_row(report, boot_id) for report in reports))
    _keep_newest(connection, "history", KEPT_REPORTS)


def load_reports(connection: sqlite3.Connection, now: Stamp) -> list[Report]:
    """The history, oldest first, its times on the clock of `now`."""
    reports = []
    for row in connection.execute(_LOAD_REPORTS):
        try:
            reports.append(_report(row, now))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            logger.debug("a row of the history cannot be read: %s", error)
    return reports


def _report_row(report: Report, boot_id: str) -> Row:
    announcement = report.announcement
    details: dict[str, Any] = {name: getattr(report, name) for name in _DETAILS}
    details |= {
        "attempts": report.attempts,
        "priority": announcement.priority,
        "text": announcement.text,
        "tag": announcement.tag,
        "delivery": announcement.delivery,
        "said": report.said,
        "received": [announcement.received.wall_s, announcement.received.monotonic_s],
    }
    return (
        # What is not Unicode becomes a question mark; refusing it would lose the whole group.
        announcement.id.encode("utf-8", "replace").decode(),
        report.zone.encode("utf-8", "replace").decode(),
        report.event.value,
        boot_id,
        report.at.wall_s,
        report.at.monotonic_s,
        json.dumps(details),
    )


def _report(row: sqlite3.Row, now: Stamp) -> Report:
    details = json.loads(row["details"])
    at = Instant(float(row["at_wall_s"]), float(row["at_s"]))
    shift_s = Stamp(row["boot_id"], at).shift_s(now)
    received = Instant(*map(float, details["received"]))
    announcement = Announcement(
        id=str(row["id"]),
        segments=(TextSegment(str(details["text"])),),
        received=replace(received, monotonic_s=received.monotonic_s + shift_s),
        priority=Priority(details["priority"]),
        tag=details["tag"],
        delivery=details["delivery"],
    )
    source = details["source"]
    return Report(
        event=Outcome(row["outcome"]),
        announcement=announcement,
        zone=str(row["zone"]),
        at=replace(at, monotonic_s=at.monotonic_s + shift_s),
        reason=details["reason"],
        source=None if source is None else SourceKind(source),
        queued_ms=details["queued_ms"],
        first_sound_ms=details["first_sound_ms"],
        duration_ms=details["duration_ms"],
        characters=int(details["characters"]),
        attempts=int(details["attempts"]),
        said=str(details.get("said", "")),
    )


# --- what it cost -----------------------------------------------------------------------


def add_usage(connection: sqlite3.Connection, usage: Iterable[DayUsage]) -> None:
    """Add to the figures of each day."""
    rows = [(u.day.isoformat(), u.characters, u.audio_s, u.cost_cents, u.requests) for u in usage]
    connection.executemany(_ADD_USAGE, rows)


def load_usage(connection: sqlite3.Connection) -> list[DayUsage]:
    """The figures of the last `KEPT_DAYS` days that had any."""
    found = []
    for row in connection.execute("SELECT * FROM usage ORDER BY day DESC LIMIT ?", (KEPT_DAYS,)):
        try:
            found.append(
                DayUsage(
                    day=datetime.date.fromisoformat(row["day"]),
                    characters=int(row["characters"]),
                    audio_s=float(row["audio_s"]),
                    cost_cents=float(row["cost_cents"]),
                    requests=int(row["requests"]),
                )
            )
        except (ValueError, TypeError, OverflowError) as error:
            logger.debug("a row of the usage table cannot be read: %s", error)
    return found


def _keep_newest(connection: sqlite3.Connection, table: str, count: int) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?",  # noqa: S608 (a constant of ours)
        (count,),
    )
