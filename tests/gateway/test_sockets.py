from __future__ import annotations

import asyncio
import base64
import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import PcmFormat
from tests.gateway.scripted_socket import ScriptedSocket
from tests.gateway.wire import REQUEST, Wire, wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving


async def test_a_request_is_answered_with_frames_and_an_end_with_everything() -> None:
    engine = ScriptedEngine([hum(0.5), hum(0.25)])
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST)
        *sound, final = await socket.until_end()
    assert engine.asked == [("Hello there.", "Anna", "en", 1.0)]
    assert [frame["idx"] for frame in sound] == list(range(len(sound)))
    assert {(frame["enc"], frame["sr"], frame["chunk_id"]) for frame in sound} == {
        ("pcm_s16le", 24_000, 0)
    }
    assert max(frame["samples"] for frame in sound) == 4_800
    data = b"".join(base64.b64decode(frame["audio"]) for frame in sound)
    assert data == bytes(hum(0.5).data) + bytes(hum(0.25).data)
    assert final["chunks"] == len(sound)
    assert (final["total_samples"], final["dur_ms"]) == (18_000, 750)
    assert {"gen_ms", "rtf", "debug"} <= set(final)
    assert final["debug"]["original_text"] == "Hello there."
    assert final["usage"] == {
        "audio_seconds": 0.75,
        "characters": 12,
        "cost_cents": 0.0,
        "currency": "eur",
        "model_id": "kugel-3.5",
    }


async def test_the_first_frame_goes_out_before_the_engine_goes_on() -> None:
    engine = ScriptedEngine([hum(0.02), hum(1.0)], hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST)
        first = await socket.receive()
        assert first["samples"] == 480
        assert engine.hold is not None
        engine.hold.set()
        await socket.until_end()


@pytest.mark.parametrize(
    ("fields", "enc", "rate"),
    [
        ({"sample_rate": 8000}, "pcm_s16le", 8000),
        ({"sample_rate": 16000}, "pcm_s16le", 16000),
        ({"sample_rate": 22050}, "pcm_s16le", 22050),
        ({"sample_rate": 44100}, "pcm_s16le", 44100),
        ({"output_format": "pcm_16000"}, "pcm_s16le", 16000),
        ({"output_format": "ulaw_8000", "sample_rate": 24000}, "mulaw", 8000),
        ({"output_format": "alaw_8000"}, "alaw", 8000),
    ],
)
async def test_every_rate_and_encoding_is_delivered_in_full_length(
    fields: dict[str, Any], enc: str, rate: int
) -> None:
    engine = ScriptedEngine([hum(0.3, PcmFormat(22_050))] * 4)
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST | fields)
        *sound, final = await socket.until_end()
    assert {(frame["enc"], frame["sr"]) for frame in sound} == {(enc, rate)}
    width = 2 if enc == "pcm_s16le" else 1
    assert all(len(base64.b64decode(f["audio"])) == f["samples"] * width for f in sound)
    assert sum(frame["samples"] for frame in sound) == pytest.approx(1.2 * rate, abs=2)
    assert final["usage"]["audio_seconds"] == pytest.approx(1.2, abs=0.001)


async def test_requests_on_one_socket_are_answered_in_their_order() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, wire(server) as socket:
        texts = [f"Number {n}." for n in range(5)]
        await socket.send(*[REQUEST | {"text": text} for text in texts])
        ends = [(await socket.until_end())[-1] for _ in texts]
    assert [end["debug"]["original_text"] for end in ends] == texts


async def test_cancel_ends_the_request_and_the_socket_lives_on() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST)
        assert "audio" in await socket.receive()
        await socket.send({"cancel": True})
        assert (await socket.until_end())[-1] == {"interrupted": True}
        assert engine.ended == 1
        assert engine.hold is not None
        engine.hold.set()
        await socket.send(REQUEST)
        assert "final" in (await socket.until_end())[-1]


async def test_cancel_is_harmless_when_idle() -> None:
    async with serving(ScriptedEngine()) as server, wire(server) as socket:
        await socket.send({"cancel": True})
        assert await socket.receive() == {"interrupted": True}


async def test_update_settings_fill_in_for_later_requests() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, wire(server) as socket:
        await socket.send({"update_settings": {"speed": 1.1, "language": "de"}})
        assert await socket.receive() == {
            "settings_updated": True,
            "settings": {"speed": 1.1, "language": "de"},
        }
        await socket.send({"text": "Hallo.", "voice_id": "bert"})
        await socket.until_end()
        await socket.send({"update_settings": {"voice_id": 2}})
        assert (await socket.receive())["error_code"] == "VALIDATION_ERROR"
        await socket.send(REQUEST | {"speed": 0.9})
        await socket.until_end()
    assert engine.asked == [("Hallo.", "Bert", "de", 1.1), ("Hello there.", "Anna", "en", 0.9)]


