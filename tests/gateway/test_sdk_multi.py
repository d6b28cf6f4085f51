"""The official SDK's multi_context_session as the gateway's customer; it has an async form only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import kugelaudio
import pytest
from kugelaudio import KugelAudio
from kugelaudio import streaming as sdk_streaming

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import SpeechRequest
from tests.gateway.multi import with_patience
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

KEY = "ka_test123"
SOUND = bytes(hum(0.25).data) * 2


@asynccontextmanager
async def session(server: GatewayServer, **options: Any) -> AsyncIterator[Any]:
    """An open session of the SDK, which is closed by its own close()."""
    client = KugelAudio(api_key=KEY, api_url=server.url, timeout=WAIT_S)
    try:
        defaults: dict[str, Any] = {"default_voice_id": 1, "language": "en"}
        async with (
            asyncio.timeout(WAIT_S),
            client.tts.multi_context_session(**(defaults | options)) as opened,
        ):
            yield opened
    finally:
        client.close()


async def spoken(chunks: AsyncIterator[Any]) -> bytes:
    return b"".join([chunk.audio async for chunk in chunks])


async def test_create_send_flush_and_close() -> None:
    engine = ScriptedEngine()
    async with serving(engine, keys=[KEY]) as server, session(server) as multi:
        await multi.create_context("narrator")
        await multi.create_context("character", voice_id=2)
        assert await spoken(multi.send("narrator", "Once upon a time.", flush=True)) == SOUND
        assert await spoken(multi.send("character", "Hello!", flush=True)) == SOUND
        await multi.keep_alive("narrator")
        # The SDK waits for the frames of its next call, so the answer cannot hide a stray one.
        settings = await multi.update_settings(speed=1.1)
        assert settings == {"language": "en", "normalize": True, "speed": 1.1}
        assert await spoken(multi.close_context("narrator")) == b""
        assert multi.usage_for("narrator").characters == len(" Once upon a time.")
        assert multi.usage_for("narrator").audio_seconds == 0.5
        assert multi.usage_for("narrator").cost_cents == 0.0
        assert await spoken(multi.close_context("character", immediate=True)) == b""
        assert await spoken(multi.send("later", "Faster.", flush=True)) == SOUND
        stats = await multi.close()
        assert stats["total_audio_seconds"] == 1.5
        assert multi.usage_for("later").audio_seconds == 0.5
    assert engine.asked == [
        ("Once upon a time.", "Anna", "en", 1.0),
        ("Hello!", "Bert", "en", 1.0),
        ("Faster.", "Anna", "en", 1.1),
    ]


async def test_text_sent_without_flush_is_spoken_by_the_flush_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_patience(monkeypatch, stale_s=0.02)
    async with serving(ScriptedEngine(), keys=[KEY]) as server, session(server) as multi:
        # Without a flush the SDK waits up to 30 s for sound: stale text has to come by itself.
        first = multi.send("c1", "Hello th", chunk_complete_idle_timeout=0)
        assert await spoken(first) == SOUND
        monkeypatch.undo()
        assert await spoken(multi.send("c1", "ere.", flush=True)) == SOUND
        assert await spoken(multi.flush("c1")) == b""


async def test_closing_a_context_brings_what_was_still_to_be_spoken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sdk_streaming, "_DEFAULT_RECV_TIMEOUT_S", 0.05)
    with_patience(monkeypatch)
    async with serving(ScriptedEngine(), keys=[KEY]) as server, session(server) as multi:
        assert await spoken(multi.send("c1", "Unflushed")) == b""
        monkeypatch.setattr(sdk_streaming, "_DEFAULT_RECV_TIMEOUT_S", WAIT_S)
        assert await spoken(multi.close_context("c1")) == SOUND
        assert multi.usage_for("c1").characters == len(" Unflushed")


async def test_an_immediate_close_in_the_middle_of_speech() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine, keys=[KEY]) as server, session(server) as multi:
        chunks = multi.send("c1", "Hello there.", flush=True)
        await anext(chunks)
        await chunks.aclose()
        assert await spoken(multi.close_context("c1", immediate=True)) == b""
        usage = multi.usage_for("c1")
        assert (usage.audio_seconds, usage.cost_cents) == (0.2, 0.0)
        assert engine.ended == 1
        assert engine.hold is not None
        engine.hold.set()
        assert await spoken(multi.send("c1", "Anew.", flush=True)) == SOUND


async def test_the_21st_context_is_a_rate_limit_error_and_the_session_lives() -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server, session(server) as multi:
        for number in range(20):
            await multi.create_context(f"c{number}")
        with pytest.raises(kugelaudio.RateLimitError) as caught:
            await multi.create_context("c20")
        assert caught.value.error_code == "TOO_MANY_CONTEXTS"
        assert await spoken(multi.send("c0", "Hello.", flush=True)) == SOUND
        await spoken(multi.close_context("c0"))
        await multi.create_context("c20")
        assert await spoken(multi.send("c20", "Hello.", flush=True)) == SOUND


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda m: spoken(m.send("x", "Hi.", flush=True)), kugelaudio.NotFoundError),
        (lambda m: m.update_settings(speed=3.0), kugelaudio.ValidationError),
        (lambda m: spoken(m.send("ok", "y" * 101, flush=True)), kugelaudio.ValidationError),
    ],
)
async def test_refusals_are_the_error_classes_of_the_sdk_and_the_session_lives(
    use: Callable[[Any], Any], error: type[Exception]
) -> None:
    async with (
        serving(ScriptedEngine(), keys=[KEY], max_characters=100) as server,
        session(server) as multi,
    ):
        await multi.create_context("ok")
        await multi.create_context("x", voice_id=77)
        with pytest.raises(error):
            await use(multi)
        assert await spoken(multi.send("ok", "Hello.", flush=True)) == SOUND


async def test_without_a_voice_a_context_is_created_and_cannot_speak() -> None:
    async with (
        serving(ScriptedEngine(), keys=[KEY]) as server,
        session(server, default_voice_id=None) as multi,
    ):
        await multi.create_context("c1")
        with pytest.raises(kugelaudio.ValidationError) as caught:
            await spoken(multi.send("c1", "Hello.", flush=True))
        assert caught.value.error_code == "MISSING_VOICE_ID"


async def test_g711_and_word_timestamps_are_asked_for_once_and_stay() -> None:
    engine = ScriptedEngine([hum(0.5)])
    async with (
        serving(engine, keys=[KEY]) as server,
        session(
            server, sample_rate=8000, word_timestamps=True, project_id=42, temperature=0.3
        ) as multi,
    ):
        for ident in ("a", "b"):
            assert len(await spoken(multi.send(ident, "Hello.", flush=True))) == 8000
    assert [(r.word_timestamps, r.project_id, r.temperature) for r in engine.requests] == [
        (True, 42, 0.3)
    ] * 2


@pytest.fixture
def no_restart_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second that the SDK waits before it comes back."""
    monkeypatch.setattr(sdk_streaming, "_restart_delay_s", lambda _: 0.0)


