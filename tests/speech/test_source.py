from __future__ import annotations

import pytest

from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk
from kugel_bridge.speech.source import Sound
from tests.speech.sounds import ScriptedSource, heard, noise, utterance


async def test_the_beginning_is_not_lost() -> None:
    empty = PcmChunk(SPEECH_FORMAT, b"")
    sound = Sound(ScriptedSource(empty, noise(1, 1), noise(1, 2)).stream(utterance()))
    await sound.begin()
    assert await heard(sound) == bytes(noise(1, 1).data) + bytes(noise(1, 2).data)


async def test_no_sound_is_an_error_and_closes_the_source() -> None:
    source = ScriptedSource(then=ServiceUnavailableError("broken"))
    with pytest.raises(ServiceUnavailableError, match="broken"):
        await Sound(source.stream(utterance())).begin()
    assert source.closed
    with pytest.raises(ServiceUnavailableError, match="without any sound"):
        await Sound(ScriptedSource().stream(utterance())).begin()


async def test_closing_it_unread_closes_the_source() -> None:
    source = ScriptedSource(noise(1), noise(1))
    sound = Sound(source.stream(utterance()))
    await sound.begin()
    await sound.aclose()
    assert source.closed
    with pytest.raises(StopAsyncIteration):
        await sound.asend(None)


async def test_an_error_thrown_in_closes_the_source() -> None:
    source = ScriptedSource(noise(1), noise(1))
    sound = Sound(source.stream(utterance()))
    await sound.begin()
    with pytest.raises(KeyError):
        await sound.athrow(KeyError("x"))
    assert source.closed
