from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio import g711
from kugel_bridge.gateway.body import MAX_BODY_BYTES
from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.limits import Allowance, KeyLimits
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.gateway.synthesis import FIELDS, parse_body
from kugel_bridge.gateway.usage import Ledger
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    RateLimitedError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.model.report import SourceKind
from tests.clock import ManualClock
from tests.gateway.test_rest import asking
from tests.gateway.wire import wire
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

PATH = "/v1/tts/generate"
REQUEST: dict[str, Any] = {"text": "Hello there.", "voice_id": 1, "language": "en"}


async def generate(engine: ScriptedEngine | None = None, **fields: Any) -> httpx.Response:
    async with serving(engine or ScriptedEngine()) as server, asking(server) as client:
        return await client.post(PATH, json=REQUEST | fields)


async def send(body: bytes | str, **headers: str) -> httpx.Response:
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        return await client.post(PATH, content=body, headers=headers)


# --- what comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, "/predict"])
async def test_the_sound_comes_bare_with_the_headers_of_the_api(path: str) -> None:
    async with serving(ScriptedEngine([hum(0.3), hum(0.5)])) as server, asking(server) as client:
        answer = await client.post(path, json=REQUEST)
    assert answer.status_code == 200
    assert answer.content == bytes(hum(0.3).data) + bytes(hum(0.5).data)
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["x-sample-rate"] == "24000"
    assert answer.headers["x-audio-format"] == "pcm_s16le"
    assert answer.headers["x-kugelaudio-ai-generated"] == "true"
    assert answer.headers["x-kugel-bridge-source"] == "local"
    assert "x-kugel-bridge-fallback" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("fields", "kind", "form", "rate", "length"),
    [
        ({"sample_rate": 8000}, "audio/pcm", "pcm_s16le", 8000, 8000),
        ({"sample_rate": 44100}, "audio/pcm", "pcm_s16le", 44100, 44100),
        ({"output_format": "pcm_16000"}, "audio/pcm", "pcm_s16le", 16000, 16000),
        ({"output_format": "ulaw_8000", "sample_rate": 24000}, "audio/basic", "mulaw", 8000, 4000),
        ({"output_format": "alaw_8000"}, "audio/basic", "alaw", 8000, 4000),
    ],
)
async def test_every_format_is_named_in_the_headers(
    fields: dict[str, Any], kind: str, form: str, rate: int, length: int
) -> None:
    answer = await generate(ScriptedEngine([hum(0.5)]), **fields)
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-audio-format"] == form
    assert answer.headers["x-sample-rate"] == str(rate)
    assert len(answer.content) == pytest.approx(length, rel=0.01)
    if form == "mulaw":
        assert max(g711.decoded(answer.content, g711.Law.ULAW)) > 0


async def test_the_first_sound_is_there_before_the_rest_is_made() -> None:
    hold = asyncio.Event()
    engine = ScriptedEngine(hold=hold)
    async with (
        serving(engine) as server,
        asking(server) as client,
        asyncio.timeout(WAIT_S),
        client.stream("POST", PATH, json=REQUEST) as answer,
    ):
        pieces = answer.aiter_bytes()
        first = await anext(pieces)
        assert first
        assert not engine.over.is_set()
        hold.set()
        rest = b"".join([piece async for piece in pieces])
    assert first + rest == bytes(hum(0.25).data) * 2


class FallbackEngine(ScriptedEngine):
    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        spoken = await super().speak(request, voice, language)
        return Spoken(SourceKind.CACHE, spoken.pieces, "no credits\r\nX-Evil: ü")


async def test_source_and_fallback_are_told_in_one_line_of_ascii() -> None:
    answer = await generate(FallbackEngine())
    assert answer.headers["x-kugel-bridge-source"] == "cache"
    assert answer.headers["x-kugel-bridge-fallback"] == "no credits??X-Evil: ?"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("field", ["model", "model_id"])
async def test_the_model_may_have_either_name(field: str) -> None:
    engine = ScriptedEngine()
    assert (await generate(engine, **{field: "kugel-3"})).status_code == 200
    assert engine.requests[0].model_id == "kugel-3"


