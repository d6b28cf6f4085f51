"""Clients that do not read, or vanish; nothing of them may stay behind."""

from __future__ import annotations

import asyncio
import json

import pytest

from kugel_bridge.gateway import cable
from kugel_bridge.gateway.local import LocalEngine
from tests.gateway.attack import (
    ASK,
    GENERATE,
    POST,
    SHORT_S,
    SOCKETS,
    Counted,
    attacked,
    until,
)
from tests.gateway.raw import CLOSE, PING, Raw, frame, raw
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving
from tests.open_files import open_files
from tests.speech.test_espeak import children

pytestmark = pytest.mark.usefixtures("no_errors_logged")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", SOCKETS)
async def test_a_socket_whose_client_does_not_read_is_cut(path: str) -> None:
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server, raw(server, receive_buffer=4_096) as client:
        await client.upgrade(path)
        await client.say(ASK[path])
        client.writer.transport.pause_reading()
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()
    assert engine.ended == 1


@pytest.mark.usefixtures("short")
async def test_an_answer_that_is_not_read_is_cut() -> None:
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server, raw(server, receive_buffer=4_096) as client:
        await client.send((POST % len(GENERATE)) + GENERATE)
        client.writer.transport.pause_reading()
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()


@pytest.mark.parametrize("path", [*SOCKETS, "/v1/tts/generate"])
async def test_a_client_that_ends_and_does_not_read_is_not_kept(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than what makes asyncio wait, so that only the end itself can set a clock.
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)
    engine = ScriptedEngine([hum(2.0)] * 500)
    async with serving(engine) as server:
        files = open_files()
        async with raw(server, receive_buffer=4_096) as client:
            await begun(client, path)
            client.writer.transport.pause_reading()
            client.writer.write_eof()
            await until(lambda: len(open_files() - files) == 1)


async def test_pings_whose_answers_are_not_read_end_the_socket() -> None:
    async with attacked() as server, raw(server, receive_buffer=4_096) as client:
        await client.upgrade()
        client.writer.transport.pause_reading()
        with pytest.raises(ConnectionError):
            # 26 MB; the kernel itself keeps some 7 MB of pings and answers.
            for _ in range(400):
                await client.send(frame(b"x" * 125, PING) * 500)


async def test_a_flood_of_pings_is_answered() -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade()
        await client.send(b"".join(frame(str(n), PING) for n in range(5_000)))
        assert [int((await client.frame())[1]) for _ in range(5_000)] == list(range(5_000))


@pytest.mark.parametrize(
    ("path", "how"),
    [
        *[(path, how) for path in SOCKETS for how in ("reset", "end", "close")],
        ("/v1/tts/generate", "reset"),
        ("/v1/tts/generate", "end"),
    ],
)
async def test_a_client_that_vanishes_ends_its_generation(path: str, how: str) -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    limits = Counted()
    async with serving(engine, limits=limits) as server:
        files = open_files()
        async with raw(server) as client:
            await begun(client, path)
            assert limits.tickets
            if how == "reset":
                client.reset()
            elif how == "end":
                client.writer.write_eof()
            else:
                await client.send(frame(b"\x03\xe8", CLOSE))
                client.writer.write_eof()
            async with asyncio.timeout(WAIT_S):
                await engine.over.wait()
        await until(lambda: not limits.tickets and not limits.sockets and open_files() <= files)


async def begun(client: Raw, path: str) -> None:
    """Ask, and return with the first sound."""
    if path == "/v1/tts/generate":
        await client.send((POST % len(GENERATE)) + GENERATE)
        assert b" 200 " in await client.head()
    else:
        await client.upgrade(path)
        await client.say(ASK[path])
        while "audio" not in await client.receive():
            pass


@pytest.mark.parametrize("path", [*SOCKETS, "/v1/tts/generate"])
async def test_a_client_that_vanishes_leaves_no_process_behind(path: str) -> None:
    before = children()
    async with serving(LocalEngine()) as server:
        for _ in range(3):
            async with raw(server) as client:
                text = "A long sentence that takes a while to say. " * 50
                asked = {"voice_id": 101, "text": text, "voice_settings": {"voice_id": 101}}
                if path == "/v1/tts/generate":
                    asked.pop("voice_settings")
                    body = json.dumps(asked).encode()
                    await client.send((POST % len(body)) + body)
                    await client.head()
                else:
                    await client.upgrade(path)
                    await client.say({**asked, "context_id": "c", "flush": True})
                    while "audio" not in await client.receive():
                        pass
                client.reset()
        await until(lambda: len(children()) <= len(before))
