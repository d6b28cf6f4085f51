from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from kugel_bridge.gateway.listener import Listener
from kugel_bridge.gateway.outlet import GoneError, Outlet
from tests.gateway.raw import CLOSE, raw
from tests.gateway_server import WAIT_S

SHORT_S = 0.1


@dataclass
class Place:
    port: int


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[Place]:
    is_up = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Listener(app, is_up).listen(bound, lambda: None, 0.0))
            await is_up.wait()
            yield Place(port)
            running.cancel()


async def test_a_client_that_does_not_read_is_left_and_its_connection_cut() -> None:
    left: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        outlet = Outlet(websocket, slow_reader_s=SHORT_S)
        try:
            while True:
                await outlet.send("x" * 100_000)
        except GoneError as error:
            left.set_result(str(error))
        with pytest.raises(GoneError):
            await outlet.send("x")
        await outlet.say("x")
        await outlet.close(1000)
        await websocket.receive()
        over.set()

    async with listening(flood) as place, raw(place, receive_buffer=4_096) as client:
        await client.upgrade()
        client.writer.transport.pause_reading()
        async with asyncio.timeout(WAIT_S):
            assert await left == "the client does not read"
            # The end reaches the application although nothing was read.
            await over.wait()


async def test_texts_of_several_tasks_arrive_whole_and_before_the_close() -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        outlet = Outlet(websocket)
        await asyncio.gather(*[outlet.send(letter * 10_000) for letter in "abc"])
        await outlet.close(4000)

    async with listening(talk) as place, raw(place) as client:
        await client.upgrade()
        got = [(await client.frame())[1] for _ in range(3)]
        assert got == [letter.encode() * 10_000 for letter in "abc"]
        assert await client.frame() == (CLOSE, (4000).to_bytes(2, "big"))


async def test_a_client_that_left_is_told_apart_from_one_that_is_slow() -> None:
    left: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        outlet = Outlet(websocket)
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
        try:
            await outlet.send("x")
        except GoneError as error:
            left.set_result(str(error))

    async with listening(talk) as place, raw(place) as client:
        await client.upgrade()
        client.reset()
        async with asyncio.timeout(WAIT_S):
            assert await left == "the client left"
