from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest

from tests.gateway.scripted_socket import ScriptedSocket
from tests.gateway.wire import REQUEST
from tests.gateway_server import ScriptedEngine

FLOOD = 1_000
CANCEL = '{"cancel": true}'


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        ("/ws/tts", [json.dumps(REQUEST)] + [CANCEL] * FLOOD),
        ("/ws/tts/stream", ["{}"] * FLOOD),
        ("/ws/tts/multi", ["{}"] * FLOOD),
        ("/ws/tts/multi", ['{"close_socket": true}'] + ["{}"] * FLOOD),
    ],
)
async def test_between_any_two_messages_of_a_flood_everybody_else_is_served(
    path: str, messages: list[str]
) -> None:
    turns = 0
    """Of somebody else."""
    seen: list[int] = []

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    socket = ScriptedSocket(path, messages, on_receive=lambda: seen.append(turns))
    socket.leaves.set()
    other = asyncio.create_task(somebody_else())
    await socket.serve(ScriptedEngine())
    other.cancel()
    assert len(seen) >= FLOOD
    assert all(before < after for before, after in pairwise(seen[1:]))