async def test_without_a_language_the_voice_speaks_its_own() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, wire(server) as socket:
        await socket.send({"text": "Bonjour.", "voice_id": 3})
        await socket.until_end()
    assert engine.asked[0][2] == "fr"


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("{", 400, "VALIDATION_ERROR"),
        ("[]", 400, "VALIDATION_ERROR"),
        ("[" * 50_000, 400, "VALIDATION_ERROR"),
        ({}, 400, "VALIDATION_ERROR"),
        ({"text": " ", "voice_id": 1}, 400, "VALIDATION_ERROR"),
        ({"text": "Hi"}, 400, "MISSING_VOICE_ID"),
        ({"text": "Hi", "voice_id": 77}, 404, "NOT_FOUND"),
        ({"text": "Hi", "voice_id": "nobody"}, 404, "NOT_FOUND"),
        ({"text": "Hi", "voice_id": "9" * 150}, 404, "NOT_FOUND"),
        ({"text": "Hi", "voice_id": 1, "model_id": "gpt"}, 400, "VALIDATION_ERROR"),
        ({"text": "x" * 101, "voice_id": 1}, 413, "VALIDATION_ERROR"),
        ({"text": "Hi", "voice_id": 1, "speed": 2}, 400, "VALIDATION_ERROR"),
    ],
)
async def test_a_bad_message_is_refused_and_the_socket_lives_on(
    message: dict[str, Any] | str, status: int, code: str
) -> None:
    async with serving(ScriptedEngine(), max_characters=100) as server, wire(server) as socket:
        await socket.send(message)
        refusal = await socket.receive()
        assert (refusal["code"], refusal["error_code"]) == (status, code)
        assert refusal["error"]
        await socket.send(REQUEST)
        assert "final" in (await socket.until_end())[-1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimitedError("no"), "RATE_LIMITED"),
        (InvalidRequestError("no"), "VALIDATION_ERROR"),
        (ServiceUnavailableError("no"), "MODEL_UNAVAILABLE"),
        (ProtocolError("no"), "INTERNAL_ERROR"),
        (ZeroDivisionError("bug"), "INTERNAL_ERROR"),
    ],
)
async def test_a_failing_engine_is_told_in_the_shape_of_the_api(
    error: BridgeError | Exception, code: str
) -> None:
    engine = ScriptedEngine([], then=error)
    async with serving(engine) as server, wire(server) as socket:
        for _ in range(2):
            await socket.send(REQUEST)
            assert (await socket.receive())["error_code"] == code


async def test_an_engine_without_sound_is_an_error() -> None:
    async with serving(ScriptedEngine([])) as server, wire(server) as socket:
        await socket.send(REQUEST)
        assert (await socket.receive())["error_code"] == "EMPTY_AUDIO"


async def test_a_client_that_leaves_ends_the_engine_s_work() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, asyncio.timeout(WAIT_S):
        async with wire(server) as socket:
            await socket.send(REQUEST)
            await socket.receive()
            assert not engine.over.is_set()
        await engine.over.wait()


async def test_a_flood_of_requests_is_cut_off() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.send(*[REQUEST] * 100)
            while True:
                await socket.receive()
        assert await socket.closed() == 4029


async def test_an_oversize_message_ends_the_socket_with_1009() -> None:
    async with serving(ScriptedEngine()) as server, wire(server) as socket:
        await socket.send("x" * 1_100_000)
        assert await socket.closed() == 1009


async def test_sockets_are_independent() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, wire(server) as first, wire(server) as second:
        await first.send(REQUEST)
        await first.receive()
        await second.send(REQUEST)
        await second.receive()
        assert engine.hold is not None
        engine.hold.set()
        for socket in (first, second):
            assert "final" in (await socket.until_end())[-1]


async def test_the_end_of_the_server_closes_idle_sockets_with_1012() -> None:
    async with AsyncExitStack() as later:
        async with serving(ScriptedEngine()) as server:
            socket = await later.enter_async_context(wire(server))
        assert await socket.closed() == 1012


async def test_the_end_of_the_server_lets_a_turn_finish() -> None:
    hold = asyncio.Event()
    engine = ScriptedEngine([hum(0.1), hum(0.1)], hold=hold)

    async def finish_once_the_server_ends(idle: Wire, busy: Wire) -> list[dict[str, Any]]:
        assert await idle.closed() == 1012
        hold.set()
        return await busy.until_end()

    async with AsyncExitStack() as later, asyncio.TaskGroup() as tasks:
        async with serving(engine, grace_s=WAIT_S) as server:
            busy = await later.enter_async_context(wire(server))
            idle = await later.enter_async_context(wire(server))
            await busy.send(REQUEST)
            await busy.receive()
            rest = tasks.create_task(finish_once_the_server_ends(idle, busy))
        assert "final" in (await rest)[-1]
        assert await busy.closed() == 1012


async def test_the_end_of_the_server_cuts_a_turn_that_does_not_finish() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with AsyncExitStack() as later:
        async with serving(engine, grace_s=0.1) as server:
            socket = await later.enter_async_context(wire(server))
            await socket.send(REQUEST)
            await socket.receive()
        assert await socket.closed() == 1012
    assert engine.over.is_set()


async def test_the_handshake_tells_that_a_machine_speaks() -> None:
    async with serving(ScriptedEngine()) as server, wire(server) as socket:
        assert socket.socket.response is not None
        headers = socket.socket.response.headers
        assert headers["x-kugelaudio-ai-generated"] == "true"
        assert headers["x-request-id"]
        assert "Sec-WebSocket-Protocol" not in headers


async def test_texts_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = ScriptedEngine([], then=ServiceUnavailableError("gone"))
    async with serving(engine) as server, wire(server) as socket:
        await socket.send(REQUEST | {"text": "my secret diary"})
        await socket.until_end()
    assert "diary" not in caplog.text
    assert "15 characters" in caplog.text


@pytest.mark.parametrize("path", ["/ws/tts", "/ws/tts/stream", "/ws/tts/multi"])
async def test_a_socket_that_comes_while_the_server_ends_is_sent_elsewhere(path: str) -> None:
    socket, engine = ScriptedSocket(path, [json.dumps(REQUEST)]), ScriptedEngine()
    await socket.serve(engine, draining=True)
    accepted, closed = socket.sent
    assert accepted["type"] == "websocket.accept"
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)
    assert not engine.asked
