from __future__ import annotations

import asyncio

import pytest

from kugel_bridge.gateway.line import Line
from kugel_bridge.model.errors import RateLimitedError
from tests.gateway_server import WAIT_S


async def hold(line: Line, order: list[int], number: int, gate: asyncio.Event) -> None:
    async with line.place():
        order.append(number)
        await gate.wait()


async def until_waiting(line: Line, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while line.waiting < count:
            await asyncio.sleep(0)


async def test_places_are_given_in_order_of_arrival() -> None:
    line, order, gate = Line(2), list[int](), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(hold(line, order, number, gate))
        await until_waiting(line, 3)
        assert order == [0, 1]
        gate.set()
    assert order == [0, 1, 2, 3, 4]
    assert line.waiting == 0


async def test_a_line_that_is_full_is_said_at_once_with_a_time_to_wait() -> None:
    line, order, gate = Line(1, max_waiting=2), list[int](), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(hold(line, order, number, gate))
        await until_waiting(line, 2)
        with pytest.raises(RateLimitedError, match="2 requests wait") as caught:
            async with line.place():
                pass
        assert caught.value.retry_after_s
        gate.set()


async def test_nobody_waits_for_ever() -> None:
    line, gate = Line(1, max_wait_s=0.05), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(hold(line, [], 0, gate))
        await asyncio.sleep(0)
        with pytest.raises(RateLimitedError, match="busy with others"):
            async with line.place():
                pass
        holding.cancel()
    async with line.place():  # the place is free again
        pass
    assert line.waiting == 0


async def test_who_leaves_the_line_is_no_longer_in_it() -> None:
    line, gate = Line(1), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hold(line, [], 0, gate))
        await asyncio.sleep(0)
        leaving = tasks.create_task(hold(line, [], 1, gate))
        await until_waiting(line, 1)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert line.waiting == 0
        gate.set()
    async with line.place():
        pass
