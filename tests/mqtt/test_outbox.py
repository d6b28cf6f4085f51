"""What waits to be sent, and what is given up when there is too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.mqtt.message import Outgoing
from kugel_bridge.mqtt.outbox import CROWDED_AT, MAX_ANSWERS, Outbox


def state(topic: str, payload: str) -> Outgoing:
    return Outgoing(topic, payload.encode(), retain=True)


def event(payload: str) -> Outgoing:
    return Outgoing("event", payload.encode())


def drain(box: Outbox) -> list[str]:
    taken = []
    while (message := box.take()) is not None:
        taken.append(message.payload.decode())
    return taken


def test_of_a_retained_topic_the_last_value_is_sent() -> None:
    box = Outbox()
    for payload in ("1", "2", "3"):
        box.put(state("a", payload))
    assert drain(box) == ["3"]


def test_retained_values_go_first_in_the_order_of_their_last_change() -> None:
    box = Outbox()
    box.put(event("e"))
    box.put(state("availability", "old"))
    box.put(state("state", "s"))
    box.put(state("availability", "online"))
    assert drain(box) == ["s", "online", "e"]


def test_an_answer_overtakes_events_but_not_an_earlier_answer() -> None:
    box = Outbox()
    box.put(event("e"))
    box.put(event("first"), is_answer=True)
    box.put(event("second"), is_answer=True)
    box.put(state("state", "s"))
    assert len(box) == 4
    assert drain(box) == ["s", "first", "second", "e"]


def test_of_too_many_answers_the_newest_are_kept() -> None:
    box = Outbox()
    for number in range(MAX_ANSWERS + 1):
        box.put(event(str(number)), is_answer=True)
    assert drain(box) == [str(number) for number in range(1, MAX_ANSWERS + 1)]


def test_events_keep_their_order_and_the_oldest_are_given_up() -> None:
    box = Outbox(max_events=3)
    for number in range(5):
        box.put(event(str(number)))
    assert len(box) == 3
    assert box.dropped == 2
    assert drain(box) == ["2", "3", "4"]


def test_it_is_crowded_while_events_are_made_faster_than_they_leave() -> None:
    box = Outbox()
    for number in range(CROWDED_AT):
        assert not box.crowded
        box.put(Outgoing("kugel/hall/event", b"%d" % number))
    assert box.crowded
    box.take()
    assert not box.crowded


def test_events_are_bounded_in_bytes_too() -> None:
    box = Outbox(max_event_bytes=10)
    box.put(event("123456"))
    box.put(event("abcdef"))
    assert drain(box) == ["abcdef"]
    assert box.dropped == 1


def test_what_was_sent_in_vain_comes_back_in_front() -> None:
    box = Outbox()
    box.put(event("3"))
    box.put(state("b", "new"))
    box.put_back([event("1"), state("b", "old"), event("2"), state("a", "kept")])
    assert drain(box) == ["kept", "new", "1", "2", "3"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=50))
def test_it_never_holds_more_than_it_may(changes: list[tuple[bool, int]]) -> None:
    box = Outbox(max_events=4, max_event_bytes=20)
    for retain, number in changes:
        box.put(Outgoing(f"t{number}", b"x" * number, retain=retain))
        assert len(box) <= 4 + 6
    drain(box)
    assert len(box) == 0
    box.put(event("after"))
    assert drain(box) == ["after"]
