from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from kugel_bridge.gateway.limits import Allowance, KeyLimits, NoLimits, Ticket
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.codes import NO_CREDITS, Refusal
from kugel_bridge.kugelaudio.messages import Usage
from tests.clock import ManualClock
from tests.gateway.wire import REQUEST, wire
from tests.gateway_server import ScriptedEngine, serving


class Counted:
    """Limits with everything that belongs to them."""

    def __init__(self, **allowance: Any) -> None:
        usual = {"requests_per_minute": 3, "concurrent_generations": 2, "connections": 2}
        self.clock = ManualClock()
        self.ledger = Ledger(None, self.clock)
        self.limits = KeyLimits(Allowance(**(usual | allowance)), self.clock, self.ledger)

    def begin(self, account: str = "a") -> Ticket:
        ticket = self.limits.begin(account)
        assert not isinstance(ticket, Refusal)
        return ticket

    def refused(self, account: str = "a") -> Refusal:
        refusal = self.limits.begin(account)
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (429, "RATE_LIMITED")
        return refusal


async def test_within_any_minute_there_are_as_many_requests_as_allowed() -> None:
    counted = Counted()
    for wait_s in (0, 10, 20):
        counted.clock.advance(wait_s)
        await counted.begin().end(None)
    assert counted.refused().retry_after_s == 30
    counted.clock.advance(29.9)
    assert counted.refused().retry_after_s == pytest.approx(0.1)
    counted.clock.advance(0.1)
    await counted.begin().end(None)
    assert counted.refused().retry_after_s == 10


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 50, allow_nan=False), min_size=1, max_size=60),
)
async def test_the_minute_agrees_with_a_list_of_all_times(limit: int, waits: list[float]) -> None:
    counted = Counted(requests_per_minute=limit)
    begun: deque[float] = deque()
    for wait_s in waits:
        counted.clock.advance(wait_s)
        now_s = counted.clock.now().monotonic_s
        recent = [moment for moment in begun if now_s - moment < 60]
        answer = counted.limits.begin("a")
        if len(recent) < limit:
            assert not isinstance(answer, Refusal)
            await answer.end(None)
            begun.append(now_s)
        else:
            assert isinstance(answer, Refusal)
            assert answer.retry_after_s == pytest.approx(recent[0] + 60 - now_s)


async def test_a_clock_that_is_set_changes_no_wait() -> None:
    counted = Counted(requests_per_minute=1)
    await counted.begin().end(None)
    counted.clock.jump_wall(-1e6)
    assert counted.refused().retry_after_s == 60


async def test_a_slot_is_held_until_its_end_and_given_back_once() -> None:
    counted = Counted(requests_per_minute=100)
    first, _second = counted.begin(), counted.begin()
    assert counted.refused().retry_after_s == 1
    await first.end(None)
    await first.end(None)
    counted.begin()
    counted.refused()


async def test_each_key_has_its_own() -> None:
    counted = Counted(requests_per_minute=1, characters_per_day=5)
    ticket = counted.begin("a")
    assert ticket.spend(5) is None
    counted.refused("a")
    other = counted.begin("b")
    assert other.spend(5) is None


async def test_the_days_characters_hold_for_what_is_under_way_too() -> None:
    counted = Counted(characters_per_day=10)
    first, second = counted.begin(), counted.begin()
    assert first.spend(6) is None
    assert second.spend(5) == NO_CREDITS
    assert second.spend(4) is None
    assert second.spend(1) == NO_CREDITS
    await second.end(None)
    # What never was spoken is free again.
    assert first.spend(4) is None
    await first.end(Usage(audio_s=1.0, characters=10))
    assert counted.begin().spend(1) == NO_CREDITS
    counted.clock.advance(86_400)
    assert counted.begin().spend(10) is None


async def test_without_a_budget_there_is_no_end() -> None:
    ticket = Counted().begin()
    assert ticket.spend(10**9) is None


async def test_sockets_are_counted() -> None:
    limits = Counted().limits
    assert [limits.open_socket("a") for _ in range(2)] == [None, None]
    refusal = limits.open_socket("a")
    assert refusal is not None
    assert (refusal.status, refusal.retry_after_s) == (429, 1)
    assert limits.open_socket("b") is None
    limits.close_socket("a")
    assert limits.open_socket("a") is None


async def test_the_memory_of_a_key_is_bounded() -> None:
    counted = Counted(requests_per_minute=3)
    for _ in range(1000):
        counted.clock.advance(7)
        ticket = counted.limits.begin("a")
        if not isinstance(ticket, Refusal):
            await ticket.end(None)
    assert len(counted.limits._standings["a"].begun_s) <= 3


async def test_no_limits_let_everything_in() -> None:
    limits = NoLimits()
    assert limits.open_socket("a") is None
    ticket = limits.begin("a")
    assert not isinstance(ticket, Refusal)
    assert ticket.spend(10**9) is None
    await ticket.end(Usage(audio_s=1.0))
    limits.close_socket("a")


async def test_an_upgrade_over_the_limit_is_429_with_retry_after() -> None:
    counted = Counted(connections=1)
    async with serving(ScriptedEngine(), limits=counted.limits) as server:
        async with wire(server) as socket:
            await socket.send(REQUEST)
            await socket.until_end()
            with pytest.raises(InvalidStatus) as caught:
                async with wire(server):
                    pass
        response = caught.value.response
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert b"RATE_LIMITED" in (response.body or b"")
        assert response.headers["x-request-id"]
    [day] = counted.ledger.days("open")
    assert (day.requests, day.characters) == (1, 12)
