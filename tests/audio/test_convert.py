"""Conversion of PCM: nothing lost, nothing changed by the way it is cut."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio import g711
from kugel_bridge.audio.convert import Converter
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.audiocheck import noise, samples

FORMATS = st.builds(
    PcmFormat,
    rate=st.sampled_from([8_000, 22_050, 24_000, 44_100, 48_000]),
    channels=st.sampled_from([1, 2, 3, 6]),
    sample_bytes=st.sampled_from([2, 3, 4]),
)


def converted(chunks: list[PcmChunk], source: PcmFormat, target: PcmFormat) -> bytes:
    converter = Converter(source, target)
    parts = [converter.convert(chunk).data for chunk in chunks]
    return b"".join([*parts, converter.flush().data])


@given(FORMATS, FORMATS, st.lists(st.integers(0, 700), max_size=6), st.integers(0, 9))
def test_cutting_into_chunks_does_not_change_the_result(
    source: PcmFormat, target: PcmFormat, sizes: list[int], seed: int
) -> None:
    whole = noise(source, sum(sizes), seed)
    pieces, at = [], 0
    for size in sizes:
        end = at + size * source.frame_bytes
        pieces.append(PcmChunk(source, memoryview(whole.data)[at:end]))
        at = end
    assert converted(pieces, source, target) == converted([whole], source, target)


@given(FORMATS, FORMATS, st.integers(0, 2_000))
def test_the_length_is_kept_to_the_frame(source: PcmFormat, target: PcmFormat, frames: int) -> None:
    out = converted([noise(source, frames)], source, target)
    assert len(out) // target.frame_bytes == math.ceil(frames * target.rate / source.rate)


def test_the_same_format_costs_nothing() -> None:
    speech = PcmFormat(24_000)
    chunk = noise(speech, 100)
    assert Converter(speech, speech).convert(chunk) is chunk


def test_a_chunk_in_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="converter from"):
        Converter(PcmFormat(24_000), PcmFormat(48_000)).convert(noise(PcmFormat(22_050), 1))


def test_mono_is_heard_on_both_sides_and_nowhere_else() -> None:
    mono = PcmChunk(PcmFormat(48_000), array("h", [100, -200]).tobytes())
    out = converted([mono], mono.format, PcmFormat(48_000, 4))
    assert list(samples(out)) == [100, 100, 0, 0, -200, -200, 0, 0]


def test_left_and_right_meet_in_the_middle() -> None:
    stereo = PcmChunk(PcmFormat(48_000, 2), array("h", [1000, 3000, -400, 400]).tobytes())
    assert list(samples(converted([stereo], stereo.format, PcmFormat(48_000)))) == [2000, 0]


def test_a_wider_sample_keeps_its_value() -> None:
    narrow = PcmChunk(PcmFormat(48_000), array("h", [1, -1]).tobytes())
    out = array("i")
    out.frombytes(converted([narrow], narrow.format, PcmFormat(48_000, 1, 4)))
    assert list(out) == [1 << 16, -1 << 16]


def test_a_ramp_stays_a_ramp_at_twice_the_rate() -> None:
    ramp = PcmChunk(PcmFormat(24_000), array("h", range(0, 400, 4)).tobytes())
    out = samples(converted([ramp], ramp.format, PcmFormat(48_000)))
    assert list(out) == [*range(0, 398, 2), 396]


def test_a_flushed_converter_is_as_new() -> None:
    source, target = PcmFormat(22_050), PcmFormat(48_000)
    clip = noise(source, 500)
    converter = Converter(source, target)
    first = bytes(converter.convert(clip).data) + bytes(converter.flush().data)
    second = bytes(converter.convert(clip).data) + bytes(converter.flush().data)
    assert first == second


@pytest.mark.parametrize("law", g711.Law)
def test_g711_gives_back_every_value_it_can_hold(law: g711.Law) -> None:
    every = bytes(range(256))
    decoded = g711.decoded(every, law)
    assert g711.decoded(g711.encoded(decoded, law), law) == decoded


def test_g711_matches_the_standards_corner_values() -> None:
    # ITU-T G.711, tables 1a and 2a, scaled to 16 bit: largest positive value, and silence.
    assert samples(g711.decoded(b"\x80\xff", g711.Law.ULAW)).tolist() == [32_124, 0]
    assert samples(g711.decoded(b"\xaa\xd5", g711.Law.ALAW)).tolist() == [32_256, 8]


def test_half_a_sample_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="inside a 16 bit sample"):
        g711.encoded(b"\0\0\0", g711.Law.ULAW)
