"""Our own client against the gateway: both sides of the protocol in one place."""

from __future__ import annotations

import asyncio

import pytest

from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.errors import BridgeError, InvalidRequestError, UnauthorizedError
from kugel_bridge.model.pcm import PcmFormat
from kugel_bridge.model.status import CloudStatus
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

KEY = "ka_test123"


def client_of(url: str, statuses: list[CloudStatus], key: str = KEY) -> SpeechClient:
    return SpeechClient(
        url,
        key,
        model_id="kugel-3.5",
        connect_timeout_s=WAIT_S,
        first_audio_timeout_s=WAIT_S,
        stall_timeout_s=WAIT_S,
        on_status=statuses.append,
    )


async def said(client: SpeechClient, request: SpeechRequest) -> bytes:
    async with asyncio.timeout(WAIT_S):
        return b"".join([bytes(chunk.data) async for chunk in client.stream(request)])


async def test_what_the_engine_makes_is_what_the_client_gets() -> None:
    async with serving(ScriptedEngine([hum(0.5), hum(0.3)]), keys=[KEY]) as server:
        sound = await said(client_of(server.url, []), SpeechRequest("Hi.", "en", "anna"))
    assert sound == bytes(hum(0.5).data) + bytes(hum(0.3).data)


async def test_a_gateway_that_restarts_is_found_again() -> None:
    statuses: list[CloudStatus] = []
    request = SpeechRequest("Hi.", "en", 1)
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        async with serving(ScriptedEngine(), keys=[KEY]) as server:
            port = server.port
            client = client_of(server.url, statuses)
            running = tasks.create_task(client.run())
            await said(client, request)
        with pytest.raises(BridgeError):
            await said(client, request)
        async with serving(ScriptedEngine(), keys=[KEY], port=port):
            assert await said(client, request)
            running.cancel()
    assert statuses == [CloudStatus.OK, CloudStatus.UNREACHABLE, CloudStatus.OK]


@pytest.mark.parametrize("token", ["ulaw_8000", "alaw_8000"])
async def test_telephone_formats_come_back_as_sound(token: str) -> None:
    async with serving(ScriptedEngine([hum(0.5)]), keys=[KEY]) as server:
        request = SpeechRequest("Hi.", "en", 1, output_format=token)
        chunks = [chunk async for chunk in client_of(server.url, []).stream(request)]
    assert {chunk.format for chunk in chunks} == {PcmFormat(8_000)}
    assert sum(chunk.frames for chunk in chunks) == 4_000


async def test_the_wrong_key_and_an_unknown_voice_are_told_apart() -> None:
    statuses: list[CloudStatus] = []
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        with pytest.raises(InvalidRequestError, match="Voice not found"):
            await said(client_of(server.url, []), SpeechRequest("Hi.", "en", 77))
        with pytest.raises(UnauthorizedError):
            await said(client_of(server.url, statuses, "ka_wrong"), SpeechRequest("Hi.", "en", 1))
    assert statuses == [CloudStatus.UNAUTHORIZED]


async def test_a_gateway_without_keys_needs_none() -> None:
    async with serving(ScriptedEngine()) as server:
        assert await said(client_of(server.url, [], ""), SpeechRequest("Hi.", "en", 1))
        assert len(await Catalogue(server.url, "", WAIT_S).voices("de")) == 2


async def test_the_catalogue_is_read() -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:
        catalogue = Catalogue(server.url, KEY, WAIT_S)
        assert [voice.name for voice in await catalogue.voices()] == ["Anna", "Bert", "Cleo"]
        assert [model.id for model in await catalogue.models()] == ["kugel-3.5"]
        with pytest.raises(UnauthorizedError):
            await Catalogue(server.url, "ka_wrong", WAIT_S).voices()


async def test_what_a_request_cost_comes_last_and_holds_up_nobody() -> None:
    price = Usage(0.0, cost_cents=0.5, currency="eur")
    engine = ScriptedEngine([hum(0.5), price])  # type: ignore[list-item] # it gives on what it gets
    async with serving(engine, keys=[KEY]) as server:
        client = client_of(server.url, [])
        pieces = client.pieces(SpeechRequest("Hi.", "en", 1))
        async with asyncio.timeout(WAIT_S):
            while not isinstance(piece := await anext(pieces), Usage):
                pass
            # The account allows one at a time, and this one is over.
            assert await said(client, SpeechRequest("Ho.", "en", 1))
        await pieces.aclose()
    assert piece == Usage(0.5, 3, 0.5, "eur", "kugel-3.5")