async def test_espeak_speaks_over_rest() -> None:
    async with serving(LocalEngine()) as server, asking(server) as client:
        answer = await client.post(PATH, json=REQUEST | {"voice_id": "espeak-en-male"})
    assert 0.3 < len(answer.content) / 48_000 < 5
    assert max(answer.content) > 0


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "code", "named"),
    [
        ({"word_timestamps": False}, 400, "VALIDATION_ERROR", "word_timestamps"),
        ({"speaker_prefix": True}, 400, "VALIDATION_ERROR", "speaker_prefix"),
        ({"volume": 1}, 400, "VALIDATION_ERROR", "'volume'"),
        ({"cancel": True}, 400, "VALIDATION_ERROR", "'cancel'"),
        ({"update_settings": {"speed": 1}}, 400, "VALIDATION_ERROR", "'update_settings'"),
        ({"model": "kugel-3", "model_id": "kugel-3"}, 400, "VALIDATION_ERROR", "model"),
        ({"model_id": ""}, 400, "VALIDATION_ERROR", "model_id"),
        ({"model_id": "gpt"}, 400, "VALIDATION_ERROR", ""),
        ({"text": " "}, 400, "VALIDATION_ERROR", "text required"),
        ({"text": None}, 400, "VALIDATION_ERROR", "text required"),
        ({"text": 5}, 400, "VALIDATION_ERROR", "text"),
        ({"voice_id": None}, 400, "MISSING_VOICE_ID", "voice_id is required"),
        ({"voice_id": 77}, 404, "NOT_FOUND", "Voice not found"),
        ({"voice_id": True}, 400, "VALIDATION_ERROR", "voice_id"),
        ({"temperature": 1.1}, 400, "VALIDATION_ERROR", "temperature"),
        ({"speed": 0.7}, 400, "VALIDATION_ERROR", "speed"),
        ({"max_new_tokens": 0}, 400, "VALIDATION_ERROR", "max_new_tokens"),
        ({"sample_rate": 0}, 400, "VALIDATION_ERROR", "sample_rate"),
        ({"sample_rate": 48000}, 400, "VALIDATION_ERROR", "sample_rate"),
        ({"output_format": "mp3"}, 400, "VALIDATION_ERROR", "output_format"),
        (
            {"output_format": "pcm_8000", "sample_rate": 16000},
            400,
            "VALIDATION_ERROR",
            "contradict",
        ),
        ({"language": "de-DE"}, 400, "VALIDATION_ERROR", "language"),
        ({"normalize": "yes"}, 400, "VALIDATION_ERROR", "normalize"),
        ({"dictionary_ids": [1]}, 400, "VALIDATION_ERROR", "project_id"),
        ({"text": "x" * 10_001}, 413, "VALIDATION_ERROR", "maximum character limit"),
    ],
)
async def test_a_request_that_cannot_be_carried_out_is_refused_by_name(
    fields: dict[str, Any], status: int, code: str, named: str
) -> None:
    engine = ScriptedEngine()
    answer = await generate(engine, **fields)
    assert answer.status_code == status
    assert (answer.json()["error_code"], answer.json()["code"]) == (code, status)
    assert named in answer.json()["error"]
    assert not engine.asked


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"text": NaN}', b"[" * 100_000]
)
async def test_what_is_no_json_object_is_an_invalid_json_body(body: bytes) -> None:
    answer = await send(body, **{"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "Invalid JSON body",
        "error_code": "VALIDATION_ERROR",
        "code": 400,
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "Application/JSON; charset=UTF-8"}, 200),
        ({"Content-Type": 'application/json; charset="utf-8"'}, 200),
        ({"Content-Type": "application/vnd.api+json"}, 200),
        ({}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    ],
)
async def test_only_json_in_utf8_is_taken(headers: dict[str, str], status: int) -> None:
    answer = await send(json.dumps(REQUEST), **headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error_code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
async def test_json_in_another_coding_is_no_json(coding: str) -> None:
    body = json.dumps(REQUEST | {"text": "Grüße"}, ensure_ascii=False)
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        answer = await client.post(PATH, content=body.encode(coding))
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid JSON body")


async def test_non_ascii_text_arrives_as_it_was_sent() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, asking(server) as client:
        body = json.dumps(REQUEST | {"text": "Grüße, „Welt“ 😀"}, ensure_ascii=False)
        await client.post(PATH, content=body.encode())
    assert engine.requests[0].text == "Grüße, „Welt“ 😀"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413_and_harms_nobody(announced: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    body: Any = b" " * (MAX_BODY_BYTES + 1) if announced else pieces()
    async with serving(ScriptedEngine()) as server, asking(server) as client:
        answer = await client.post(PATH, content=body)
        assert (await client.post(PATH, json=REQUEST)).status_code == 200
    assert (answer.status_code, answer.json()["error_code"]) == (413, "VALIDATION_ERROR")


@given(
    st.dictionaries(
        st.sampled_from(sorted(FIELDS)) | st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.integers()),
    ).map(lambda fields: REQUEST | fields)
    | st.recursive(
        st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_body_is_a_request_or_a_400(value: Any) -> None:
    parsed = parse_body(json.dumps(value).encode())
    if isinstance(parsed, Refusal):
        assert parsed.status == 400
    else:
        assert parsed.text.strip()
        assert set(value) <= FIELDS
        assert not parsed.word_timestamps


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_400(body: bytes) -> None:
    parsed = parse_body(body)
    assert isinstance(parsed, SpeechRequest) or parsed.status == 400


# --- when it fails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (RateLimitedError("slow down", retry_after_s=2.2), 429, "RATE_LIMITED", "3"),
        (RateLimitedError("slow down"), 429, "RATE_LIMITED", "1"),
        (InvalidRequestError("no"), 400, "VALIDATION_ERROR", None),
        (NoCreditsError("empty"), 402, "INSUFFICIENT_CREDITS", None),
        (UnauthorizedError("bad key"), 503, "MODEL_UNAVAILABLE", None),
        (ServiceUnavailableError("down", retry_after_s=7), 503, "MODEL_UNAVAILABLE", "7"),
        (BridgeError("what?"), 500, "INTERNAL_ERROR", None),
        (None, 500, "EMPTY_AUDIO", None),
        (RuntimeError("a bug"), 500, "INTERNAL_ERROR", None),
    ],
)
async def test_a_failure_before_the_first_sound_is_an_error_in_json(
    error: Exception | None, status: int, code: str, retry_after: str | None
) -> None:
    answer = await generate(ScriptedEngine([], then=error))
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("error", [ServiceUnavailableError("gone"), RuntimeError("a bug")])
async def test_a_failure_after_the_first_sound_truncates_the_body(error: Exception) -> None:
    received = b""
    engine = ScriptedEngine([hum(0.5)], then=error)
    async with serving(engine) as server, asking(server) as client, asyncio.timeout(WAIT_S):
        async with client.stream("POST", PATH, json=REQUEST) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                async for piece in answer.aiter_bytes():
                    received += piece
        assert (await client.get("/health")).status_code == 200
    assert bytes(hum(0.5).data).startswith(received)
    assert received


@asynccontextmanager
async def counting(**allowance: int) -> AsyncIterator[tuple[KeyLimits, Ledger, ManualClock]]:
    clock = ManualClock()
    ledger = Ledger(None, clock)
    usual = {"requests_per_minute": 60, "concurrent_generations": 5, "connections": 5}
    yield KeyLimits(Allowance(**(usual | allowance)), clock, ledger), ledger, clock


async def test_a_client_that_leaves_ends_the_generation_and_frees_its_slot() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with counting(concurrent_generations=1) as (limits, ledger, _):
        async with (
            serving(engine, limits=limits, ledger=ledger) as server,
            asking(server) as client,
            asyncio.timeout(WAIT_S),
        ):
            async with client.stream("POST", PATH, json=REQUEST) as answer:
                await anext(answer.aiter_bytes())
                busy = await client.post(PATH, json=REQUEST)
            await engine.over.wait()
            engine.hold = None
            after = await client.post(PATH, json=REQUEST)
        [day] = ledger.days("open")
    assert (busy.status_code, busy.json()["error_code"]) == (429, "RATE_LIMITED")
    assert busy.headers["retry-after"] == "1"
    assert after.status_code == 200
    # What the first one heard before it left is used up too.
    assert (day.requests, day.characters, day.audio_s) == (2, 24, 0.2 + 0.5)


async def test_a_client_that_leaves_before_the_first_sound_ends_the_work_too() -> None:
    class Slow(ScriptedEngine):
        async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
            self.asked.append((request.text, voice.name, language, request.speed))
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.over.set()
            raise AssertionError("never")

    reached = asyncio.Event()
    engine = Slow()
    async with counting() as (limits, ledger, _):
        async with (
            serving(engine, limits=limits, ledger=ledger) as server,
            asking(server) as client,
            asyncio.timeout(WAIT_S),
            asyncio.TaskGroup() as tasks,
        ):
            asked = tasks.create_task(client.post(PATH, json=REQUEST))
            await reached.wait()
            asked.cancel()
            await engine.over.wait()
        assert not ledger.days("open")


async def test_the_end_of_the_server_truncates_what_is_under_way() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    server = GatewayServer(host="127.0.0.1", port=0, keys=[], engine=engine)
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        await server.up()
        async with (
            asking(server) as client,
            client.stream("POST", PATH, json=REQUEST) as answer,
        ):
            pieces = answer.aiter_bytes()
            await anext(pieces)
            running.cancel()
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in pieces:
                    pass
        await engine.over.wait()


async def test_the_engine_waits_for_a_client_that_does_not_read() -> None:
    made: list[int] = []

    class Endless(ScriptedEngine):
        async def _pieces(self) -> Any:
            try:
                while True:
                    made.append(1)
                    yield hum(1.0)
                    await asyncio.sleep(0)
            finally:
                self.over.set()

    engine = Endless()
    body = json.dumps(REQUEST).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serving(engine) as server, asyncio.timeout(WAIT_S):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + body)
        # It stands still once kernel and transport are full: no piece in many turns of the loop.
        before, turns = -1, 0
        while turns < 2000:
            turns = turns + 1 if len(made) == before and before > 0 else 0
            before = len(made)
            await asyncio.sleep(0)
        assert len(made) * 48_000 < 20_000_000
        connection.close()
        await engine.over.wait()


