"""The gateway with what works behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.app.gateway import GatewayService, lone_gateway, shared_gateway
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.settings.tree import Settings
from kugel_bridge.speech.cache import PhraseCache
from tests.broker import free_port
from tests.gateway.in_front import HELLO, client_for
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving


def settings(folder: Path, url: str | None, **gateway: Any) -> Settings:
    cloud = {} if url is None else {"base_url": url, "voice_id": 1}
    return Settings.model_validate(
        {
            "cloud": cloud,
            "cache": {"dir": str(folder / "cache"), "max_mb": 16},
            "gateway": {"engine": "upstream", "usage_path": str(folder / "usage.db"), **gateway},
        }
    )


@contextlib.asynccontextmanager
async def running(service: GatewayService) -> AsyncIterator[str]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run())
        async with asyncio.timeout(WAIT_S):
            await service.server.up()
        yield service.server.url
        task.cancel()


async def said(url: str, request: SpeechRequest = HELLO) -> bytes:
    async with asyncio.timeout(WAIT_S):
        chunks = [chunk async for chunk in client_for(url).stream(request)]
    return b"".join(bytes(chunk.data) for chunk in chunks if isinstance(chunk, PcmChunk))


async def test_a_gateway_of_its_own_keeps_phrases_from_one_run_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine a look-up takes longer than an announcement would wait for it.
    limits = PhraseCache.__init__.__kwdefaults__
    monkeypatch.setitem(limits, "lookup_timeout_s", WAIT_S)
    upstream = ScriptedEngine([hum(1.0)])
    async with serving(upstream) as service:
        for _ in range(2):
            alone = lone_gateway(settings(tmp_path, service.url), port=0)
            async with running(alone) as url:
                assert await said(url) == hum(1.0).data
                assert alone.server.port
                while not list((tmp_path / "cache").rglob("*.pcm")):
                    await asyncio.sleep(0.01)
    assert len(upstream.asked) == 1


async def test_speech_under_way_is_finished_before_what_it_is_made_of_ends(tmp_path: Path) -> None:
    upstream = ScriptedEngine([hum(0.2), hum(0.6)], hold=asyncio.Event())
    assert upstream.hold is not None
    async with serving(upstream) as service:
        alone = lone_gateway(settings(tmp_path, service.url, fallback=False), port=0)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(alone.run())
            await alone.server.up()
            chunks = client_for(alone.server.url).stream(HELLO)
            heard = [bytes((await anext(chunks)).data)]
            task.cancel()
            upstream.hold.set()
            async with asyncio.timeout(WAIT_S):
                heard += [bytes(chunk.data) async for chunk in chunks]
    assert b"".join(heard) == bytes(hum(0.2).data) + bytes(hum(0.6).data)


def test_nothing_to_ask_and_itself_to_ask_are_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.engine.*set cloud\.api_key"):
        lone_gateway(settings(tmp_path, None))
    port = free_port()
    own = settings(tmp_path, f"http://localhost:{port}")
    with pytest.raises(ConfigurationError, match=r"would ask itself: cloud\.base_url"):
        lone_gateway(own, port=port)


def test_a_bridge_without_a_gateway_has_none(tmp_path: Path) -> None:
    assert shared_gateway(settings(tmp_path, "http://127.0.0.1:9"), None) is None
