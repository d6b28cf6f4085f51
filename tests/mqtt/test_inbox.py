"""What comes from the broker: cut into packets, and what matters more goes first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES, RECEIVE_MAXIMUM
from kugel_bridge.mqtt.inbox import Inbox
from tests.raw_mqtt import publish_packet, remaining_length

ORDERS = ("kugel/hall/request/#",)
PUBACK = b"\x40\x02\x00\x07"
PINGRESP = b"\xd0\x00"
GOODBYE = b"\xe0\x00"


def said(number: int, qos: int = 1) -> bytes:
    return publish_packet("kugel/say", b"%d" % number, qos=qos, mid=number + 1)


def order(verb: str, qos: int = 0) -> bytes:
    return publish_packet(f"kugel/hall/request/{verb}", b"", qos=qos)


def drain(box: Inbox) -> list[bytes]:
    return list(iter(box.take, None))


def filled(*packets: bytes) -> Inbox:
    box = Inbox(ORDERS)
    box.put(b"".join(packets))
    return box


FLOOD = [said(number) for number in range(RECEIVE_MAXIMUM + 1)]


def test_an_order_overtakes_a_flood() -> None:
    assert drain(filled(*FLOOD, order("stop"))) == [order("stop"), *FLOOD]


def test_an_order_waits_for_as_many_messages_as_a_broker_may_send() -> None:
    few = FLOOD[:RECEIVE_MAXIMUM]
    assert drain(filled(*few, order("clear"), said(99))) == [*few, order("clear"), said(99)]


def test_orders_keep_their_order_when_a_flood_comes_between() -> None:
    box = filled(said(0), order("pause"), *FLOOD, order("resume"))
    assert drain(box) == [said(0), order("pause"), order("resume"), *FLOOD]


def test_an_order_that_waited_is_carried_out_in_its_turn_when_the_flood_has_passed() -> None:
    box = filled(said(0))
    assert box.take() == said(0)
    box.put(said(1) + order("clear") + said(2))
    assert drain(box) == [said(1), order("clear"), said(2)]


@pytest.mark.parametrize(
    "other",
    [
        order("stop", qos=1),
        said(99, qos=0),
        publish_packet("kugel/hall/req", b"uest/stop"),
        publish_packet(b"kugel/hall/\xff", b""),
        b"\x30\x00",
        b"\x30\x02\xff\xff",
    ],
)
def test_nothing_else_that_is_published_overtakes(other: bytes) -> None:
    assert drain(filled(*FLOOD, other)) == [*FLOOD, other]


def test_what_the_broker_answers_goes_first_of_all() -> None:
    box = filled(*FLOOD, order("stop"), PUBACK, PINGRESP)
    assert drain(box) == [PUBACK, PINGRESP, order("stop"), *FLOOD]


def test_a_goodbye_comes_after_what_was_sent_before_it() -> None:
    assert drain(filled(said(0), GOODBYE)) == [said(0), GOODBYE]


@given(
    st.lists(st.sampled_from([said(5), order("stop"), PUBACK, said(6, qos=0), said(7) * 3])),
    st.lists(st.integers(0, 200)),
)
def test_however_the_bytes_are_cut_the_packets_are_the_same(
    packets: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(packets)
    box = Inbox(ORDERS)
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        box.put(stream[begin:end])
    assert drain(box) == drain(filled(stream))


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    box = Inbox(ORDERS)
    for piece in pieces:
        box.put(piece)
        assert sum(len(packet) for packet in drain(box)) <= sum(map(len, pieces))


@pytest.mark.parametrize("piece_bytes", [1000, 70_000, 1_000_000])
def test_of_a_giant_the_beginning_is_left_and_what_follows_is_whole(piece_bytes: int) -> None:
    giant = bytes(range(256)) * 1000
    stream = said(0) + b"\x32" + remaining_length(len(giant)) + giant + said(1)
    box = Inbox()
    for begin in range(0, len(stream), piece_bytes):
        box.put(stream[begin : begin + piece_bytes])
    beginning = b"\x32" + remaining_length(MAX_PACKET_BYTES) + giant[:MAX_PACKET_BYTES]
    assert drain(box) == [said(0), beginning, said(1)]


def test_of_a_giant_no_more_than_the_beginning_is_held() -> None:
    box = Inbox()
    box.put(b"\x32" + remaining_length(200_000_000))
    for _ in range(100):
        box.put(bytes(MAX_PACKET_BYTES))
        assert box.held_bytes <= MAX_PACKET_BYTES + 5
    assert box.take() is None, "its end has not come"


def test_a_length_that_cannot_be_is_handed_on_and_nothing_after_it() -> None:
    nonsense = b"\x30\xff\xff\xff\xff\x7f"
    box = filled(said(0), nonsense, said(1))
    box.put(said(2))
    assert drain(box) == [said(0), nonsense]


def test_it_is_full_until_enough_was_taken() -> None:
    box = Inbox(max_waiting_bytes=500)
    count = 0
    while not box.full:
        box.put(said(1))
        count += 1
    assert 1 < count < 10
    box.take()
    assert not box.full
    assert len(drain(box)) == count - 1
    assert len(box) == 0
