from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


# --- rows of another version, or of nobody ----------------------------------------------------

VALUES = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.binary(max_size=20)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
COLUMNS = ("id", "zone", "sequence", "announcement", "deadline_s", "retry_at_s", "attempts")
LATER_COLUMNS = ("resume_at", "reason", "boot_id", "saved_wall_s", "saved_s")
WISHES = (
    "segments", "received", "priority", "zones", "speed", "volume", "chime", "ttl_s", "repeat",
    "expires_at_s", "cache", "offline", "preempt", "reply_to", "delivery", "ignored", "of_later",
)  # fmt: skip


@contextlib.contextmanager
def three_rows() -> Iterator[sqlite3.Connection]:
    """A queue of its own for each example."""
    with tempfile.TemporaryDirectory() as folder:
        connection = connect(Path(folder) / "queue.db")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(rows.SCHEMA)
        rows.save_entry_rows(connection, [rows.entry_row(entry(n), NOW) for n in (1, 2, 3)])
        yield connection
        connection.close()


def check_that_the_others_load(connection: sqlite3.Connection) -> None:
    """Whatever the second row holds: it is set aside, or can be written again as it was read."""
    entries, broken = rows.load_entries(connection, NOW)
    others = [one for one in entries if one.announcement.id in ("a1", "a3")]
    assert sorted(others, key=lambda one: one.sequence) == [entry(1), entry(3)]
    read = [one for one in entries if one not in others]
    assert len(read) + len(broken) == 1
    rows.set_rows_aside(connection, broken, NOW)
    for one in read:
        row = rows.entry_row(one, NOW)
        rows.delete_entries(connection, [one.key])
        rows.save_entry_rows(connection, [row])
        assert one in rows.load_entries(connection, NOW)[0]


@given(st.sampled_from(COLUMNS + LATER_COLUMNS), VALUES)
@settings(deadline=None)
def test_whatever_a_column_holds_the_other_rows_load(column: str, value: object) -> None:
    with three_rows() as connection:
        connection.execute(f"UPDATE waiting SET {column} = ? WHERE id = 'a2'", (value,))
        check_that_the_others_load(connection)


@given(st.sampled_from(WISHES), JSON)
@settings(deadline=None)
def test_whatever_an_announcement_of_another_version_says_the_other_rows_load(
    wish: str, value: Any
) -> None:
    told = json.loads(entry(2).announcement.to_json()) | {wish: value}
    with three_rows() as connection:
        row = (json.dumps(told),)
        connection.execute("UPDATE waiting SET announcement = ? WHERE id = 'a2'", row)
        check_that_the_others_load(connection)


@given(JSON)
@settings(deadline=None)
def test_whatever_a_report_of_another_version_says_the_others_load(value: Any) -> None:
    with three_rows() as connection:
        rows.save_reports(connection, [finished(entry(n)) for n in (1, 2)], "boot")
        connection.execute("UPDATE history SET details = ? WHERE id = 'a1'", (json.dumps(value),))
        assert rows.load_reports(connection, NOW)[-1] == finished(entry(2))


@given(st.sampled_from(("id", "zone", "outcome", "boot_id", "at_wall_s", "at_s")), VALUES)
@settings(deadline=None)
def test_whatever_a_column_of_the_history_holds_the_others_load(column: str, value: object) -> None:
    with three_rows() as connection:
        rows.save_reports(connection, [finished(entry(n)) for n in (1, 2)], "boot")
        connection.execute(f"UPDATE history SET {column} = ? WHERE id = 'a1'", (value,))
        assert rows.load_reports(connection, NOW)[-1] == finished(entry(2))


@given(st.sampled_from(("characters", "attempts", "received", "text", "priority", "source")), JSON)
@settings(deadline=None)
def test_whatever_a_fact_of_a_report_says_the_others_load(name: str, value: Any) -> None:
    with three_rows() as connection:
        rows.save_reports(connection, [finished(entry(n)) for n in (1, 2)], "boot")
        (told,) = connection.execute("SELECT details FROM history WHERE id = 'a1'").fetchone()
        details = json.dumps(json.loads(told) | {name: value})
        connection.execute("UPDATE history SET details = ? WHERE id = 'a1'", (details,))
        assert rows.load_reports(connection, NOW)[-1] == finished(entry(2))


@given(st.sampled_from(("day", "characters", "audio_s", "cost_cents", "requests")), VALUES)
@settings(deadline=None)
def test_whatever_a_column_of_the_usage_holds_the_others_load(column: str, value: object) -> None:
    days = [datetime.date(2027, 1, 11), datetime.date(2027, 1, 12)]
    usage = [DayUsage(day=day, characters=1, requests=1) for day in days]
    with three_rows() as connection:
        rows.add_usage(connection, usage)
        connection.execute(
            f"UPDATE OR REPLACE usage SET {column} = ? WHERE day = '2027-01-11'", (value,)
        )
        assert usage[1] in rows.load_usage(connection) or value == "2027-01-12"
