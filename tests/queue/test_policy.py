from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kugel_bridge.model.announcement import Announcement, Priority, TextSegment
from kugel_bridge.model.clock import Instant
from kugel_bridge.queue.policy import (
    WALL_LOOK_S,
    Entry,
    WaitingList,
    entry_for,
    is_due,
    is_expired,
)
from tests.clock import ManualClock
from tests.queue.entries import START, entry

MONO = START.monotonic_s
WALL = START.wall_s


def filled(*entries: Entry, max_waiting: int = 100) -> WaitingList:
    waiting = WaitingList(max_waiting)
    for one in entries:
        waiting.add(one)
    return waiting


def numbers(entries: list[Entry] | WaitingList) -> list[int]:
    return [one.sequence for one in entries]


def taken(waiting: WaitingList, now: Instant = START) -> list[int]:
    found = []
    while (one := waiting.take(now)) is not None:
        found.append(one.sequence)
    return found


# --- order ------------------------------------------------------------------------------


def test_a_higher_level_goes_first_and_within_a_level_the_older() -> None:
    waiting = filled(
        entry(1, priority=Priority.LOW),
        entry(2),
        entry(3, priority=Priority.CRITICAL),
        entry(4),
        entry(5, priority=Priority.HIGH),
        entry(6, priority=Priority.STATUS),
    )
    assert numbers(waiting) == [3, 5, 2, 4, 1, 6]
    assert taken(waiting) == [3, 5, 2, 4, 1, 6]
    assert len(waiting) == 0


def test_an_entry_put_back_is_the_first_of_its_level_again() -> None:
    waiting = filled(entry(1), entry(2), entry(3))
    first = waiting.take(START)
    assert first is not None
    waiting.add(entry(4))
    waiting.add(first)
    assert taken(waiting) == [1, 2, 3, 4]


def test_peek_returns_the_very_entry_that_take_removes() -> None:
    one = entry(1)
    waiting = filled(one)
    assert waiting.peek(START) is one
    assert waiting.take(START) is one
    assert waiting.peek(START) is None


def test_the_list_knows_entries_and_ids() -> None:
    kitchen, hall = entry(1, id="x", zone="kitchen"), entry(2, id="x", zone="hall")
    waiting = filled(kitchen, hall)
    assert "x" in waiting
    assert kitchen in waiting
    assert entry(3) not in waiting
    assert "y" not in waiting
    assert waiting.get("x", "hall") is hall
    assert waiting.get("x", "cellar") is None
    assert waiting.remove_id("x") == [kitchen, hall]
    assert "x" not in waiting


def test_an_entry_with_a_known_id_and_zone_takes_the_place_of_the_old_one() -> None:
    waiting = filled(entry(1, id="x", tag="door"), entry(2))
    assert waiting.add(entry(1, id="x", deadline_s=MONO + 5)) == []
    assert len(waiting) == 2
    assert numbers(waiting.expired(Instant(WALL, MONO + 5))) == [1]
    # The old one's tag is forgotten.
    assert waiting.add(entry(3, tag="door")) == []


def test_remove_returns_what_matches_in_order() -> None:
    waiting = filled(entry(1, priority=Priority.LOW), entry(2), entry(3, priority=Priority.LOW))
    gone = waiting.remove(lambda one: one.announcement.priority is Priority.LOW)
    assert numbers(gone) == [1, 3]
    assert numbers(waiting) == [2]


# --- replacing and overflow ------------------------------------------------------------


def test_the_newer_with_the_same_tag_replaces_the_older_whatever_their_levels() -> None:
    old = entry(1, tag="washer", priority=Priority.CRITICAL)
    waiting = filled(old)
    new = entry(2, tag="washer")
    assert waiting.add(new) == [(old, new)]
    assert taken(waiting) == [2]


def test_a_tag_counts_in_its_own_zone_only() -> None:
    waiting = filled(entry(1, tag="washer", zone="hall"))
    assert waiting.add(entry(2, tag="washer", zone="kitchen")) == []


