"""The official SDK's streaming session as the gateway's customer, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import kugelaudio
import pytest
from kugelaudio import KugelAudio

from kugel_bridge.gateway.engine import Spoken
from kugel_bridge.gateway.limits import Limits, NoLimits
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.server import GatewayServer
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import RATE_LIMITED, Refusal
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import BridgeError, ProtocolError, ServiceUnavailableError
from tests.gateway.test_sdk import KEY, with_sdk
from tests.gateway.test_turns import SayingEngine, WatchedLimits
from tests.gateway_server import WAIT_S, ScriptedEngine, hum, serving

pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
"""The SDK reads attributes that newer releases of websockets advise against."""

SOUND = bytes(hum(0.25).data) * 2
"""What a ScriptedEngine makes of one chunk."""


@asynccontextmanager
async def session_on(server: GatewayServer, key: str = KEY, **options: Any) -> AsyncIterator[Any]:
    """A session of the SDK; also its end must come at once, without any of its time-outs."""
    client = KugelAudio(api_key=key, api_url=server.url)
    try:
        async with (
            asyncio.timeout(WAIT_S),
            client.tts.streaming_session(**{"voice_id": 1, "language": "en"} | options) as session,
        ):
            yield session
    finally:
        await client.aclose()


async def heard(chunks: AsyncIterator[kugelaudio.AudioChunk]) -> bytes:
    return b"".join([chunk.audio async for chunk in chunks])


async def test_turns_on_one_socket_each_with_its_bill() -> None:
    engine = ScriptedEngine()
    async with serving(engine, keys=[KEY]) as server, session_on(server) as session:
        for text in ("One.", "Gr\u00fc\u00dfe. \U0001f600 Zwei."):
            await heard(session.send(text[:3]))
            assert await heard(session.send(text[3:], flush=True)) == SOUND * text.count(".")
            # The blanks between its sentences are not spoken.
            assert session.last_usage.characters == len(text)
            assert session.last_final["total_text_chunks"] == text.count(".")
        assert (await session.end_session())["session_closed"]
        assert await session.close() == {}
    assert [asked[0] for asked in engine.asked] == ["One.", "Gr\u00fc\u00dfe.", "\U0001f600 Zwei."]


async def test_flush_and_drain_end_a_turn_with_all_of_its_sound() -> None:
    async with serving(ScriptedEngine()) as server, session_on(server) as session:
        await heard(session.send("Unflushed"))
        assert await heard(session.flush()) == SOUND
        await heard(session.send("Again"))
        assert await heard(session.drain()) == SOUND
        await heard(session.send("Not wanted"))
        assert (await session.end_session())["total_audio_seconds"] == 0.5


async def test_another_voice_and_other_settings_count_from_the_next_turn() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as server, session_on(server) as session:
        await heard(session.send("One.", flush=True))
        await session.end_session()
        session.update_config(voice_id=2, language="de")
        await heard(session.send("Zwei.", flush=True))
        settings = await session.update_settings(speed=1.1, cfg_scale=9.9)
        assert (settings["speed"], settings["cfg_scale"]) == (1.1, 2.5)
        with pytest.raises(kugelaudio.ValidationError):
            await session.update_settings(speed=3.0)
        await heard(session.send("Drei.", flush=True))
    assert engine.asked == [
        ("One.", "Anna", "en", 1.0),
        ("Zwei.", "Bert", "de", 1.0),
        ("Drei.", "Bert", "de", 1.1),
    ]


async def test_a_barge_in_leaves_nothing_for_the_next_turn() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    async with serving(engine) as server, session_on(server) as session:
        async for chunk in session.send("About to be cut. And more.", flush=True):
            assert chunk.audio
            break
        await session.cancel_current()
        assert engine.ended == 1
        assert engine.hold is not None
        engine.hold.set()
        assert await heard(session.send("After.", flush=True)) == SOUND
        assert session.last_final["total_text_chunks"] == 1


async def test_words_arrive_with_their_sound() -> None:
    said: list[str] = []
    async with (
        serving(SayingEngine()) as server,
        session_on(
            server,
            word_timestamps=True,
            on_word_timestamps=lambda words: said.extend(word.word for word in words),
        ) as session,
    ):
        await heard(session.send("One. Two.", flush=True))
        assert session.last_word_timestamps[0].end_ms == 100
    assert said == ["One.", "Two."]


async def test_every_option_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    options: dict[str, Any] = {
        "model_id": "kugel-3",
        "cfg_scale": 1.5,
        "temperature": 0.2,
        "max_new_tokens": 100,
        "sample_rate": 16_000,
        "normalize": False,
        "speed": 0.9,
        "project_id": 42,
        "dictionary_ids": [7],
        "word_timestamps": True,
    }
    async with serving(engine) as server, session_on(server, **options) as session:
        await heard(session.send("One.", flush=True))
    assert engine.requests == [
        SpeechRequest("One.", "en", 1, **options | {"dictionary_ids": (7,)}),
    ]


async def test_the_sync_session() -> None:
    async with serving(ScriptedEngine(), keys=[KEY]) as server:

        def use(client: KugelAudio) -> bytes:
            with client.tts.streaming_session_sync(voice_id=1, language="en") as session:
                first = session.send("One. Two.", flush=True)
                session.update_settings(speed=1.1)
                session.send("Three")
                return b"".join(chunk.audio for chunk in [*first, *session.drain()])

        assert await with_sdk(server, use) == SOUND * 3


async def test_espeak_speaks_what_comes_in_tokens() -> None:
    async with serving(LocalEngine()) as server, session_on(server, voice_id=112) as session:
        parts = [await heard(session.send(token)) for token in ("Guten ", "Tag", "!")]
        rest = await heard(session.send(" Und auf Wiedersehen.", flush=True))
        assert session.last_final["total_text_chunks"] == 2
        seconds = len(b"".join(parts) + rest) / 48_000
        assert 0.5 < seconds < 6
        assert session.last_usage.audio_seconds == pytest.approx(seconds, abs=0.01)


class NoCredit(WatchedLimits):
    def __init__(self) -> None:
        super().__init__(budget=0)


class NoSlot(WatchedLimits):
    def __init__(self) -> None:
        super().__init__(refuses=RATE_LIMITED)


class NoSocket(NoLimits):
    def open_socket(self, account: str) -> Refusal | None:
        return RATE_LIMITED.waiting(7)


@pytest.mark.parametrize(
    ("options", "limits", "failure", "error"),
    [
        ({"voice_id": None}, NoLimits, None, kugelaudio.ValidationError),
        ({"model_id": "gpt"}, NoLimits, None, kugelaudio.ValidationError),
        ({"voice_id": 77}, NoLimits, None, kugelaudio.NotFoundError),
        ({"project_id": None, "dictionary_ids": [7]}, NoLimits, None, kugelaudio.ValidationError),
        ({"key": "ka_wrong"}, NoLimits, None, kugelaudio.AuthenticationError),
        ({}, NoCredit, None, kugelaudio.InsufficientCreditsError),
        ({}, NoSlot, None, kugelaudio.RateLimitError),
        ({}, NoSocket, None, kugelaudio.RateLimitError),
        ({}, NoLimits, ServiceUnavailableError("no"), kugelaudio.KugelAudioConnectionError),
        ({}, NoLimits, ProtocolError("no"), kugelaudio.KugelAudioError),
    ],
)
async def test_every_error_is_its_class_in_the_sdk_and_the_next_turn_works(
    options: dict[str, Any],
    limits: Callable[[], Limits],
    failure: BridgeError | None,
    error: type[Exception],
) -> None:
    engine = ScriptedEngine([hum(0.1)], then=failure)
    async with serving(engine, keys=[KEY], limits=limits()) as server:
        with pytest.raises(error) as caught:
            async with session_on(server, **options) as session:
                await heard(session.send("Hello.", flush=True))
        assert type(caught.value) is error
        if limits is NoSocket:
            assert caught.value.retry_after == 7
            return
        if limits is NoLimits:
            engine.then = None
            async with session_on(server) as session:
                assert await heard(session.send("Hello.", flush=True)) == bytes(hum(0.1).data)


async def test_too_long_a_text_is_a_validation_error() -> None:
    async with serving(ScriptedEngine(), max_characters=100) as server:
        with pytest.raises(kugelaudio.ValidationError):
            async with session_on(server) as session:
                await heard(session.send("x" * 101, flush=True))


async def test_a_session_goes_on_after_an_error_on_a_new_socket() -> None:
    engine = ScriptedEngine(then=ServiceUnavailableError("no"))
    async with serving(engine) as server, session_on(server) as session:
        with pytest.raises(kugelaudio.KugelAudioConnectionError):
            await heard(session.send("One.", flush=True))
        engine.then = None
        await session.close()
        assert await heard(session.send("Two.", flush=True)) == SOUND


class SilentEngine(ScriptedEngine):
    """Takes a text and never says anything."""

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        await super().speak(request, voice, language)
        self.over.set()
        return await asyncio.get_running_loop().create_future()


async def test_a_restart_is_not_noticed_between_turns_nor_before_the_first_sound() -> None:
    silent, speaking = SilentEngine(), ScriptedEngine()
    is_open, is_back = asyncio.Event(), asyncio.Event()

    async def busy(server: GatewayServer) -> bytes:
        async with session_on(server) as session:
            await heard(session.send("Hello "))
            return await heard(session.send("there.", flush=True))

    async def idle(server: GatewayServer) -> bytes:
        async with session_on(server, voice_id=2) as session:
            is_open.set()
            await is_back.wait()
            return await heard(session.send("Back.", flush=True))

    async with asyncio.TaskGroup() as tasks:
        async with serving(silent, keys=[KEY], grace_s=0.05) as server:
            port = server.port
            sounds = [tasks.create_task(customer(server)) for customer in (busy, idle)]
            await silent.over.wait()
            await is_open.wait()
        async with serving(speaking, keys=[KEY], port=port):
            is_back.set()
            # The SDK waits one second before it comes again.
            assert [await sound for sound in sounds] == [SOUND] * 2
    assert [asked[0] for asked in silent.asked] == ["Hello there."]
    assert sorted(asked[:2] for asked in speaking.asked) == [
        ("Back.", "Bert"),
        ("Hello there.", "Anna"),
    ]


async def test_a_restart_after_the_first_sound_is_told() -> None:
    engine = ScriptedEngine(hold=asyncio.Event())
    heard_first = asyncio.Event()

    async def customer(server: GatewayServer) -> None:
        with pytest.raises(kugelaudio.ServerRestartingError):
            async with session_on(server) as session:
                async for _ in session.send("Hello there.", flush=True):
                    heard_first.set()

    async with asyncio.TaskGroup() as tasks, serving(engine, grace_s=0.05) as server:
        tasks.create_task(customer(server))
        await heard_first.wait()
