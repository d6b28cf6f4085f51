"""The jitter buffer: starts early, stays in order, bounded, and gives up by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.jitter import (
    GiveUp,
    JitterBuffer,
    JitterRules,
    Over,
    Pad,
    Play,
    Wait,
)
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.audiocheck import noise

SPEECH = PcmFormat(24_000)
RULES = JitterRules()


def sound(seconds: float, seed: int = 1) -> PcmChunk:
    return noise(SPEECH, round(seconds * SPEECH.rate), seed)


@pytest.mark.parametrize("seconds", [0.00005, 0.05, 5.0])
def test_a_complete_sound_starts_at_once(seconds: float) -> None:
    buffer = JitterBuffer()
    buffer.push(sound(seconds), 0.0)
    buffer.end()
    assert isinstance(buffer.next(0.0, 0.0), Play)


def test_enough_sound_starts_at_once_though_more_is_to_come() -> None:
    buffer = JitterBuffer()
    buffer.push(sound(0.3), 0.0)
    step = buffer.next(0.0, 0.0)
    assert isinstance(step, Play)
    assert step.chunk.seconds == pytest.approx(RULES.first_piece_s)


def test_little_sound_waits_for_a_second_chunk_that_proves_the_pace() -> None:
    buffer = JitterBuffer()
    buffer.push(sound(0.1), 0.0)
    assert isinstance(buffer.next(0.0, 0.0), Wait)
    buffer.push(sound(0.1), 0.05)
    assert isinstance(buffer.next(0.05, 0.0), Play)


def test_a_slow_source_is_given_more_time() -> None:
    buffer = JitterBuffer()
    buffer.push(sound(0.04), 0.0)
    buffer.push(sound(0.04), 0.2)
    step = buffer.next(0.2, 0.0)
    assert isinstance(step, Wait)
    assert step.seconds == pytest.approx(RULES.patience_s - 0.2)


def test_patience_ends() -> None:
    buffer = JitterBuffer()
    buffer.push(sound(0.04), 0.0)
    assert isinstance(buffer.next(RULES.patience_s, 0.0), Play)


def test_before_the_first_sound_there_is_nothing_to_do_but_wait() -> None:
    assert JitterBuffer().next(100.0, 0.0) == Wait(None)


def test_an_empty_sound_is_over_at_once() -> None:
    buffer = JitterBuffer()
    buffer.push(PcmChunk(SPEECH, b""), 0.0)
    buffer.end()
    assert buffer.next(0.0, 0.0) == Over()


def stalled() -> JitterBuffer:
    """A buffer that has handed out all but what it holds back."""
    buffer = JitterBuffer()
    buffer.push(sound(0.3), 0.0)
    while isinstance(buffer.next(0.0, 0.5), Play):
        pass
    return buffer


def test_a_late_source_costs_nothing_while_the_sink_has_sound() -> None:
    assert stalled().next(0.1, 0.2) == Wait(pytest.approx(0.2 - RULES.low_s))


def test_a_stall_ends_softly_and_is_filled_with_silence() -> None:
    buffer = stalled()
    step = buffer.next(0.3, 0.05)
    assert isinstance(step, Play)
    assert step.fade_out
    assert step.chunk.seconds == pytest.approx(RULES.tail_s)
    assert buffer.next(0.3, 0.05) == Pad(RULES.pad_s)


def test_after_a_stall_some_sound_is_gathered_before_it_goes_on_softly() -> None:
    buffer = stalled()
    buffer.next(0.3, 0.0)
    buffer.push(sound(0.1), 0.5)
    assert buffer.next(0.5, 0.0) == Pad(RULES.pad_s)
    buffer.push(sound(0.15), 0.6)
    step = buffer.next(0.6, 0.0)
    assert isinstance(step, Play)
    assert step.fade_in
    following = buffer.next(0.6, 0.0)
    assert isinstance(following, Play)
    assert not following.fade_in


def test_a_stall_that_ends_with_the_stream_plays_the_rest() -> None:
    buffer = stalled()
    buffer.next(0.3, 0.0)
    buffer.push(sound(0.05), 0.5)
    buffer.end()
    assert isinstance(buffer.next(0.5, 0.0), Play)
    assert buffer.next(0.5, 0.0) == Over()


def test_a_long_stall_gives_up() -> None:
    buffer = stalled()
    buffer.next(0.3, 0.0)
    assert isinstance(buffer.next(0.3 + RULES.give_up_s - 0.1, 0.0), Pad)
    assert isinstance(buffer.next(0.3 + RULES.give_up_s, 0.0), GiveUp)


def test_a_full_buffer_tells_the_reader_to_wait() -> None:
    buffer = JitterBuffer()
    buffer.push(sound(RULES.most_s - 0.1), 0.0)
    assert not buffer.full
    buffer.push(sound(0.1), 0.0)
    assert buffer.full
    buffer.next(0.0, 0.0)
    assert not buffer.full


@given(
    st.lists(st.tuples(st.integers(0, 9_000), st.floats(0, 0.6)), max_size=12),
    st.floats(0.5, 2.0),
)
def test_all_sound_comes_out_once_and_in_order_whatever_the_pace(
    arrivals: list[tuple[int, float]], sink_pace: float
) -> None:
    buffer = JitterBuffer()
    pushed, out = [], []
    now = queued = 0.0
    waiting = []
    at = 0.0
    for seed, (frames, gap) in enumerate(arrivals):
        at += gap
        waiting.append((at, noise(SPEECH, frames, seed)))
    for _ in range(20_000):
        while waiting and waiting[0][0] <= now and not buffer.full:
            pushed.append(waiting.pop(0)[1])
            buffer.push(pushed[-1], now)
        if not waiting:
            buffer.end()
        step = buffer.next(now, queued)
        passed = 0.0
        match step:
            case Play(chunk):
                assert chunk.frames > 0
                out.append(bytes(chunk.data))
                queued += chunk.seconds
                passed = max(0.0, queued - 0.25)
            case Pad(seconds):
                queued += seconds
                passed = max(0.001, queued - 0.25)
            case Wait(seconds):
                passed = 0.01 if seconds is None else min(max(seconds, 0.001), 0.01)
            case Over():
                break
        assert buffer.buffered_s <= RULES.most_s + 9_000 / SPEECH.rate
        now += passed
        queued = max(0.0, queued - passed * sink_pace)
    else:
        raise AssertionError("it never came to an end")
    assert b"".join(out) == b"".join(bytes(chunk.data) for chunk in pushed)
    assert not waiting
