"""What the event loop hands to the writer thread, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kugel_bridge.model.errors import StorageError
from kugel_bridge.model.report import Report
from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.rows import Row
from kugel_bridge.queue.usage import DayUsage


@dataclass(frozen=True, slots=True)
class Put:
    """Rows to write; `done` is told the trouble, or None once they are durable."""

    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]
    done: Callable[[StorageError | None], None]


@dataclass(frozen=True, slots=True)
class End:
    """An outcome: its row goes, if it has one."""

    report: Report

    @property
    def key(self) -> tuple[str, str]:
        """Announcement id and zone: what its row is known by."""
        return self.report.announcement.id, self.report.zone


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks whether the thread is alive."""

    done: Callable[[], None]


Change = Put | End
Work = Put | End | Ping | DayUsage


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an earlier run left in the file."""

    entries: list[Entry]
    reports: list[Report]
    """Oldest first."""
    usage: list[DayUsage]


@dataclass(slots=True)
class Figures:
    """What became of the queue file in this run; written by the thread, read by anybody."""

    rows: int = 0
    commits: int = 0
    bytes_written: int = 0
    """An estimate, without what SQLite moves from its log to the main file."""
    broken_rows: int = 0
    """Rows that could not be read, and were moved to a table of their own."""
    problem: str = ""
    """Why the disk cannot be used now; empty when it can."""
    set_aside: str = ""
    """Why, and to which name, a file was moved; empty if none was."""