@pytest.mark.usefixtures("no_restart_delay")
async def test_a_restart_between_two_texts_is_not_noticed() -> None:
    engine = ScriptedEngine()
    async with AsyncExitStack() as later, asyncio.timeout(WAIT_S):
        async with serving(engine, keys=[KEY]) as server:
            multi = await later.enter_async_context(session(server))
            for ident in ("a", "b"):
                await multi.create_context(ident, voice_id=2)
            assert await spoken(multi.send("a", "Before.", flush=True)) == SOUND
            port = server.port
        await later.enter_async_context(serving(engine, keys=[KEY], port=port))
        assert await spoken(multi.send("b", "After.", flush=True)) == SOUND
        assert await spoken(multi.send("a", "Again.", flush=True)) == SOUND
        await multi.close()
    assert [asked[:2] for asked in engine.asked] == [
        ("Before.", "Bert"),
        ("After.", "Bert"),
        ("Again.", "Bert"),
    ]


class Stuck(ScriptedEngine):
    """Never makes the first sound."""

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        self.over.set()
        return await asyncio.Future[Spoken]()


@pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
@pytest.mark.usefixtures("no_restart_delay")
async def test_a_restart_before_the_first_sound_is_replayed() -> None:
    stuck, engine = Stuck(), ScriptedEngine()
    async with AsyncExitStack() as later, asyncio.timeout(WAIT_S):
        next_server = await later.enter_async_context(serving(engine, keys=[KEY]))
        async with serving(stuck, keys=[KEY], grace_s=0.05) as server:
            multi = await later.enter_async_context(session(server))
            await multi.create_context("a", voice_id=2)
            sending = asyncio.ensure_future(spoken(multi.send("a", "Hello.", flush=True)))
            await stuck.over.wait()
            # The SDK comes back at once, when the old port is perhaps not free yet.
            multi._tts_url = next_server.url
        assert await sending == SOUND
        await multi.close()
    assert [asked[:2] for asked in engine.asked] == [("Hello.", "Bert")]