def test_a_newer_status_replaces_a_waiting_status() -> None:
    old = entry(1, priority=Priority.STATUS)
    waiting = filled(old, entry(2))
    new = entry(3, priority=Priority.STATUS)
    assert waiting.add(new) == [(old, new)]
    assert waiting.add(entry(4, priority=Priority.STATUS, zone="kitchen")) == []


def test_one_entry_may_replace_two() -> None:
    status, tagged = entry(1, priority=Priority.STATUS), entry(2, tag="t")
    waiting = filled(status, tagged)
    gone = waiting.add(entry(3, priority=Priority.STATUS, tag="t"))
    assert {one.sequence for one, _ in gone} == {1, 2}
    assert numbers(waiting) == [3]


def test_an_entry_put_back_gives_way_to_the_newer_one_that_came_meanwhile() -> None:
    old, new = entry(1, tag="t"), entry(2, tag="t")
    waiting = filled(old)
    waiting.take(START)
    waiting.add(new)
    assert waiting.add(old) == [(old, new)]
    assert taken(waiting) == [2]


def test_a_full_list_drops_the_newest_of_the_lowest_level() -> None:
    waiting = filled(
        entry(1, priority=Priority.LOW), entry(2, priority=Priority.LOW), entry(3), max_waiting=3
    )
    gone = waiting.add(entry(4))
    assert [(one.sequence, newer) for one, newer in gone] == [(2, None)]
    assert numbers(waiting) == [3, 4, 1]


def test_a_full_list_may_refuse_the_one_that_comes() -> None:
    waiting = filled(entry(1), entry(2), max_waiting=2)
    late = entry(3, priority=Priority.LOW)
    assert waiting.add(late) == [(late, None)]
    assert late not in waiting


def test_critical_is_never_dropped_for_a_lower_level() -> None:
    critical = [entry(n, priority=Priority.CRITICAL) for n in (1, 2)]
    waiting = filled(*critical, max_waiting=2)
    late = entry(3, priority=Priority.HIGH)
    assert waiting.add(late) == [(late, None)]
    assert list(waiting) == critical


def test_replacing_makes_room_before_anything_is_dropped() -> None:
    old, new = entry(1, tag="t"), entry(3, tag="t")
    waiting = filled(old, entry(2), max_waiting=2)
    assert waiting.add(new) == [(old, new)]
    assert len(waiting) == 2


def test_a_list_without_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="room"):
        WaitingList(0)


# --- time -----------------------------------------------------------------------------------


def test_an_announcement_lives_as_long_as_it_says_else_as_its_level() -> None:
    def fresh(ttl_s: float | None) -> Announcement:
        return Announcement(
            id="a", segments=(TextSegment("x"),), received=Instant(WALL, 100.0), ttl_s=ttl_s
        )

    assert entry_for(fresh(5.0), "hall", 7, 60.0).deadline_s == 105.0
    assert entry_for(fresh(None), "hall", 7, 60.0).deadline_s == 160.0
    assert entry_for(fresh(None), "hall", 7, None).deadline_s == math.inf
    assert entry_for(fresh(None), "hall", 7, None).sequence == 7


def test_age_is_counted_on_the_monotonic_clock() -> None:
    one = entry(1, deadline_s=MONO + 10)
    assert not is_expired(one, Instant(WALL + 86_400, MONO + 9.9))
    assert is_expired(one, Instant(WALL - 86_400, MONO + 10))


def test_an_end_named_by_the_caller_is_wall_time() -> None:
    one = entry(1, expires_at_s=WALL + 10)
    assert not is_expired(one, Instant(WALL + 9.9, MONO))
    assert is_expired(one, Instant(WALL + 10, MONO))


def test_a_beginning_named_by_the_caller_is_wall_time_and_a_retry_monotonic() -> None:
    one = entry(1, not_before_s=WALL + 10, retry_at_s=MONO + 5)
    assert not is_due(one, Instant(WALL + 20, MONO))
    assert not is_due(one, Instant(WALL, MONO + 20))
    assert is_due(one, Instant(WALL + 10, MONO + 5))


