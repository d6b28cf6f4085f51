from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kugel_bridge.model.clock import Instant
from kugel_bridge.model.report import Outcome, SourceKind
from kugel_bridge.queue import rows
from kugel_bridge.queue.queuefile import connect, prepare
from kugel_bridge.queue.recent import KEPT_REPORTS
from kugel_bridge.queue.stamp import Stamp
from kugel_bridge.queue.usage import DayUsage
from tests.queue.entries import START, entry, finished

NOW = Stamp("boot", START)


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    prepare(connection, path)
    yield connection
    connection.close()


def test_an_entry_is_written_over_the_older_row_of_its_id_and_zone(
    connection: sqlite3.Connection,
) -> None:
    old, new, other = entry(1, id="x"), entry(5, id="x"), entry(2, id="x", zone="kitchen")
    rows.save_entry_rows(connection, [rows.entry_row(one, NOW) for one in (old, new, other)])
    assert rows.load_entries(connection, NOW) == ([other, new], [])
    rows.delete_entries(connection, [new.key, ("nobody", "hall")])
    assert rows.load_entries(connection, NOW) == ([other], [])


@pytest.mark.parametrize(
    "bad", [entry(1, id="\udcff"), entry(1, zone="\ud800"), entry(1, tag="\ud800"), entry(2**63)]
)
def test_what_sqlite_would_refuse_is_a_value_error(bad: object) -> None:
    with pytest.raises(ValueError, match=r"surrogates|too large"):
        rows.entry_row(bad, NOW)  # type: ignore[arg-type]


def test_a_report_comes_back_with_all_its_facts(connection: sqlite3.Connection) -> None:
    report = finished(
        entry(1, tag="t", delivery="m"),
        Instant(START.wall_s + 3, START.monotonic_s + 3),
        reason="why",
        source=SourceKind.CLOUD,
        queued_ms=1,
        first_sound_ms=2,
        duration_ms=3,
        characters=4,
        attempts=5,
    )
    rows.save_reports(connection, [report], "boot")
    assert rows.load_reports(connection, NOW) == [report]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_can_be_history(connection: sqlite3.Connection, outcome: Outcome) -> None:
    report = replace(finished(entry(1), source=None), event=outcome)
    rows.save_reports(connection, [report], "boot")
    assert rows.load_reports(connection, NOW) == [report]


def test_the_history_keeps_the_newest(connection: sqlite3.Connection) -> None:
    rows.save_reports(connection, [finished(entry(n)) for n in range(KEPT_REPORTS + 7)], "boot")
    kept = rows.load_reports(connection, NOW)
    assert len(kept) == KEPT_REPORTS
    assert kept[0].announcement.id == "a7"


def test_usage_of_a_day_adds_up(connection: sqlite3.Connection) -> None:
    day = datetime.date(2027, 1, 11)
    usage = DayUsage(day=day, characters=1, audio_s=0.5, cost_cents=0.25, requests=1)
    rows.add_usage(connection, [usage])
    rows.add_usage(connection, [usage])
    assert rows.load_usage(connection) == [usage + usage]


def test_unreadable_rows_move_to_their_own_table(connection: sqlite3.Connection) -> None:
    rows.save_entry_rows(connection, [rows.entry_row(entry(n), NOW) for n in (1, 2)])
    connection.execute("UPDATE waiting SET announcement = '[]' WHERE id = 'a1'")
    entries, broken = rows.load_entries(connection, NOW)
    assert entries == [entry(2)]
    assert [row.id for row in broken] == ["a1"]
    rows.set_rows_aside(connection, broken, NOW)
    assert rows.load_entries(connection, NOW) == ([entry(2)], [])
    kept = connection.execute("SELECT id, announcement FROM broken").fetchall()
    assert [tuple(row) for row in kept] == [("a1", "[]")]
