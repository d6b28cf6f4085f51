"""Gateways one behind the other, each on a port of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.errors import (
    InvalidRequestError,
    NoCreditsError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.gateway.in_front import HELLO, TEXT, Front, client_for, in_front
from tests.gateway.wire import wire
from tests.gateway_server import VOICES, WAIT_S, ScriptedEngine, hum, serving

REQUEST = {"text": TEXT, "voice_id": 1, "language": "en"}
WORDS = WordTimings((WordTiming("Dinner", 0, 200, 0, 6),))


@contextlib.asynccontextmanager
async def chain(
    engine: ScriptedEngine, folder: Path | None = None, **options: Any
) -> AsyncIterator[tuple[GatewayServer, Front]]:
    """The last gateway of: engine, gateway A, gateway B; and what works behind B."""
    async with (
        serving(engine) as a,
        in_front(a.url, folder, **options) as front,
        serving(front.engine) as b,
    ):
        yield b, front


async def said(client: SpeechClient, request: SpeechRequest = HELLO) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        return [piece async for piece in client.pieces(request)]


async def test_sound_words_and_cost_come_through_two_gateways(tmp_path: Path) -> None:
    price = Usage(0.0, cost_cents=0.25, currency="eur")
    engine = ScriptedEngine([hum(0.5), WORDS, hum(0.3), price])  # type: ignore[list-item] # it gives on what it gets
    wordy = SpeechRequest(TEXT, "en", "anna", word_timestamps=True)
    async with chain(engine, tmp_path) as (gateway, _):
        pieces = await said(client_for(gateway.url), wordy)
    sound = b"".join(bytes(piece.data) for piece in pieces if isinstance(piece, PcmChunk))
    assert sound == bytes(hum(0.5).data) + bytes(hum(0.3).data)
    assert WORDS in pieces
    assert pieces[-1] == Usage(0.8, len(TEXT), 0.25, "eur", "kugel-3.5")


async def test_formats_are_made_where_they_are_asked_for(tmp_path: Path) -> None:
    engine = ScriptedEngine([hum(0.5)])
    async with chain(engine, tmp_path) as (gateway, front):
        for token, rate in (("ulaw_8000", 8_000), ("pcm_16000", 16_000)):
            request = SpeechRequest(TEXT, "en", 1, output_format=token)
            pieces = await said(client_for(gateway.url), request)
            assert {p.format for p in pieces if isinstance(p, PcmChunk)} == {PcmFormat(rate)}
            await front.kept()
    assert len(engine.asked) == 1


async def test_fifty_who_ask_for_the_same_at_once_are_one_request_and_all_hear_it_grow() -> None:
    price = Usage(0.0, cost_cents=0.25, currency="eur")
    engine = ScriptedEngine([hum(0.2), hum(0.6), price], hold=asyncio.Event())  # type: ignore[list-item] # it gives on what it gets
    assert engine.hold is not None
    async with chain(engine) as (gateway, _), contextlib.AsyncExitStack() as sockets:
        callers = [await sockets.enter_async_context(wire(gateway)) for _ in range(50)]
        for caller in callers:
            await caller.send(REQUEST)
        # Everybody hears the beginning while the service has not gone on.
        heard = [base64.b64decode((await caller.receive())["audio"]) for caller in callers]
        assert heard == [bytes(hum(0.2).data)] * 50
        engine.hold.set()
        costs = []
        for number, caller in enumerate(callers):
            *frames, final = await caller.until_end()
            heard[number] += b"".join(base64.b64decode(frame["audio"]) for frame in frames)
            costs.append(final["usage"]["cost_cents"])
        assert heard == [bytes(hum(0.2).data) + bytes(hum(0.6).data)] * 50
    assert sorted(costs) == [0.0] * 49 + [0.25]
    assert len(engine.asked) == 1


async def test_only_the_last_one_to_go_ends_the_request_behind() -> None:
    engine = ScriptedEngine([hum(0.2), hum(0.6)], hold=asyncio.Event())
    assert engine.hold is not None
    async with chain(engine) as (gateway, _):
        async with wire(gateway) as last:
            async with wire(gateway) as first:
                for caller in (first, last):
                    await caller.send(REQUEST)
                    await caller.receive()
                await first.send({"cancel": True})
                assert (await first.receive())["interrupted"]
            assert not engine.over.is_set()
            await last.send({"cancel": True})
            assert (await last.receive())["interrupted"]
        async with asyncio.timeout(WAIT_S):
            await engine.over.wait()
    assert len(engine.asked) == 1


async def test_errors_keep_their_meaning_on_their_way() -> None:
    async with chain(ScriptedEngine([], then=NoCreditsError("empty"))) as (gateway, _):
        with pytest.raises(NoCreditsError):
            await said(client_for(gateway.url))
    async with chain(ScriptedEngine([], then=ServiceUnavailableError("x"))) as (gateway, _):
        with pytest.raises(ServiceUnavailableError):
            await said(client_for(gateway.url))
    async with chain(ScriptedEngine()) as (gateway, _):
        with pytest.raises(InvalidRequestError, match="Voice not found"):
            await said(client_for(gateway.url), SpeechRequest(TEXT, "en", "nobody"))


async def test_voices_come_through_with_everything() -> None:
    async with chain(ScriptedEngine()) as (gateway, _):
        lists = Catalogue(gateway.url, "", WAIT_S)
        assert await lists.voices() == list(VOICES)
        found = await lists.voice("bert")
        assert found is not None
        assert (found.id, found.name, found.languages) == (2, "Bert", ("de",))
        assert await lists.voice(77) is None


async def test_when_the_first_gateway_ends_the_second_speaks_by_itself(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as first:
        a = await first.enter_async_context(serving(ScriptedEngine([hum(1.0)])))
        async with (
            in_front(a.url, tmp_path, fallback=True) as front,
            serving(front.engine) as b,
        ):
            client = client_for(b.url)
            await said(client)
            await front.kept()
            await first.aclose()
            cached = await said(client)
            assert b"".join(bytes(p.data) for p in cached if isinstance(p, PcmChunk)) == (
                hum(1.0).data
            )
            local = await said(client, SpeechRequest("Nobody has said this.", "en", 1))
            assert sum(p.frames for p in local if isinstance(p, PcmChunk)) > 10_000
