"""The local engine as the gateway sees it."""

from __future__ import annotations

import logging
import shutil

import pytest
from wyoming.tts import Synthesize

from kugel_bridge.gateway.engine import Piece
from kugel_bridge.gateway.local import LocalEngine
from kugel_bridge.gateway.voices import VoiceWish, line_up
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.settings.tree import Settings
from tests.speech.measuring import pitch
from tests.speech.test_espeak import children
from tests.speech.test_wyoming import speaking

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="apt install espeak-ng to test it"
)


async def spoken(
    engine: LocalEngine, ident: int | str, text: str = "Es klingelt.", *, words: bool = False
) -> list[Piece]:
    voice = await engine.voice(ident)
    assert voice is not None
    request = SpeechRequest(text, "de", voice.id, word_timestamps=words)
    speech = await engine.speak(request, voice, "de")
    assert speech.source is SourceKind.LOCAL
    return [piece async for piece in speech.pieces]


def sound(pieces: list[Piece]) -> PcmChunk:
    chunks = [piece for piece in pieces if isinstance(piece, PcmChunk)]
    return PcmChunk(chunks[0].format, b"".join(bytes(chunk.data) for chunk in chunks))


def seconds(pieces: list[Piece]) -> float:
    return sound(pieces).seconds


@needs_espeak
async def test_words_come_with_the_sound_when_they_are_asked_for() -> None:
    engine = LocalEngine()
    timed = await spoken(engine, 111, words=True)
    words = [w.word for piece in timed if isinstance(piece, WordTimings) for w in piece.words]
    assert words == ["Es", "klingelt"]
    assert isinstance(timed[0], PcmChunk)
    untimed = await spoken(engine, 111)
    assert all(isinstance(piece, PcmChunk) for piece in untimed)
    assert seconds(untimed) == pytest.approx(seconds(timed), abs=0.01)


@needs_espeak
@pytest.mark.parametrize("words", [True, False])
async def test_speech_that_is_closed_unread_leaves_no_child(words: bool) -> None:
    engine = LocalEngine()
    voice = (await engine.voices())[0]
    request = SpeechRequest("Ein langer Satz. " * 200, "en", voice.id, word_timestamps=words)
    speech = await engine.speak(request, voice, "en")
    assert len(children()) == 1
    await speech.pieces.aclose()
    assert children() == []


@needs_espeak
async def test_a_voice_of_ones_own_sounds_like_its_espeak_voice() -> None:
    settings = Settings.model_validate(
        {
            "gateway": {
                "voices": {
                    "anna": {"id": 1001, "espeak": "de+f4"},
                    "twin": {"id": 1002, "espeak": "de+f3"},
                },
                "hidden_voices": ["espeak-de-male", 101],
            }
        }
    )
    gateway = settings.gateway
    engine = LocalEngine(line_up(gateway.wishes, gateway.hidden_local_voices))
    assert await engine.voice(112) is None
    assert await engine.voice("espeak-en-female") is None
    anna, twin, built_in = [
        sound(await spoken(engine, ident, "Es klingelt an der Haustür."))
        for ident in ("anna", 1002, "111")
    ]
    # Its breath is noise: two times the same are not the same samples.
    assert twin.frames == built_in.frames
    assert pitch(twin) == pytest.approx(pitch(built_in), rel=0.01)
    assert pitch(anna) != pytest.approx(pitch(built_in), rel=0.03)


async def test_a_voice_of_a_wyoming_server_is_spoken_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[Synthesize] = []
    async with speaking(asked) as uri:
        wish = VoiceWish(handle="thorsten", id=7, wyoming=uri, wyoming_voice="de_DE-thorsten")
        engine = LocalEngine(line_up([wish], []))
        with caplog.at_level(logging.INFO):
            pieces = await spoken(engine, "thorsten", words=True)
    assert len(asked) == 1
    assert seconds(pieces) == pytest.approx(12 * 100 / 16_000)
    assert "the voice thorsten does not tell when its words sound" in caplog.messages


async def test_without_sound_speaking_does_not_begin() -> None:
    wish = VoiceWish(handle="gone", id=7, wyoming="tcp://127.0.0.1:1")
    with pytest.raises(ServiceUnavailableError, match=r"tcp://127\.0\.0\.1:1 cannot be reached"):
        await spoken(LocalEngine(line_up([wish], [])), 7)
