"""The keepalive is looked after when it is due, and at no other time."""

from __future__ import annotations

import asyncio
import contextlib

from paho.mqtt.enums import CallbackAPIVersion

from kugel_bridge.mqtt.driver import PahoDriver
from kugel_bridge.mqtt.feed import FedClient
from kugel_bridge.mqtt.inbox import Inbox

ACCEPTED = b"\x20\x02\x00\x00"
PING, PONG = b"\xc0\x00", b"\xd0\x00"
WAIT_S = 30.0


class Broker:
    """Takes one login, then answers so many pings."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self.pings = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(ACCEPTED)
        while await reader.read(2) == PING:
            self.pings += 1
            if self.pings <= self._answers:
                writer.write(PONG)
        writer.close()
        self.left.set()


async def looks_until_the_end(answers: int) -> tuple[int, int]:
    """How often a driver looks before the connection ends for silence; and pings sent."""
    broker, ended, looks = Broker(answers), asyncio.Event(), 0
    async with await asyncio.start_server(broker.serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        client = FedClient(Inbox(), lambda _: False, CallbackAPIVersion.VERSION2)
        driver = PahoDriver(client, lambda _: ended.set())
        await driver.connect(lambda: client.connect("127.0.0.1", port, keepalive=1), WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), driver.pause_s)
                looks += 1
                driver.check()
            driver.close()
            await broker.left.wait()
    return looks, broker.pings


async def test_a_ping_is_sent_at_once_and_nobody_looks_again_before_its_answer_is_due() -> None:
    assert await looks_until_the_end(answers=0) == (2, 1)


async def test_after_an_answer_there_is_one_look_for_each_ping() -> None:
    assert await looks_until_the_end(answers=2) == (4, 3)
