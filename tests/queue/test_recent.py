from __future__ import annotations

from dataclasses import replace

from kugel_bridge.model.clock import Instant
from kugel_bridge.queue.recent import KEPT_REPORTS, REMEMBERED_S, RecentEnds, shortened
from tests.queue.entries import START, entry, finished


def at(seconds: float) -> Instant:
    return Instant(START.wall_s + seconds, START.monotonic_s + seconds)


def test_the_newest_come_first_and_the_latest_of_an_id_counts() -> None:
    recent = RecentEnds()
    first, second = finished(entry(1), at(0)), finished(entry(1), at(5))
    recent.add(first)
    recent.add(finished(entry(2), at(1)))
    recent.add(second)
    assert [one.announcement.id for one in recent.newest(9)] == ["a1", "a2", "a1"]
    assert recent.get("a1", "hall", at(5)) is second
    assert recent.newest(1) == [second]


def test_only_so_many_are_kept() -> None:
    recent = RecentEnds()
    for n in range(KEPT_REPORTS + 5):
        recent.add(finished(entry(n)))
    assert len(recent) == KEPT_REPORTS
    assert recent.get("a4", "hall", START) is None
    assert recent.get("a5", "hall", START) is not None


def test_forgetting_an_old_end_keeps_a_newer_one_of_the_same_id() -> None:
    recent = RecentEnds()
    recent.add(finished(entry(0, id="x")))
    for n in range(1, KEPT_REPORTS):
        recent.add(finished(entry(n)))
    newer = finished(entry(9, id="x"))
    recent.add(newer)
    assert recent.get("x", "hall", START) is newer


def test_after_a_day_an_id_is_unknown_but_still_history() -> None:
    recent = RecentEnds()
    recent.add(finished(entry(1)))
    assert recent.get("a1", "hall", at(REMEMBERED_S)) is not None
    assert recent.get("a1", "hall", at(REMEMBERED_S + 1)) is None
    assert len(recent.newest(5)) == 1


def test_ends_of_an_earlier_run_are_older_than_all_known() -> None:
    recent = RecentEnds()
    now = finished(entry(1, id="x"), at(10))
    recent.add(now)
    recent.add_older([finished(entry(1, id="x"), at(1)), finished(entry(2), at(2))])
    assert recent.get("x", "hall", at(10)) is now
    assert [one.at for one in recent.newest(9)] == [at(10), at(2), at(1)]


def test_what_is_kept_of_an_announcement_tells_a_redelivery() -> None:
    one = entry(1, tag="door", delivery="message 7", voice="anna")
    kept = shortened(finished(one)).announcement
    assert kept == replace(one.announcement, voice=None)
