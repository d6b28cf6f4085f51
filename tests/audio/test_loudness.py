"""Loudness: 100 % changes nothing, 0 % is silence, between them as people hear."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.loudness import amplified, faded, gain_factor, peak
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.audiocheck import noise, samples

SPEECH = PcmFormat(24_000)


def test_full_loudness_is_the_very_same_sound() -> None:
    chunk = noise(SPEECH, 50)
    assert amplified(chunk, gain_factor(100)) is chunk


def test_no_loudness_is_silence() -> None:
    assert bytes(amplified(noise(SPEECH, 50), gain_factor(0)).data) == bytes(100)


def test_half_the_percent_is_ten_decibels_less() -> None:
    assert 20 * math.log10(gain_factor(50)) == pytest.approx(-10)


@given(st.floats(-50, 150), st.floats(-50, 150))
def test_more_percent_is_never_softer_and_never_beyond_full_scale(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0.0 <= gain_factor(low) <= gain_factor(high) <= 1.0


def test_too_much_gain_is_clipped_and_does_not_wrap() -> None:
    loud = PcmChunk(SPEECH, b"\xff\x7f\x00\x80")
    assert samples(amplified(loud, 3.0).data).tolist() == [32_767, -32_768]


@pytest.mark.parametrize("frames", [1, 7, 64, 240, 961])
def test_a_fade_keeps_every_frame_and_ends_near_silence(frames: int) -> None:
    steady = PcmChunk(SPEECH, b"\x00\x40" * frames)
    out = samples(faded(steady, 1.0, 0.0).data)
    assert len(out) == frames
    assert list(out) == sorted(out, reverse=True)
    assert frames < 64 or out[-1] < 0.02 * 0x4000


def test_peak_of_full_scale_and_of_nothing() -> None:
    assert peak(PcmChunk(SPEECH, b"\x00\x80")) == 1.0
    assert peak(PcmChunk(SPEECH, b"")) == 0.0
