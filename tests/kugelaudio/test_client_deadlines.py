"""The client against a service that takes too long."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from websockets.asyncio.server import ServerConnection

from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import (
    TooSlowError,
)
from tests.kugelaudio.scripted_service import (
    FINAL,
    HELLO,
    SHORT_S,
    client_of,
    failure,
    running,
    service,
    silence,
    sound,
)

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def test_a_server_that_never_answers_the_upgrade_is_too_slow() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(client_of(f"http://127.0.0.1:{port}", connect_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)


async def test_a_slow_listener_does_not_lose_a_long_speech(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SHAKY_S", "SETTLED_S", "PING_INTERVAL_S", "PING_TIMEOUT_S"):
        monkeypatch.setattr(f"kugel_bridge.kugelaudio.client.{name}", 0.05)
    frames = 200

    async def burst(socket: ServerConnection) -> None:
        await socket.recv()
        for _ in range(frames):
            await socket.send(sound(samples=4_800))
        await socket.send(FINAL)

    request = SpeechRequest("A long story. " * 10, "en", 1)
    async with service(burst) as cloud, running(client_of(cloud.url)) as client:
        await cloud.until_open(1)
        heard = 0
        async for _ in client.stream(request):
            heard += 1
            if heard == 1:
                # Many ping intervals, with a pong that would wait behind all that sound.
                await asyncio.sleep(0.5)
    assert heard == frames


async def test_no_first_sound_is_too_slow_though_pings_are_answered() -> None:
    async with service(silence) as cloud:
        error = await failure(client_of(cloud.url, first_audio_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)
    assert "no sound within" in str(error)


async def test_frames_without_sound_do_not_buy_time() -> None:
    async def chatter(socket: ServerConnection) -> None:
        await socket.recv()
        while True:
            await socket.send('{"warning": "nearly there"}')
            await asyncio.sleep(0.01)

    async with service(chatter) as cloud:
        error = await failure(client_of(cloud.url, first_audio_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)


async def test_a_stall_in_mid_sound_is_too_slow() -> None:
    async def stall(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sound())
        await silence(socket)

    async with service(stall) as cloud:
        error = await failure(client_of(cloud.url, stall_timeout_s=SHORT_S))
    assert isinstance(error, TooSlowError)
    assert "no further sound" in str(error)


async def test_the_time_a_listener_takes_is_not_held_against_the_service() -> None:
    async with service() as cloud:
        chunks = 0
        async for _ in client_of(cloud.url, stall_timeout_s=SHORT_S).stream(HELLO):
            chunks += 1
            await asyncio.sleep(2 * SHORT_S)
    assert chunks == 2


async def test_a_slow_drip_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kugel_bridge.kugelaudio.client.GRACE_S", SHORT_S)

    async def drip(socket: ServerConnection) -> None:
        await socket.recv()
        while True:
            await socket.send(sound(samples=1))
            await asyncio.sleep(SHORT_S / 4)

    async with service(drip) as cloud:
        error = await failure(client_of(cloud.url))
    assert isinstance(error, TooSlowError)
    assert "not done" in str(error)
