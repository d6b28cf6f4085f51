"""The official SDK as the gateway's customer, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import kugelaudio
import pytest
from kugelaudio import KugelAudio

from kugel_bridge.gateway.limits import Allowance, KeyLimits
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.model.errors import ServiceUnavailableError
from tests.clock import ManualClock
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

KEY = "ka_test123"


async def with_sdk(server: GatewayServer, use: Callable[[KugelAudio], Any], key: str = KEY) -> Any:
    """Run the synchronous SDK in a thread of its own."""

    def work() -> Any:
        client = KugelAudio(api_key=key, api_url=server.url, timeout=WAIT_S)
        try:
            return use(client)
        finally:
            client.close()

    async with asyncio.timeout(WAIT_S):
        return await asyncio.to_thread(work)


async def test_sync_generate() -> None:
    async with serving(ScriptedEngine([hum(0.5)]), keys=[KEY]) as server:
        audio = await with_sdk(
            server, lambda c: c.tts.generate(text="Hello there.", voice_id=1, language="en")
        )
    assert audio.audio == bytes(hum(0.5).data)
    assert (audio.sample_rate, audio.samples) == (24_000, 12_000)
    assert audio.usage.characters == 12


async def test_sync_stream_with_every_option() -> None:
    async with serving(ScriptedEngine([hum(0.5)]), keys=[KEY]) as server:
        parts = await with_sdk(
            server,
            lambda c: list(
                c.tts.stream(
                    text="Hello.",
                    voice_id=1,
                    cfg_scale=9.0,
                    temperature=0.2,
                    output_format="ulaw_8000",
                    language="en",
                    speed=1.1,
                    word_timestamps=True,
                    project_id=42,
                    dictionary_ids=[],
                )
            ),
        )
    chunks = [part for part in parts if isinstance(part, kugelaudio.AudioChunk)]
    assert sum(len(chunk.audio) for chunk in chunks) == 4_000
    assert {chunk.sample_rate for chunk in chunks} == {8_000}


async def test_two_async_streams_on_one_socket() -> None:
    engine = ScriptedEngine()
    async with serving(engine, keys=[KEY]) as server, asyncio.timeout(WAIT_S):
        client = await KugelAudio.create(api_key=KEY, api_url=server.url)
        try:
            for text in ("One.", "Gr\u00fc\u00dfe \U0001f600"):
                parts = [
                    part
                    async for part in client.tts.stream_async(text=text, voice_id=2, language="de")
                ]
                assert any(isinstance(part, kugelaudio.AudioChunk) for part in parts)
                assert client.is_connected()
        finally:
            await client.aclose()
    assert [asked[0] for asked in engine.asked] == ["One.", "Gr\u00fc\u00dfe \U0001f600"]


async def test_models_and_voices() -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        models = await with_sdk(server, lambda c: c.models.list())
        voices = await with_sdk(server, lambda c: c.voices.list(language="de", limit=5))
        voice = await with_sdk(server, lambda c: c.voices.get(1))
    assert [model.id for model in models] == ["kugel-3.5"]
    assert (voices.total, [v.name for v in voices.voices]) == (2, ["Anna", "Bert"])
    assert (voice.id, voice.name) == (1, "Anna")


async def test_the_espeak_catalogue_is_readable() -> None:
    async with serving(LocalEngine()) as server:
        voices = await with_sdk(server, lambda c: c.voices.list(limit=100))
    assert {v.sex.value for v in voices.voices} == {"male", "female"}


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda c: c.tts.generate(text="Hi", language="en"), kugelaudio.ValidationError),
        (lambda c: c.tts.generate(text="Hi", voice_id=77, language="en"), kugelaudio.NotFoundError),
        (
            lambda c: c.tts.generate(text="x" * 101, voice_id=1, language="en"),
            kugelaudio.ValidationError,
        ),
        (lambda c: c.voices.get(77), kugelaudio.NotFoundError),
        (lambda c: c.voices.delete(1), kugelaudio.ValidationError),
        (lambda c: c.dictionaries.list(), kugelaudio.KugelAudioConnectionError),
    ],
)
async def test_refusals_are_the_error_classes_of_the_sdk(
    use: Callable[[KugelAudio], Any], error: type[Exception]
) -> None:
    async with serving(ScriptedEngine(), keys=[KEY], max_characters=100) as server:
        with pytest.raises(error):
            await with_sdk(server, use)


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.tts.generate(text="Hi", voice_id=1, language="en"),
        lambda c: c.models.list(),
        lambda c: c.voices.list(),
    ],
)
async def test_a_wrong_key_is_an_authentication_error(use: Callable[[KugelAudio], Any]) -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        with pytest.raises(kugelaudio.AuthenticationError) as caught:
            await with_sdk(server, use, key="ka_wrong")
    assert caught.value.request_id


def speaking(c: KugelAudio) -> Any:
    return c.tts.generate(text="Hello there.", voice_id=1, language="en")


@pytest.mark.parametrize(
    ("allowance", "error"),
    [
        ({"requests_per_minute": 1}, kugelaudio.RateLimitError),
        ({"characters_per_day": 12}, kugelaudio.InsufficientCreditsError),
    ],
)
async def test_what_is_used_up_is_an_error_class_of_its_own(
    allowance: dict[str, int], error: type[Exception]
) -> None:
    clock = ManualClock()
    ledger = Ledger(None, clock)
    usual = {"requests_per_minute": 9, "concurrent_generations": 9, "connections": 9}
    limits = KeyLimits(Allowance(**(usual | allowance)), clock, ledger)
    async with serving(ScriptedEngine(), keys=[KEY], limits=limits, ledger=ledger) as server:
        await with_sdk(server, speaking)
        with pytest.raises(error):
            await with_sdk(server, speaking)


async def test_an_upgrade_over_the_limit_tells_the_sdk_when_to_come_again() -> None:
    clock = ManualClock()
    limits = KeyLimits(Allowance(9, 9, 1), clock, Ledger(None, clock))
    async with serving(ScriptedEngine(), keys=[KEY], limits=limits) as server:
        async with asyncio.timeout(WAIT_S):
            holder = await KugelAudio.create(api_key=KEY, api_url=server.url)
            try:
                with pytest.raises(kugelaudio.RateLimitError) as caught:
                    await with_sdk(server, speaking)
            finally:
                await holder.aclose()
    assert caught.value.retry_after == 1
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (ServiceUnavailableError("no voices"), kugelaudio.KugelAudioConnectionError),
        (RuntimeError("a bug"), kugelaudio.KugelAudioError),
    ],
)
async def test_an_engine_in_trouble_is_an_error_class_of_its_own(
    broken: Exception, error: type[Exception]
) -> None:
    class Broken(ScriptedEngine):
        async def voices(self) -> Any:
            raise broken

    async with serving(Broken(), keys=[KEY]) as server:
        with pytest.raises(error) as caught:
            await with_sdk(server, lambda c: c.voices.list())
    assert type(caught.value) is error


async def test_espeak_really_speaks() -> None:
    async with serving(LocalEngine()) as server:
        audio = await with_sdk(
            server, lambda c: c.tts.generate(text="Guten Tag.", voice_id=112, language="de")
        )
    assert audio.sample_rate == 24_000
    assert 0.3 < audio.samples / audio.sample_rate < 5
    assert max(audio.audio) > 0
