from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.queue.policy import Entry
from kugel_bridge.queue.schedule import Schedule
from tests.queue.entries import entry

times = st.integers(0, 5).map(float)


@given(st.lists(times, max_size=20), st.data())
def test_a_schedule_agrees_with_sorting(retries: list[float], data: st.DataObject) -> None:
    entries = [entry(n, retry_at_s=time_s) for n, time_s in enumerate(retries)]
    schedule: Schedule[Entry] = Schedule(lambda one: one.retry_at_s)
    for one in data.draw(st.permutations(entries)):
        schedule.add(one)
    gone = data.draw(st.sets(st.sampled_from(entries))) if entries else set()
    for one in [*gone, *gone]:  # the second time it is not there
        schedule.discard(one)
    left = sorted((e for e in entries if e not in gone), key=lambda e: (e.retry_at_s, e.sequence))
    assert list(schedule) == left
    assert len(schedule) == len(left)
    assert schedule.until(2.0) == [one for one in left if one.retry_at_s <= 2.0]
    assert schedule.first_s() == (left[0].retry_at_s if left else math.inf)
    if left:
        assert schedule.first() is left[0]
        assert schedule.last() is left[-1]
