from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat

formats = st.builds(
    PcmFormat,
    rate=st.integers(1, 192_000),
    channels=st.integers(1, 8),
    sample_bytes=st.integers(1, 4),
)


@pytest.mark.parametrize("numbers", [(0, 1, 2), (24_000, 0, 2), (24_000, 1, 0), (-8_000, 1, 2)])
def test_a_format_has_positive_numbers(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not a PCM format"):
        PcmFormat(*numbers)


def test_a_frame_is_one_sample_per_channel() -> None:
    assert PcmFormat(48_000, channels=2, sample_bytes=3).frame_bytes == 6


@given(formats, st.integers(0, 10**9))
def test_frames_turned_into_seconds_and_back_are_the_same(pcm: PcmFormat, frames: int) -> None:
    assert pcm.frames_in(pcm.seconds(frames)) == frames


def test_a_part_of_a_frame_does_not_count() -> None:
    assert PcmFormat(10).frames_in(0.19) == 1


@given(formats, st.integers(0, 500))
def test_silence_lasts_as_long_as_asked_for(pcm: PcmFormat, frames: int) -> None:
    silence = pcm.silence(pcm.seconds(frames))
    assert silence.frames == frames
    assert not any(silence.data)
    assert silence.seconds == pytest.approx(frames / pcm.rate)


@given(formats, st.binary(max_size=100))
def test_a_chunk_holds_whole_frames_only(pcm: PcmFormat, data: bytes) -> None:
    if len(data) % pcm.frame_bytes:
        with pytest.raises(ValueError, match="end inside a frame"):
            PcmChunk(pcm, data)
    else:
        assert PcmChunk(pcm, data).frames * pcm.frame_bytes == len(data)


def test_a_view_of_bytes_counts_like_bytes() -> None:
    assert PcmChunk(SPEECH_FORMAT, memoryview(bytes(480))[:240]).frames == 120


def test_a_view_of_samples_is_refused_because_its_length_is_no_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="count bytes"):
        PcmChunk(SPEECH_FORMAT, memoryview(array("h", [1, 2, 3, 4])))
