"""Clients that attack with the messages of their sockets, while a good one goes on."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from tests.gateway.attack import (
    ASK,
    SOCKETS,
    attacked,
)
from tests.gateway.raw import BINARY, CLOSE, PING, Raw, frame, raw

TOO_MUCH = 4029

pytestmark = pytest.mark.usefixtures("no_errors_logged")


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_message_over_the_limit_is_closed_with_1009_that_can_be_read(path: str) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        # More than the kernel holds: closing now would reset, and the client would not see why.
        await client.send(frame(b"x" * 8_000_000))
        opcode, data = await client.frame()
        assert (opcode, data[:2]) == (CLOSE, (1009).to_bytes(2, "big"))
        assert await client.rest() == b""


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (frame(b"\xff\xfe{}"), 1007),
        (frame(b"x", 0x3), 1002),
        (frame(b"x", 0x0), 1002),
        (frame(b"", fin=False) + frame(b"", 0, fin=False) * 5_000, 1009),
        (b"\x81\x05hello", 1002),
        (frame(b"x" * 126, PING), 1002),
        (b"\xf1\x80" + bytes(4), 1002),
        (frame(b"\x00", CLOSE), 1002),
    ],
)
async def test_a_broken_frame_is_closed_with_its_code(path: str, attack: bytes, code: int) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        await client.send(attack)
        opcode, data = await client.frame()
        assert (opcode, int.from_bytes(data[:2], "big")) == (CLOSE, code)
        assert await client.rest() == b""


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"not JSON",
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"text": 1e999, "voice_id": NaN}',
        b'{"text": ' + b"9" * 10_000 + b"}",
        b'"' + b"x" * 1_000_000 + b'"',
    ],
)
async def test_a_senseless_message_is_refused_and_the_socket_goes_on(
    path: str, message: bytes
) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        for opcode in (1, BINARY):
            await client.send(frame(message, opcode))
            assert (await client.receive())["code"] == 400
        await client.say(ASK[path])
        while not (fields := await client.receive()).get("final"):
            assert "error" not in fields


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_message_in_many_fragments_is_one_message(path: str) -> None:
    text = json.dumps(ASK[path]).encode()
    parts = [frame(text[:1], fin=False)]
    parts += [frame(text[n : n + 1], 0, fin=n == len(text) - 1) for n in range(1, len(text))]
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        for part in parts:
            await client.send(part)
        while not (fields := await client.receive()).get("final"):
            assert "error" not in fields


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    ("message", "answer"),
    [("x", {"error_code": "VALIDATION_ERROR"}), ('{"cancel": true}', {"interrupted": True})],
)
async def test_ten_thousand_messages_are_answered_or_refused(
    path: str, message: str, answer: dict[str, Any]
) -> None:
    async with attacked() as server, raw(server) as client:
        await client.upgrade(path)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_flood(client, frame(message), 10_000))
            answered, is_refused = 0, False
            while answered < 10_000:
                opcode, data = await client.frame()
                if opcode == PING:
                    continue  # on a machine that is so busy that all this takes a while
                if opcode == CLOSE:
                    assert (is_refused, data[:2]) == (True, TOO_MUCH.to_bytes(2, "big"))
                    break
                fields = json.loads(data)
                if fields.get("error_code") == "RATE_LIMITED":
                    is_refused = True
                else:
                    assert answer.items() <= fields.items()
                    answered += 1


async def _flood(client: Raw, message: bytes, count: int) -> None:
    # Whoever was refused is not listened to any more.
    with suppress(ConnectionError):
        for _ in range(count // 100):
            await client.send(message * 100)
