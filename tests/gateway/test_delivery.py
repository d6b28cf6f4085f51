from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.gateway.delivery import Delivery
from kugel_bridge.kugelaudio.messages import OUTPUT_FORMATS, SpeechRequest
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from tests.gateway_server import hum

PCM = PcmFormat(24_000)


@given(st.lists(st.integers(0, 9_000), max_size=8))
def test_nothing_is_lost_or_reordered_and_no_frame_is_longer_than_200_ms(sizes: list[int]) -> None:
    delivery = Delivery(SpeechRequest("x", "en", 1))
    total = sum(sizes)
    data = b"".join((n % 30_000).to_bytes(2, "little") for n in range(total))
    frames, start = [], 0
    for size in sizes:
        frames += delivery.add(PcmChunk(PCM, data[2 * start : 2 * (start + size)]))
        start += size
    frames += delivery.end()
    assert b"".join(frames) == data
    assert all(0 < len(frame) <= 9_600 for frame in frames)
    assert round(delivery.made_s * PCM.rate) == total


@given(st.sampled_from(sorted(OUTPUT_FORMATS)), st.lists(st.integers(1, 3_000), min_size=1))
def test_every_output_format_has_whole_samples_and_the_full_length(
    token: str, sizes: list[int]
) -> None:
    delivery = Delivery(SpeechRequest("x", "en", 1, output_format=token))
    encoding, rate = OUTPUT_FORMATS[token]
    frames: list[bytes] = []
    for size in sizes:
        frames += delivery.add(PcmChunk(PcmFormat(22_050), bytes(2 * size)))
    frames += delivery.end()
    assert all(len(frame) % encoding.sample_bytes == 0 for frame in frames)
    samples = sum(map(len, frames)) // encoding.sample_bytes
    assert abs(samples - sum(sizes) * rate / 22_050) <= 1


def test_the_first_sound_does_not_wait_for_a_full_frame() -> None:
    delivery = Delivery(SpeechRequest("x", "en", 1))
    assert [len(frame) for frame in delivery.add(PcmChunk(PCM, bytes(100)))] == [100]
    assert list(delivery.add(PcmChunk(PCM, bytes(100)))) == []


def test_an_engine_that_changes_its_rate_is_heard_and_counted_in_full() -> None:
    delivery = Delivery(SpeechRequest("x", "en", 1))
    frames: list[bytes] = []
    for rate in [22_050, 16_000] * 10:
        frames += delivery.add(hum(0.1, PcmFormat(rate)))
    frames += delivery.end()
    assert sum(map(len, frames)) // 2 == 2 * 24_000
    assert delivery.made_s == pytest.approx(2.0)
