"""Texts without words, at every door."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kugel_bridge.gateway.generation import refusal_for
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.orders import parse
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.model.errors import InvalidRequestError
from kugel_bridge.speech.narration import SilentError
from tests.broker import free_port
from tests.gateway.circle import gateway_at, url_of
from tests.gateway.multi import until
from tests.gateway.wire import wire
from tests.gateway_server import WAIT_S, ScriptedEngine, serving

REQUEST = {"voice_id": 1, "language": "en"}
NOTHING = ["<spell></spell>", '<prosody rate="slow"> </prosody>', "<foo>", "\0", " \0\n"]
REFUSED = {
    "error": "text required: there is nothing in it that can be spoken",
    "error_code": "VALIDATION_ERROR",
    "code": 400,
}


async def generated(url: str, text: str, **more: Any) -> httpx.Response:
    """The answer to a text over REST."""
    async with httpx.AsyncClient(timeout=WAIT_S) as client:
        body = REQUEST | {"text": text} | more
        return await client.post(f"{url}/v1/tts/generate", json=body)


async def heard(server: GatewayServer, path: str, text: str) -> list[dict[str, Any]]:
    """All frames that a text gets on a socket."""
    async with wire(server, path) as socket:
        message = REQUEST | {"text": text, "flush": True}
        if path.endswith("multi"):
            message |= {"context_id": "c", "voice_settings": {"voice_id": 1}}
        await socket.send(message)
        return await until(socket, "final", "error")


def sound_of(frames: list[dict[str, Any]]) -> bytes:
    """The sound in frames."""
    return b"".join(base64.b64decode(frame["audio"]) for frame in frames if "audio" in frame)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("<break/>", 0.2),
        (' <break time="900ms"/>\n<break strength="strong"/> ', 1.0),
        ("<b><break/></b> ...", 0.2),
        ('<break time="2s"/>' * 5, 2.5),
    ],
)
async def test_a_text_of_pauses_is_their_silence_at_every_door(text: str, seconds: float) -> None:
    engine = ScriptedEngine()
    silence = bytes(int(seconds * 24_000) * 2)
    async with serving(engine) as server:
        answer = await generated(server.url, text)
        assert (answer.status_code, answer.content) == (200, silence)
        for path in ("/ws/tts", "/ws/tts/stream", "/ws/tts/multi"):
            frames = await heard(server, path, text)
            assert (path, sound_of(frames)) == (path, silence)
    assert not engine.asked


@pytest.mark.parametrize("text", NOTHING)
async def test_a_text_of_nothing_is_refused_where_it_is_a_whole_request(text: str) -> None:
    async with serving(LocalEngine()) as server:
        answer = await generated(server.url, text, voice_id=101)
        assert (answer.status_code, answer.json()) == (400, REFUSED)
        (frame,) = await heard(server, "/ws/tts", text)
        assert REFUSED.items() <= frame.items()


@pytest.mark.parametrize("text", NOTHING)
async def test_a_text_of_nothing_is_as_none_where_text_comes_in_pieces(text: str) -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server:
        for path in ("/ws/tts/stream", "/ws/tts/multi"):
            frames = await heard(server, path, text)
            assert {"final"} <= set(frames[-1])
            assert not sound_of(frames)
    assert not engine.asked


async def test_marks_alone_go_to_the_engine() -> None:
    async with serving(LocalEngine()) as server:
        answer = await generated(server.url, "...", voice_id=101)
    assert answer.status_code == 200


def test_silence_of_an_engine_that_is_well_is_the_fault_of_the_text() -> None:
    refusal = refusal_for(SilentError("espeak-ng made no sound"))
    assert refusal.to_fields() == REFUSED
    assert isinstance(refusal.as_error(), InvalidRequestError)


async def test_an_engine_that_finds_nothing_to_say_is_no_outage_for_the_gateway_in_front(
    tmp_path: Path,
) -> None:
    engine = ScriptedEngine([], then=SilentError("espeak-ng made no sound"))
    async with in_front_of(engine, tmp_path) as url:
        for text in ("...", "?", "!"):
            assert (await generated(url, text)).json() == REFUSED
        engine.chunks, engine.then = ScriptedEngine().chunks, None
        answer = await generated(url, "Is it still well?")
    assert (answer.status_code, answer.headers["X-Kugel-Bridge-Source"]) == (200, "cloud")


@pytest.mark.parametrize("fault", ["do=silence", "do=error error_code=EMPTY_AUDIO"])
async def test_a_service_without_sound_for_one_text_is_asked_for_the_next(
    tmp_path: Path, fault: str
) -> None:
    async with in_front_of(ScriptedEngine(), tmp_path, [f"on=/ws/tts {fault} times=1"]) as url:
        answer = await generated(url, "Hello.")
        assert (answer.status_code, answer.json()["error_code"]) == (500, "EMPTY_AUDIO")
        answer = await generated(url, "Is it still well?")
    assert (answer.status_code, answer.headers["X-Kugel-Bridge-Source"]) == (200, "cloud")


@asynccontextmanager
async def in_front_of(
    engine: ScriptedEngine, folder: Path, faults: Sequence[str] = ()
) -> AsyncIterator[str]:
    """The address of a gateway that asks one with that engine, without a fallback."""
    port = free_port()
    async with (
        serving(engine, faults=[parse(order) for order in faults]) as behind,
        gateway_at(port, behind.url, folder, fallback=False),
    ):
        yield url_of(port)
