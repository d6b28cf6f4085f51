from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kugel_bridge.gateway import cable
from kugel_bridge.gateway.cable import CABLE, Cable, cable_of, hang_up
from tests.gateway_server import WAIT_S

SHORT_S = 0.1


class Phone(asyncio.Protocol):
    """One end, and what it noticed."""

    def __init__(self) -> None:
        self.connected: asyncio.Future[Cable] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.connected.set_result(Cable(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@asynccontextmanager
async def call() -> AsyncIterator[tuple[Phone, Cable, asyncio.StreamReader]]:
    phone = Phone()
    server = await asyncio.get_running_loop().create_server(lambda: phone, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(WAIT_S):
            yield phone, await phone.connected, reader
    finally:
        writer.transport.abort()
        (await phone.connected).abort()
        server.close()


async def test_what_is_held_goes_out_when_it_is_released_and_in_order() -> None:
    async with call() as (_, line, reader):
        line.write(b"1")
        line.hold()
        line.write(b"23")
        line.write(b"4567")
        assert (line.held, line.get_write_buffer_size()) == (6, 6)
        line.release(3)
        assert await reader.readexactly(4) == b"1234"
        line.let_go()
        line.write(b"8")
        assert await reader.readexactly(4) == b"5678"
        assert line.held == 0


async def test_a_reset_is_one() -> None:
    async with call() as (phone, line, reader):
        line.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert line.is_closing()
        assert await phone.lost is None


async def test_a_half_close_sends_what_is_written_and_reads_on_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)
    async with call() as (phone, line, reader):
        line.write(b"why")
        line.half_close()
        assert await reader.read() == b"why"
        # The other side never hangs up.
        assert await phone.lost is None


async def test_a_close_does_not_wait_for_ever_for_one_who_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)
    async with call() as (phone, line, reader):
        while not line.get_write_buffer_size():
            line.write(bytes(1 << 20))
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        line.close()
        await phone.lost


async def test_an_application_finds_its_connection() -> None:
    async with call() as (phone, line, _):
        scope = {"state": {CABLE: line}}
        assert cable_of(scope) is line
        hang_up({"state": {}})
        hang_up({})
        assert not line.is_closing()
        hang_up(scope)
        await phone.lost
