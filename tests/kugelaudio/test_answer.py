from __future__ import annotations

import dataclasses

import pytest

from kugel_bridge.kugelaudio.answer import Answer
from kugel_bridge.kugelaudio.codes import RATE_LIMITED
from kugel_bridge.kugelaudio.frames import (
    AudioFrame,
    Finished,
    Interrupted,
    WordTiming,
    WordTimings,
)
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest
from kugel_bridge.model.errors import (
    NoSoundError,
    ProtocolError,
    RateLimitedError,
    ServiceUnavailableError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk

REQUEST = SpeechRequest("Hello.", "en", 1)
SECOND = AudioFrame(bytes(48_000), Encoding.PCM, 24_000)


def test_audio_becomes_sound_and_everything_else_does_not() -> None:
    answer = Answer(REQUEST)
    assert answer.add(SECOND) == PcmChunk(SPEECH_FORMAT, bytes(48_000))
    for frame in (None, WordTimings(()), Finished()):
        assert answer.add(frame) is None
    answer.end()


WORDS = WordTimings((WordTiming("Hello", 0, 200, 0, 5),))


def test_words_are_handed_on_where_they_were_asked_for() -> None:
    answer = Answer(dataclasses.replace(REQUEST, word_timestamps=True))
    assert answer.add(WORDS) == WORDS
    assert Answer(REQUEST).add(WORDS) is None


def test_words_without_end_come_from_nothing_that_was_said() -> None:
    answer = Answer(dataclasses.replace(REQUEST, word_timestamps=True))
    with pytest.raises(ProtocolError, match="more words"):
        for _ in range(200):
            answer.add(WORDS)


def test_a_refusal_is_raised_as_our_error() -> None:
    with pytest.raises(RateLimitedError):
        Answer(REQUEST).add(RATE_LIMITED)


def test_an_interruption_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(ServiceUnavailableError):
        Answer(REQUEST).add(Interrupted())


def test_nothing_is_not_an_answer() -> None:
    with pytest.raises(NoSoundError, match="no sound"):
        Answer(REQUEST).end()


def test_a_long_text_may_take_long_and_a_short_one_may_not() -> None:
    long, short = Answer(SpeechRequest("x" * 1000, "en", 1)), Answer(REQUEST)
    for _ in range(600):
        long.add(SECOND)
    with pytest.raises(ProtocolError, match="of sound for this text"):
        for _ in range(15):
            short.add(SECOND)


def test_telephone_sound_that_was_not_asked_for_is_noise() -> None:
    with pytest.raises(ProtocolError):
        Answer(REQUEST).add(AudioFrame(b"\xff", Encoding.ALAW, 8_000))


def test_a_rate_may_be_another_one_but_does_not_change_in_mid_sound() -> None:
    answer = Answer(REQUEST)
    answer.add(AudioFrame(bytes(960), Encoding.PCM, 16_000))
    answer.add(AudioFrame(bytes(960), Encoding.PCM, 16_000))
    with pytest.raises(ProtocolError, match="24000 Hz after 16000 Hz"):
        answer.add(SECOND)


def test_words_of_all_chunks_count_from_the_beginning_of_the_sound() -> None:
    answer = Answer(dataclasses.replace(REQUEST, word_timestamps=True))
    answer.add(dataclasses.replace(SECOND, chunk_id=4))
    answer.add(dataclasses.replace(SECOND, chunk_id=4, index=1))
    answer.add(dataclasses.replace(SECOND, chunk_id=5, index=2))
    later = WordTimings((WordTiming("Bye", 100, 250, 0, 3),), chunk_id=5)
    assert answer.add(later) == WordTimings((WordTiming("Bye", 2_100, 2_250, 0, 3),))
    assert answer.add(dataclasses.replace(WORDS, chunk_id=4)) == WORDS
    ahead = dataclasses.replace(WORDS, chunk_id=6)
    assert answer.add(ahead) == WordTimings((WordTiming("Hello", 3_000, 3_200, 0, 5),))
