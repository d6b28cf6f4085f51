"""Who has to go when too many wait; the rest of the reception is tested by those who attack it."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from kugel_bridge.gateway.cable import Cable
from kugel_bridge.gateway.reception import Deadline, Waiting


class Noted(Cable):
    """A cable that leads nowhere and knows when it was hung up."""

    def __init__(self) -> None:
        super().__init__(asyncio.Transport())
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True


def test_new_connections_go_before_those_that_were_served_and_the_oldest_first() -> None:
    waiting = Waiting(3)
    idle, *new = (Noted() for _ in range(5))
    waiting.add_idle(idle)
    for each in new:
        waiting.add_new(each)
    assert [each.is_cut for each in (idle, *new)] == [False, True, True, False, False]


def test_idle_connections_are_bounded_too() -> None:
    waiting = Waiting(2)
    idle = [Noted() for _ in range(3)]
    for each in idle:
        waiting.add_idle(each)
    assert [each.is_cut for each in idle] == [True, False, False]


def test_one_with_a_request_does_not_wait() -> None:
    waiting = Waiting(1)
    busy, other = Noted(), Noted()
    waiting.add_new(busy)
    waiting.remove(busy)
    waiting.add_new(other)
    assert (busy.is_cut, other.is_cut, len(waiting)) == (False, False, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["new", "idle", "remove"]), st.integers(0, 9))))
def test_there_are_never_more_than_may_be(steps: list[tuple[str, int]]) -> None:
    waiting = Waiting(3)
    cables = [Noted() for _ in range(10)]
    for step, number in steps:
        if step == "new":
            waiting.add_new(cables[number])
        elif step == "idle":
            waiting.add_idle(cables[number])
        else:
            waiting.remove(cables[number])
        assert len(waiting) <= 3


async def test_a_deadline_counts_from_its_first_beginning_and_can_be_called_off() -> None:
    first, second = Noted(), Noted()
    deadline = Deadline()
    deadline.begin(first, 0)
    deadline.begin(second, 0)
    await asyncio.sleep(0.001)
    assert (first.is_cut, second.is_cut) == (True, False)
    deadline.call_off()
    deadline.begin(second, 0)
    deadline.call_off()
    await asyncio.sleep(0.001)
    assert not second.is_cut
