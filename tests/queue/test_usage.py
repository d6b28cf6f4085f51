from __future__ import annotations

import datetime

from kugel_bridge.queue.usage import KEPT_DAYS, DayUsage, UsageBook

FIRST = datetime.date(2026, 1, 1)


def test_only_so_many_days_are_kept_and_the_newest_come_first() -> None:
    book = UsageBook()
    assert not book
    for n in range(KEPT_DAYS + 3):
        book.add(DayUsage(day=FIRST + datetime.timedelta(n), characters=n))
    days = book.newest(10_000)
    assert len(days) == KEPT_DAYS
    assert days[0].characters == KEPT_DAYS + 2
    assert days[-1].characters == 3


def test_figures_of_one_day_add_up() -> None:
    book = UsageBook()
    for _ in range(2):
        book.add(DayUsage(day=FIRST, characters=2, audio_s=1.5, cost_cents=0.5, requests=1))
    assert book.newest(1) == [
        DayUsage(day=FIRST, characters=4, audio_s=3.0, cost_cents=1.0, requests=2)
    ]
    book.clear()
    assert not book
