"""Gateways one behind the other, each on a port of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.gateway import chain as gateway_chain
from kugel_bridge.gateway.chain import MAX_GATEWAYS, VIA, Chain, GuardedLists, via_of
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.client import SpeechClient
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.frames import WordTiming, WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.kugelaudio.rest import Catalogue
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    LoopError,
    NoCreditsError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.broker import free_port
from tests.gateway.circle import circle, gateway_at, url_of
from tests.gateway.in_front import HELLO, TEXT, Front, client_for, in_front
from tests.gateway.wire import wire
from tests.gateway_server import VOICES, WAIT_S, ScriptedEngine, hum, serving

REQUEST = {"text": TEXT, "voice_id": 1, "language": "en"}
OF_A_GATEWAY = {"X-Kugel-Bridge": "gateway"}
IN_A_CIRCLE = "these gateways ask each other in a circle"
FALLBACK = "X-Kugel-Bridge-Fallback"
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


# --- circles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
async def test_of_gateways_in_a_circle_one_leaves_it_and_all_speak(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    async with circle(count, tmp_path) as urls:
        await told(caplog, IN_A_CIRCLE)
        answers = [await spoken(url, f"Hello, number {url}.") for url in urls]
    assert all(len(answer.content) > 10_000 for answer in answers)
    assert "upstream: gateways in a circle" in [answer.headers.get(FALLBACK) for answer in answers]


async def test_without_anybody_else_to_speak_the_answer_names_the_circle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with circle(2, tmp_path, fallback=False) as urls:
        await told(caplog, IN_A_CIRCLE)
        for url in urls:
            answer = await spoken(url, "Who speaks?")
            assert answer.status_code == 508
            assert answer.json()["error_code"] == "LOOP_DETECTED"
            assert answer.json()["error"].startswith(f"{IN_A_CIRCLE}: {host_part()}")


async def test_a_circle_that_is_opened_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_chain, "RETRY_S", 0.1)
    caplog.set_level(logging.INFO)
    a, b = free_port(), free_port()
    engine = ScriptedEngine([hum(0.3)])
    async with gateway_at(a, url_of(b), tmp_path, fallback=False):
        async with gateway_at(b, url_of(a), tmp_path):
            await told(caplog, IN_A_CIRCLE)
        # In place of the second one, a gateway that asks nobody.
        async with serving(engine, port=b):
            async with asyncio.timeout(WAIT_S):
                while (answer := await spoken(url_of(a), "Open again.")).status_code != 200:
                    await asyncio.sleep(0.05)
    assert answer.content == hum(0.3).data


async def test_a_chain_names_all_who_stand_behind(tmp_path: Path) -> None:
    middle, first = free_port(), free_port()
    async with (
        serving(ScriptedEngine()) as last,
        gateway_at(middle, last.url, tmp_path),
        gateway_at(first, url_of(middle), tmp_path),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        async with asyncio.timeout(WAIT_S):
            names: list[str] = []
            while len(names) < 3:
                names = (await client.get(f"{url_of(first)}/chain")).json()["chain"]
        assert names[1:] == (await client.get(f"{url_of(middle)}/chain")).json()["chain"]
    assert len(set(names)) == 3


async def test_a_chain_that_is_too_long_is_no_chain_of_a_house() -> None:
    chain = Chain(Neighbours(["last"]))
    await chain.vet(OF_A_GATEWAY)
    before = [f"gateway-{number}" for number in range(MAX_GATEWAYS - 1)]
    assert await chain.behind(before[1:]) == [chain.name, "last"]
    with pytest.raises(LoopError, match=f"more than {MAX_GATEWAYS} gateways .*: gateway-0 > "):
        await chain.behind(before)
    assert isinstance(via_of(", ".join([*before, "one-more"])), Refusal)


async def test_nobody_who_is_no_gateway_is_asked_who_is_behind() -> None:
    asked = Neighbours(["b"])
    chain = Chain(asked)
    await chain.vet({"Server": "something else"})
    assert await chain.behind([]) == [chain.name]
    assert asked.headers == []
    await chain.vet(OF_A_GATEWAY)
    assert await chain.behind(["a"]) == [chain.name, "b"]
    assert [headers[VIA] for headers in asked.headers] == [chain.name, f"a, {chain.name}"]


async def test_a_socket_that_leads_into_a_circle_is_not_used() -> None:
    engine, marks = ScriptedEngine(), []

    async def refuse(headers: Mapping[str, str]) -> None:
        marks.append(headers["X-Kugel-Bridge"])
        raise LoopError("in a circle", retry_after_s=60)

    async with serving(engine) as gateway:
        client = client_for(gateway.url)
        client.vet_with(refuse)
        with pytest.raises(LoopError, match="in a circle"):
            await said(client)
        objection = client.available
        assert isinstance(objection, LoopError)
        assert objection.retry_after_s is not None
        assert objection.retry_after_s > 50
    assert marks == ["gateway"]
    assert engine.asked == []


async def test_a_chain_is_told_over_rest_and_a_circle_refused() -> None:
    async with serving(ScriptedEngine()) as gateway:
        lists = Catalogue(gateway.url, "", WAIT_S)
        (name,) = await lists.chain({}, WAIT_S)
        assert await lists.chain({VIA: "somebody-else"}, WAIT_S) == [name]
        with pytest.raises(LoopError, match=f"{IN_A_CIRCLE}: {name} > {name}"):
            await lists.chain({VIA: name}, WAIT_S)
        with pytest.raises(InvalidRequestError, match=VIA):
            await lists.chain({VIA: "what is this?"}, WAIT_S)


async def test_a_gateway_that_does_not_tell_is_the_last_one() -> None:
    chain = Chain(Neighbours(ServiceUnavailableError("gone")))
    await chain.vet(OF_A_GATEWAY)
    assert await chain.behind([]) == [chain.name]


async def test_two_that_ask_at_the_same_moment_both_find_the_circle() -> None:
    a, b = Chain(), Chain()
    a._neighbour, b._neighbour = Asked(b), Asked(a)
    found = await asyncio.gather(
        *(chain.vet(OF_A_GATEWAY) for chain in (a, b)), return_exceptions=True
    )
    assert any(isinstance(error, LoopError) for error in found)
    cut = [chain for chain in (a, b) if chain.loop is not None]
    with pytest.raises(LoopError):
        await GuardedLists(Catalogue("http://127.0.0.1:1", "", 1.0), cut[0]).voices()


@given(st.text(max_size=80))
def test_whatever_the_header_says_it_is_names_or_a_refusal(header: str) -> None:
    found = via_of(header)
    if isinstance(found, Refusal):
        assert found.status == 400
    else:
        assert all(name and name in header for name in found)
        assert via_of(", ".join(found)) == found


class Neighbours:
    """The next gateway, which answers always the same."""

    def __init__(self, answer: list[str] | BridgeError) -> None:
        self._answer = answer
        self.headers: list[Mapping[str, str]] = []

    async def chain(self, headers: Mapping[str, str], timeout_s: float) -> list[str]:
        self.headers.append(headers)
        if isinstance(self._answer, BridgeError):
            raise self._answer
        return self._answer


class Asked:
    """The next gateway, in this process."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def chain(self, headers: Mapping[str, str], timeout_s: float) -> list[str]:
        via = via_of(headers[VIA])
        assert not isinstance(via, Refusal)
        await asyncio.sleep(0)
        return await self._chain.behind(via)


def host_part() -> str:
    return Chain().name.rpartition("-")[0]


async def spoken(url: str, text: str) -> httpx.Response:
    """The answer to a request for speech."""
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        request = {"text": text, "voice_id": 1, "language": "en"}
        return await client.post(f"{url}/v1/tts/generate", json=request)


async def told(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Return when the log has it."""
    async with asyncio.timeout(WAIT_S):
        while words not in caplog.text:
            await asyncio.sleep(0.01)
