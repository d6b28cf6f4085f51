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


def test_of_more_new_connections_than_served_ones_the_oldest_goes() -> None:
    waiting = Waiting(3)
    idle, *new = (Noted() for _ in range(5))
    waiting.add_idle(idle)
    for each in new:
        waiting.add_new(each)
    assert [each.is_cut for each in (idle, *new)] == [False, True, True, False, False]


def test_idle_ones_go_for_new_ones_as_long_as_there_are_more_of_them() -> None:
    waiting = Waiting(4)
    idle, new = [Noted() for _ in range(4)], [Noted() for _ in range(4)]
    for each in idle:
        waiting.add_idle(each)
    for each in new:
        waiting.add_new(each)
    assert [each.is_cut for each in idle] == [True, True, False, False]
    assert [each.is_cut for each in new] == [True, True, False, False]


@given(st.lists(st.booleans(), max_size=30), st.integers(2, 8))
def test_whoever_comes_is_never_the_one_to_go(kinds: list[bool], most: int) -> None:
    waiting = Waiting(most)
    for is_new in kinds:
        newcomer = Noted()
        (waiting.add_new if is_new else waiting.add_idle)(newcomer)
        assert not newcomer.is_cut


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
