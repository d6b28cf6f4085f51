"""Request targets that name a host, as proxies send them."""

from __future__ import annotations

import pytest

from tests.gateway.raw import UPGRADE, raw
from tests.gateway_server import ScriptedEngine, serving


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://127.0.0.1:8780/health", b"200"),
        (b"HTTP://localhost/v1/voices?limit=1", b"200"),
        (b"http://127.0.0.1", b"200"),
        (b"http://127.0.0.1/nothing", b"404"),
        (b"http://127.0.0.1/v1/voices/http://x/", b"404"),
        # The name in the target counts, as it would in Host.
        (b"http://attacker.example/v1/voices", b"403"),
        (b"http:///v1/voices", b"403"),
        (b"ftp://127.0.0.1/health", b"404"),
    ],
)
async def test_a_target_with_a_host_stands_for_its_path(target: bytes, status: bytes) -> None:
    async with serving(ScriptedEngine()) as server, raw(server) as client:
        await client.send(b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await client.head()).split()[1] == status


async def test_an_upgrade_may_name_the_host_too() -> None:
    async with serving(ScriptedEngine()) as server, raw(server) as client:
        await client.send(UPGRADE % b"ws://127.0.0.1/ws/tts?model_id=kugel-3")
        assert (await client.head()).split()[1] == b"101"
        await client.say({"text": "Hello.", "voice_id": 1})
        assert (await client.receive())["idx"] == 0
