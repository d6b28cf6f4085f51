"""The sink of a machine that shall stay quiet."""

from __future__ import annotations

import asyncio

from kugel_bridge.audio.null import NullSink
from kugel_bridge.model.pcm import SPEECH_FORMAT
from tests.audiocheck import noise


async def test_the_null_sink_keeps_the_same_pace() -> None:
    sink = NullSink()
    await sink.open()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await sink.write(noise(SPEECH_FORMAT, 4_800))
    await sink.drain()
    assert loop.time() - start >= 0.2
    assert sink.heard_frames == 4_800
    await sink.write(noise(SPEECH_FORMAT, 4_800))
    await sink.stop()
    assert 4_800 < sink.heard_frames < 9_600
    await sink.close()


async def test_without_pace_it_is_over_at_once() -> None:
    sink = NullSink(paced=False)
    await sink.write(noise(SPEECH_FORMAT, 24_000 * 600))
    await sink.drain()
    assert sink.heard_frames == 24_000 * 600
