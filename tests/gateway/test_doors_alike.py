"""What all doors of the gateway refuse in the same way."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kugel_bridge.gateway.limits import Allowance, KeyLimits
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.model.pcm import PcmFormat
from tests.clock import ManualClock
from tests.gateway.multi import until
from tests.gateway.wire import wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

REQUEST = {"text": "Hello there.", "voice_id": 1, "language": "en"}
SINGLE, STREAM, MULTI = "/ws/tts", "/ws/tts/stream", "/ws/tts/multi"
SOCKETS = (SINGLE, STREAM, MULTI)


def message(path: str, **more: Any) -> dict[str, Any]:
    """A whole text, as that socket takes it."""
    if path == MULTI:
        return (
            {"text": "Hello there.", "context_id": "c", "language": "en", "flush": True}
            | {"voice_settings": {"voice_id": 1}}
            | more
        )
    return REQUEST | {"flush": True} | more


async def refusals(path: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What each message is refused with on a socket that stays open."""
    async with serving(ScriptedEngine()) as server, wire(server, path) as socket:
        found = []
        for each in messages:
            await socket.send(each)
            found.append(await socket.receive())
        await socket.send(message(path))
        await until(socket, "final")
    return found


@pytest.mark.parametrize("path", SOCKETS)
async def test_an_unknown_model_is_named_and_not_kept(path: str) -> None:
    async with serving(ScriptedEngine()) as server, wire(server, path) as socket:
        await socket.send(message(path, model_id="zzz"))
        error = await socket.receive()
        assert (error["code"], error["error_code"]) == (400, "VALIDATION_ERROR")
        assert "model_id 'zzz' is unknown" in error["error"]
        if path != STREAM:  # where an error in a turn ends the socket
            await socket.send(message(path))
            assert "final" in (await until(socket, "final", "error"))[-1]


@pytest.mark.parametrize("field", ["model_id", "model"])
async def test_an_unknown_model_is_named_over_rest(field: str) -> None:
    async with serving(ScriptedEngine()) as server, httpx.AsyncClient(timeout=WAIT_S) as client:
        answer = await client.post(f"{server.url}/v1/tts/generate", json=REQUEST | {field: "zzz"})
    assert answer.status_code == 400
    assert "model_id 'zzz' is unknown" in answer.json()["error"]


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "wrong", [{"speed": 9}, {"voice_id": 77, "voice_settings": {"voice_id": 77}}, "{"]
)
async def test_an_error_frame_has_the_id_of_the_upgrade(path: str, wrong: Any) -> None:
    async with serving(ScriptedEngine()) as server, wire(server, path) as socket:
        assert socket.socket.response is not None
        named = socket.socket.response.headers["x-request-id"]
        await socket.send(wrong if isinstance(wrong, str) else message(path, **wrong))
        error = (await until(socket, "error"))[-1]
    assert error["request_id"] == named


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        (SINGLE, ["cancel"]),
        (STREAM, ["cancel", "close", "end_session", "close_socket"]),
        (MULTI, ["cancel", "close_socket", "close_context", "immediate", "flush"]),
    ],
)
@pytest.mark.parametrize("value", ["no", "false", 0, 1, [], {}])
async def test_a_command_that_is_no_boolean_is_refused_by_its_name(
    path: str, flags: list[str], value: object
) -> None:
    found = await refusals(path, *[{flag: value, "context_id": "c"} for flag in flags])
    assert [frame["error"] for frame in found] == [
        f"Invalid request: {flag} is neither true nor false" for flag in flags
    ]
    assert {frame["code"] for frame in found} == {400}


async def test_a_flush_that_is_no_boolean_fails_its_turn() -> None:
    async with serving(ScriptedEngine()) as server, wire(server, STREAM) as socket:
        await socket.send(message(STREAM, flush="no"))
        assert "flush" in (await socket.receive())["error"]
        assert await socket.closed() == 4000


@pytest.mark.parametrize("path", SOCKETS)
async def test_text_beside_settings_is_refused_and_not_lost_in_silence(path: str) -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, wire(server, path) as socket:
        await socket.send(message(path, update_settings={"speed": 1.2}))
        error = await socket.receive()
        assert error["code"] == 400
        assert error["error"].startswith("Invalid request: text beside update_settings")
        if path != STREAM:
            await socket.send(message(path))
            await until(socket, "final")
            assert [request.speed for request in engine.requests] == [1.0]


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "text",
    [
        '<prosody rate="slow">One. Two. Three. Four.</prosody>',
        " One.  Two. ",
        "Really? 😀😀",
        "One. <foo>",
    ],
)
async def test_the_bill_and_the_books_count_what_was_submitted(path: str, text: str) -> None:
    clock = ManualClock()
    ledger = Ledger(None, clock)
    allowance = Allowance(requests_per_minute=9, concurrent_generations=1, connections=1)
    limits = KeyLimits(allowance, clock, ledger)
    async with (
        serving(ScriptedEngine(), limits=limits, ledger=ledger) as server,
        wire(server, path) as socket,
    ):
        await socket.send(message(path, text=text))
        if path == MULTI:
            await socket.send({"close_context": True, "context_id": "c"})
        end = {SINGLE: "final", STREAM: "session_closed", MULTI: "context_closed"}[path]
        usage = (await until(socket, end, "error"))[-1]["usage"]
        assert (usage["characters"], usage["cost_cents"]) == (len(text), 0.0)
        assert ledger.characters_today("open") == len(text)


async def test_the_length_of_sound_is_told_on_the_native_scale() -> None:
    engine = ScriptedEngine([hum(1.0, PcmFormat(22_050))])
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST | {"output_format": "ulaw_8000"}, REQUEST | {"speed": 0.8})
        final = (await socket.until_end())[-1]
        assert (final["total_samples"], final["dur_ms"]) == (24_000, 1_000)
        slow = (await socket.until_end())[-1]
        assert (slow["total_samples"], slow["dur_ms"]) == (19_200, 800)
        assert slow["usage"]["audio_seconds"] == 1.0