# --- limits -------------------------------------------------------------------------------


async def test_the_minute_is_counted_and_the_wait_is_true() -> None:
    async with (
        counting(requests_per_minute=2) as (limits, ledger, clock),
        serving(ScriptedEngine(), limits=limits, ledger=ledger) as server,
        asking(server) as client,
    ):
        statuses = [(await client.post(PATH, json=REQUEST)).status_code for _ in range(2)]
        clock.advance(20.5)
        refused = await client.post(PATH, json=REQUEST)
        clock.advance(float(refused.headers["retry-after"]))
        again = await client.post(PATH, json=REQUEST)
    assert statuses == [200, 200]
    assert (refused.status_code, refused.json()["error_code"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "40"
    assert again.status_code == 200


async def test_the_days_characters_are_402_and_nothing_is_spoken() -> None:
    engine = ScriptedEngine()
    async with (
        counting(characters_per_day=20) as (limits, ledger, clock),
        serving(engine, limits=limits, ledger=ledger) as server,
        asking(server) as client,
    ):
        assert (await client.post(PATH, json=REQUEST)).status_code == 200
        refused = await client.post(PATH, json=REQUEST)
        clock.advance(86_400)
        assert (await client.post(PATH, json=REQUEST)).status_code == 200
    assert (refused.status_code, refused.json()["error_code"]) == (402, "INSUFFICIENT_CREDITS")
    assert len(engine.asked) == 2


async def test_what_was_refused_is_not_counted() -> None:
    async with (
        counting(requests_per_minute=1) as (limits, ledger, _),
        serving(ScriptedEngine(), limits=limits, ledger=ledger) as server,
        asking(server) as client,
    ):
        for _ in range(3):
            assert (await client.post(PATH, json=REQUEST | {"voice_id": 77})).status_code == 404
        assert (await client.post(PATH, json=REQUEST)).status_code == 200


async def test_a_request_while_the_server_ends_is_sent_elsewhere() -> None:
    hold = asyncio.Event()
    engine = ScriptedEngine(hold=hold)
    async with asyncio.timeout(WAIT_S):
        server = GatewayServer(host="127.0.0.1", port=0, keys=[], engine=engine, grace_s=WAIT_S)
        async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(trust_env=False) as client:
            running = tasks.create_task(server.run())
            await server.up()
            await client.get(f"{server.url}/health")
            url = server.url
            async with wire(server) as busy:
                await busy.send(REQUEST)
                await busy.receive()
                running.cancel()
                ready = await client.get(f"{url}/ready")
                while ready.status_code == 200:
                    ready = await client.get(f"{url}/ready")
                refused = await client.post(url + PATH, json=REQUEST)
                hold.set()
                await busy.closed()
    assert ready.json()["status"] == "not_ready"
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
