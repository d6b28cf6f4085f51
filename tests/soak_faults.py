"""The faults of a soak: each breaks something, waits, and mends it again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import httpx

from tests.broker import free_port

if TYPE_CHECKING:
    from tests.soak import House

CLOUD_S = 3.0
CARD_S = 2.0
AUTOSAVE_S = 1.2
"""By then Mosquitto has on disk what it acknowledged."""
XRUN_WAIT_S = 15.0
FEW_BYTES = 6_000
"""Of a connection to the cloud, handshake included: some frames of sound."""


async def broker_restarts(house: House) -> None:
    await house.publisher.quiet()
    await asyncio.to_thread(house.broker.stop)
    await asyncio.to_thread(house.broker.start)
    house.publisher.may.set()


async def broker_killed(house: House) -> None:
    await house.publisher.quiet()
    await asyncio.sleep(AUTOSAVE_S)
    await asyncio.to_thread(house.broker.kill)
    await asyncio.to_thread(house.broker.start)
    house.publisher.may.set()


async def broker_freezes(house: House) -> None:
    await house.publisher.quiet()
    house.broker.freeze()
    await asyncio.sleep(3.0)
    house.broker.thaw()
    house.publisher.may.set()


async def cloud_gone(house: House) -> None:
    house.proxy.target = ("127.0.0.1", free_port())
    house.proxy.reset_all()
    await asyncio.sleep(CLOUD_S)
    house.proxy.target = ("127.0.0.1", house.gateway_port)


async def cloud_refuses(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.gateway_url) as desk:
        order = {"order": "do=refuse status=429 retry_after=2"}
        (await desk.post("/faults", json=order)).raise_for_status()
        house.proxy.reset_all()
        await asyncio.sleep(CLOUD_S)
        (await desk.delete("/faults")).raise_for_status()


async def cloud_stalls(house: House) -> None:
    house.proxy.flowing.clear()
    await asyncio.sleep(CLOUD_S)
    house.proxy.flowing.set()


async def cloud_cuts_off(house: House) -> None:
    house.proxy.cut_after = FEW_BYTES
    await asyncio.sleep(CLOUD_S)
    house.proxy.cut_after = None


async def card_order(house: House, order: str) -> None:
    house.card.order(order)
    await asyncio.sleep(CARD_S)
    house.card.heal()


async def card_unplugged(house: House) -> None:
    await card_order(house, "gone")


async def card_busy(house: House) -> None:
    # One that is open stays open: it has to go first.
    house.card.order("gone")
    await asyncio.sleep(CARD_S)
    await card_order(house, "busy")


async def card_stalls(house: House) -> None:
    await card_order(house, "stall")


async def sound_breaks_off(house: House) -> None:
    house.card.order("xrun")
    async with asyncio.timeout(XRUN_WAIT_S):
        while house.card.orders.exists():
            await asyncio.sleep(0.05)


async def daemon_killed(house: House) -> None:
    await house.daemon.end(signal.SIGKILL)
    await house.give_birth()


async def daemon_told_to_end(house: House) -> None:
    await house.daemon.end(signal.SIGTERM)
    await house.give_birth()


async def daemon_freezes(house: House) -> None:
    house.daemon.send(signal.SIGSTOP)
    await asyncio.sleep(2.0)
    house.daemon.send(signal.SIGCONT)


async def disk_full(house: House) -> None:
    if house.disk is not None:
        await asyncio.to_thread(house.disk.fill_up)
        await asyncio.sleep(CLOUD_S)
        house.disk.give_back()


FAULTS: Mapping[str, Callable[[House], Awaitable[None]]] = {
    function.__name__.replace("_", " "): function
    for function in (
        broker_restarts,
        broker_killed,
        broker_freezes,
        cloud_gone,
        cloud_refuses,
        cloud_stalls,
        cloud_cuts_off,
        card_unplugged,
        card_busy,
        card_stalls,
        sound_breaks_off,
        daemon_killed,
        daemon_told_to_end,
        daemon_freezes,
        disk_full,
    )
}