def test_what_is_not_due_lets_others_pass() -> None:
    waiting = filled(
        entry(1, priority=Priority.HIGH, retry_at_s=MONO + 5),
        entry(2, not_before_s=WALL + 3),
        entry(3),
    )
    assert taken(waiting) == [3]
    assert taken(waiting, Instant(WALL + 3, MONO + 3)) == [2]
    assert taken(waiting, Instant(WALL + 5, MONO + 5)) == [1]


def test_a_wall_clock_set_back_makes_an_entry_wait_again() -> None:
    waiting = filled(entry(1, not_before_s=WALL + 10))
    assert waiting.peek(Instant(WALL + 10, MONO)) is not None
    assert waiting.take(Instant(WALL - 10, MONO)) is None
    assert taken(waiting, Instant(WALL + 10, MONO)) == [1]


def test_an_expired_entry_is_never_taken() -> None:
    waiting = filled(entry(1, deadline_s=MONO), entry(2, not_before_s=WALL), entry(3))
    assert taken(waiting) == [2, 3]
    assert numbers(waiting.expired(START)) == [1]
    assert waiting.expired(START) == []


def test_expired_entries_come_in_order_whichever_clock_ended_them() -> None:
    waiting = filled(
        entry(1, expires_at_s=WALL), entry(2, deadline_s=MONO), entry(3, deadline_s=MONO + 1)
    )
    assert numbers(waiting.expired(START)) == [1, 2]
    assert numbers(waiting) == [3]


def test_nothing_wakes_an_empty_list_nor_one_whose_entries_are_all_due() -> None:
    assert WaitingList(5).next_wake(START) is None
    # A paused zone sleeps although something is due.
    assert filled(entry(1)).next_wake(START) is None


@pytest.mark.parametrize(
    ("one", "wait_s"),
    [
        (entry(1, retry_at_s=MONO + 7), 7),
        (entry(1, deadline_s=MONO + 8), 8),
        (entry(1, not_before_s=WALL + 9), 9),
        (entry(1, expires_at_s=WALL + 10), 10),
        (entry(1, deadline_s=MONO - 8), 0),
        (entry(1, retry_at_s=math.inf), None),
        (entry(1, not_before_s=WALL + 9_999), WALL_LOOK_S),
    ],
)
def test_the_list_says_when_to_look_again(one: Entry, wait_s: float | None) -> None:
    assert filled(one).next_wake(START) == wait_s


@pytest.mark.parametrize(
    "times",
    [{"deadline_s": math.nan}, {"retry_at_s": math.nan}, {"expires_at_s": math.nan}],
)
def test_a_time_that_is_not_a_number_is_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a number"):
        entry(1, **times)


def test_ten_thousand_entries_are_quick() -> None:
    """Looking through all of them at each step would take minutes, and hit the test's timeout."""
    count = 10_000
    waiting = filled(
        *(entry(n, retry_at_s=MONO + n % 2, deadline_s=MONO + 100 + n) for n in range(count)),
        max_waiting=count,
    )
    for clock_s in (0, 1):
        now = Instant(WALL, MONO + clock_s)
        while waiting.take(now) is not None:
            waiting.expired(now)
            waiting.next_wake(now)
    assert len(waiting) == 0


# --- against a model ------------------------------------------------------------------------

times = st.integers(-3, 8)


