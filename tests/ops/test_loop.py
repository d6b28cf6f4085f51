from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kugel_bridge.ops.loop import MAX_LOOKUPS, DaemonLoop


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A name server that answers only when this is set."""
    answering, real = threading.Event(), socket.getaddrinfo

    def ask(host: str, *arguments: Any, **options: Any) -> Any:
        answering.wait(30)
        return real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield answering
    answering.set()


def test_a_name_leads_to_a_connection() -> None:
    async def connect() -> str:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            _, writer = await asyncio.open_connection("localhost", port, family=socket.AF_INET)
            peer: str = writer.get_extra_info("peername")[0]
            writer.close()
        return peer

    assert run(connect()) == "127.0.0.1"


def test_a_name_that_nobody_knows_is_told_as_such() -> None:
    async def ask() -> None:
        await asyncio.get_running_loop().getaddrinfo("nobody.invalid", 80)

    with pytest.raises(socket.gaierror):
        run(ask())


def test_a_silent_name_server_does_not_delay_the_end(silence: threading.Event) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().getaddrinfo("speech.example", 443)

    began_s = time.monotonic()
    run(give_up())
    assert time.monotonic() - began_s < 10
    assert not silence.is_set()


def test_look_ups_under_way_are_bounded_and_their_places_come_back(
    silence: threading.Event,
) -> None:
    async def ask() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(loop.getaddrinfo("speech.example", 443))
                for _ in range(MAX_LOOKUPS)
            ]
            await asyncio.sleep(0)
            with pytest.raises(OSError, match="looked up already"):
                await loop.getaddrinfo("speech.example", 443)
            silence.set()
        assert all(task.result()[0][4][0] == "127.0.0.1" for task in waiting)
        assert await loop.getaddrinfo("speech.example", 443)

    run(ask())


def test_without_a_thread_nothing_is_looked_up_and_the_end_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(MAX_LOOKUPS + 1):
            with pytest.raises(OSError, match="no more threads"):
                await loop.getaddrinfo("localhost", 80)
        with pytest.raises(OSError, match="no more threads"):
            await asyncio.to_thread(print)
        # At the end of this loop there is no thread for the end of the executor, either.

    monkeypatch.setattr(threading.Thread, "start", refuse)
    run(ask())


def run(coroutine: Any) -> Any:
    """As the program runs."""
    with asyncio.Runner(loop_factory=DaemonLoop) as runner:
        return runner.run(coroutine)
