"""A flood is asked for little by little, and everything is acknowledged in its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.mqtt.broker import RECEIVE_MAXIMUM
from kugel_bridge.mqtt.receipts import AT_ONCE, QUIET_STEPS, Receipts
from tests.broker import Script, scripted
from tests.mqtt.conftest import listening, until
from tests.raw_mqtt import publish_packet

FLOOD = 5_000


def holding(count: int) -> Receipts:
    receipts = Receipts()
    for mid in range(count):
        receipts.add((mid, 1))
    return receipts


def test_a_full_window_of_a_broker_that_keeps_to_it_is_acknowledged_at_once() -> None:
    receipts = holding(RECEIVE_MAXIMUM)
    due = receipts.take_due(handled=20, unread=0, unacknowledged=RECEIVE_MAXIMUM)
    assert due == [(mid, 1) for mid in range(RECEIVE_MAXIMUM)]
    assert len(receipts) == 0


def test_of_a_flood_one_is_acknowledged_and_then_what_it_brought_is_waited_for() -> None:
    receipts = holding(300)
    assert receipts.take_due(handled=300, unread=0, unacknowledged=300) == [(0, 1)]
    assert receipts.take_due(handled=300, unread=20, unacknowledged=299) == []
    assert receipts.take_due(handled=301, unread=19, unacknowledged=300) == [(1, 1)]


def test_when_nothing_more_comes_the_rest_is_acknowledged_in_large_pieces() -> None:
    receipts = holding(1_000)
    steps, left = 0, 1_000
    while left > 0:
        left -= len(receipts.take_due(handled=1_000, unread=0, unacknowledged=left))
        steps += 1
    assert steps <= QUIET_STEPS + 1_000 // AT_ONCE + 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans())))
def test_whatever_comes_when_they_leave_in_their_order_and_none_twice(
    moments: list[tuple[int, int, bool]],
) -> None:
    receipts, added, gone = Receipts(), 0, list[tuple[int, int]]()
    for fresh, unread, farewell in moments:
        for _ in range(fresh):
            receipts.add((added, 1))
            added += 1
        held = added - len(gone)
        if farewell:
            gone += receipts.take()
        else:
            gone += receipts.take_due(handled=added, unread=unread, unacknowledged=held)
    while receipts:
        gone += receipts.take()
    assert gone == [(mid, 1) for mid in range(added)]


async def test_a_broker_that_sends_a_window_for_each_acknowledgement_does_not_flood_us() -> None:
    sent, acknowledged, most = 0, list[int](), 0

    async def play(script: Script) -> None:
        nonlocal sent, most
        await script.welcome()
        while True:
            for _ in range(min(RECEIVE_MAXIMUM, FLOOD - sent)):
                sent += 1
                script.send(publish_packet("kugel/say", b"x" * 100, qos=1, mid=sent, five=True))
            most = max(most, sent - ear.connection.received)
            first = 0
            while first != 0x40:
                first, body = await script.packet()
            acknowledged.append(int.from_bytes(body[:2], "big"))

    async with scripted(play) as port, listening(port) as ear:
        for _ in range(FLOOD):
            (await ear.next()).ack()
        await until(lambda: len(acknowledged) == FLOOD)
    assert acknowledged == list(range(1, FLOOD + 1))
    # What came before the broker was known, and what was under way then; else it is nearly all.
    assert most < FLOOD / 2


async def test_a_farewell_does_not_keep_acknowledgements_back() -> None:
    acknowledged = list[int]()

    async def play(script: Script) -> None:
        await script.welcome()
        for mid in range(1, 101):
            script.send(publish_packet("kugel/say", b"x", qos=1, mid=mid, five=True))
        while True:
            first, body = await script.packet()
            if first == 0x40:
                acknowledged.append(int.from_bytes(body[:2], "big"))
            elif first & 0xF0 == 0x30:
                size = int.from_bytes(body[:2], "big")
                script.send(b"\x40\x02" + body[2 + size : 4 + size])
            elif first == 0xE0:
                return

    async with scripted(play) as port:
        async with listening(port) as ear:
            await ear.was_up()
            for message in [await ear.next() for _ in range(100)]:
                message.ack()
            assert ear.connection.unacked > 50, "held, lest they bring more"
        await until(lambda: len(acknowledged) == 100)