class AgreesWithASortedList(RuleBasedStateMachine):
    """Random operations on the list and on the plainest thing that could be right."""

    MAX = 5

    def __init__(self) -> None:
        super().__init__()
        self.waiting = WaitingList(self.MAX)
        self.model: list[Entry] = []
        self.clock = ManualClock(0.0, 0.0)
        self.sequence = 0
        self.away: list[Entry] = []

    def model_add(self, new: Entry) -> set[tuple[tuple[str, str], str]]:
        self.model = [one for one in self.model if one.key != new.key]
        rivals = [
            one
            for one in self.model
            if one.zone == new.zone
            and (
                (new.announcement.tag is not None and one.announcement.tag == new.announcement.tag)
                or new.announcement.priority is one.announcement.priority is Priority.STATUS
            )
        ]
        if any(one.sequence > new.sequence for one in rivals):
            return {(new.key, "replaced")}
        self.model = [one for one in self.model if one not in rivals] + [new]
        self.model.sort(key=lambda one: (one.announcement.priority.rank, one.sequence))
        gone = {(one.key, "replaced") for one in rivals}
        if len(self.model) > self.MAX:
            gone.add((self.model.pop().key, "queue full"))
        return gone

    def add_both(self, new: Entry) -> None:
        gone = self.waiting.add(new)
        told = {(one.key, "queue full" if by is None else "replaced") for one, by in gone}
        assert told == self.model_add(new)

    @rule(
        id=st.sampled_from("abcdefgh"),
        zone=st.sampled_from(["hall", "kitchen"]),
        priority=st.sampled_from(Priority),
        tag=st.sampled_from([None, "s", "t"]),
        retry=st.none() | times,
        deadline=st.none() | times,
        begin=st.none() | times,
        end=st.none() | times,
    )
    def add(
        self,
        id: str,  # noqa: A002 (the announcement's own word)
        zone: str,
        priority: Priority,
        tag: str | None,
        retry: int | None,
        deadline: int | None,
        begin: int | None,
        end: int | None,
    ) -> None:
        self.sequence += 1
        now = self.clock.now()
        self.add_both(
            entry(
                self.sequence,
                id=id,
                zone=zone,
                priority=priority,
                tag=tag,
                retry_at_s=0.0 if retry is None else now.monotonic_s + retry,
                deadline_s=math.inf if deadline is None else now.monotonic_s + deadline,
                not_before_s=None if begin is None else now.wall_s + begin,
                expires_at_s=None if end is None else now.wall_s + end,
            )
        )

    @rule()
    def take(self) -> None:
        now = self.clock.now()
        due = [one for one in self.model if is_due(one, now) and not is_expired(one, now)]
        first = due[0] if due else None
        assert self.waiting.peek(now) is first
        assert self.waiting.take(now) is first
        if first is not None:
            self.model.remove(first)
            self.away.append(first)

    @rule()
    def put_back(self) -> None:
        if self.away:
            self.add_both(self.away.pop())

    @rule(zone=st.sampled_from(["hall", "kitchen"]))
    def remove(self, zone: str) -> None:
        chosen = [one for one in self.model if one.zone == zone and one.sequence % 2]
        assert self.waiting.remove(lambda one: one.zone == zone and one.sequence % 2 == 1) == chosen
        self.model = [one for one in self.model if one not in chosen]

    @rule()
    def expire(self) -> None:
        now = self.clock.now()
        over = [one for one in self.model if is_expired(one, now)]
        assert self.waiting.expired(now) == over
        self.model = [one for one in self.model if one not in over]

    @rule(seconds=st.integers(0, 5))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.integers(-20, 20))
    def jump(self, seconds: int) -> None:
        self.clock.jump_wall(seconds)

    @rule()
    def nothing_happens_before_the_next_wake(self) -> None:
        """Nor is there a wake for nothing, but for one between two reasons to wait."""
        now = self.clock.now()
        wake_s = self.waiting.next_wake(now)
        changes = []
        for one in self.model:
            wanted = one.announcement
            retry_s = one.retry_at_s - now.monotonic_s
            begin_s = -1.0 if wanted.not_before_s is None else wanted.not_before_s - now.wall_s
            changes += [retry_s] if retry_s > 0 else [begin_s] if begin_s > 0 else []
            if one.deadline_s < math.inf:
                changes.append(max(0.0, one.deadline_s - now.monotonic_s))
            if wanted.expires_at_s is not None:
                changes.append(max(0.0, wanted.expires_at_s - now.wall_s))
        assert wake_s == (min(changes) if changes else None)

    @invariant()
    def they_agree(self) -> None:
        assert list(self.waiting) == self.model
        assert len(self.waiting) == len(self.model)
        for id_ in "abcdefgh":
            assert (id_ in self.waiting) == any(one.announcement.id == id_ for one in self.model)


AgreesWithASortedList.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestAgreesWithASortedList = AgreesWithASortedList.TestCase
