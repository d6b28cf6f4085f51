"""The player: what is handed in is heard, all of it, once, and the caller knows how much."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path

import pytest

from kugel_bridge.audio.alsa import AlsaSink
from kugel_bridge.audio.chime import chime
from kugel_bridge.audio.convert import Converter
from kugel_bridge.audio.jitter import JitterRules
from kugel_bridge.audio.loudness import amplified, gain_factor
from kugel_bridge.audio.player import Played, Player
from kugel_bridge.audio.wav import WavSink, read_wav
from kugel_bridge.model.errors import (
    DeviceMissingError,
    RateLimitedError,
    ServiceUnavailableError,
    TooSlowError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from tests.audiocheck import exact, noise, samples
from tests.simcard import SimCard


class Source:
    """Yields chunks; before each it awaits what `before` holds for it; raises `then` at the end."""

    def __init__(
        self,
        *chunks: PcmChunk,
        before: dict[int, asyncio.Event] | None = None,
        then: Exception | None = None,
    ) -> None:
        self._chunks, self._before, self._then = chunks, before or {}, then
        self.given = 0
        self.closed = False

    async def stream(self) -> AsyncGenerator[PcmChunk, None]:
        try:
            for number, chunk in enumerate(self._chunks):
                if number in self._before:
                    await self._before[number].wait()
                self.given += 1
                yield chunk
            if self._then is not None:
                raise self._then
        finally:
            self.closed = True


class Listener:
    """Counts first sounds."""

    def __init__(self) -> None:
        self.first_sounds = 0
        self.begun = asyncio.Event()

    def __call__(self) -> None:
        self.first_sounds += 1
        self.begun.set()


def full() -> float:
    return 100.0


def unpaced(tmp_path: Path) -> WavSink:
    return WavSink(tmp_path / "out.wav", paced=False)


async def played(player: Player, source: Source, listener: Listener | None = None) -> Played:
    return await player.play(source.stream(), percent=full, on_first_sound=listener or Listener())


@pytest.mark.parametrize("frames", [1, 961, 30_001])
async def test_the_card_hears_lead_in_speech_and_tail_and_nothing_else(
    card: SimCard, frames: int
) -> None:
    sink = AlsaSink("sim")
    clip, listener = noise(SPEECH_FORMAT, frames), Listener()
    result = await played(Player(sink, lead_in_s=0.05, tail_s=0.03), Source(clip), listener)
    expected = bytes(2 * 1_200) + bytes(clip.data) + bytes(2 * 720)
    assert exact(card.heard(), expected) is None
    assert result == Played(frames / 24_000, 0.0)
    assert listener.first_sounds == 1
    assert not card.events("xrun")
    await sink.close()


@pytest.mark.parametrize("frames", [1, 961, 12_001])
async def test_another_format_is_converted_for_the_card(card: SimCard, frames: int) -> None:
    sink = AlsaSink("sim48")
    clip = noise(SPEECH_FORMAT, frames)
    result = await played(Player(sink, lead_in_s=0.02, tail_s=0.01), Source(clip))
    converter = Converter(SPEECH_FORMAT, PcmFormat(48_000, 2))
    body = bytes(converter.convert(clip).data) + bytes(converter.flush().data)
    assert exact(card.heard(), bytes(4 * 960) + body + bytes(4 * 480)) is None
    assert result.heard_s == pytest.approx(frames / 24_000)
    await sink.close()


async def test_a_chime_and_speech_in_other_formats_follow_each_other(tmp_path: Path) -> None:
    espeak, telephone = noise(PcmFormat(22_050), 5_001), noise(PcmFormat(8_000), 801)
    sink = unpaced(tmp_path)
    await played(
        Player(sink, lead_in_s=0, tail_s=0), Source(chime("ding"), espeak, telephone, espeak)
    )
    heard = bytes(read_wav(tmp_path / "out.wav").data)
    frames = chime("ding").frames + 2 * 5_444 + 2_403
    assert heard.startswith(bytes(chime("ding").data))
    assert len(heard) == 2 * frames
    await sink.close()


async def test_speech_that_streams_slower_than_the_card_is_whole(card: SimCard) -> None:
    clip = noise(SPEECH_FORMAT, 9_600)
    gates = {1: asyncio.Event()}
    halves = [PcmChunk(SPEECH_FORMAT, clip.data[at : at + 9_600]) for at in (0, 9_600)]
    source, listener = Source(*halves, before=gates), Listener()
    sink = AlsaSink("sim")
    rules = JitterRules(patience_s=0.01)
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(
            played(Player(sink, lead_in_s=0, tail_s=0, rules=rules), source, listener)
        )
        await listener.begun.wait()
        async with asyncio.timeout(30):
            while sink.heard_frames < 4_800 + 2_400:
                await asyncio.sleep(0.005)
        gates[1].set()
    result = playing.result()
    assert result.heard_s == pytest.approx(0.4)
    assert result.padded_s > 0.05
    heard = card.heard()
    assert len(heard) == 2 * (9_600 + round(result.padded_s * 24_000))
    # Untouched but for the fades around the gap: 10 ms each.
    assert heard.startswith(bytes(clip.data)[: 2 * 4_560])
    assert heard.endswith(bytes(clip.data)[-2 * 4_560 :])
    assert not card.events("xrun")
    await sink.close()


async def test_a_long_stall_ends_what_was_begun(tmp_path: Path) -> None:
    source = Source(
        noise(SPEECH_FORMAT, 9_600), noise(SPEECH_FORMAT, 1), before={1: asyncio.Event()}
    )
    sink = WavSink(tmp_path / "out.wav")
    player = Player(sink, lead_in_s=0, tail_s=0, rules=JitterRules(give_up_s=0.2))
    with pytest.raises(TooSlowError, match="no sound for"):
        await played(player, source)
    assert player.last.heard_s == pytest.approx(0.4)
    assert source.closed
    await sink.close()


async def test_a_source_that_fails_at_once_is_not_heard_at_all(tmp_path: Path) -> None:
    sink, listener = unpaced(tmp_path), Listener()
    player = Player(sink, lead_in_s=0.1, tail_s=0.1)
    for source in (
        Source(then=RateLimitedError("429", retry_after_s=3)),
        Source(noise(SPEECH_FORMAT, 100), then=RateLimitedError("429", retry_after_s=3)),
    ):
        with pytest.raises(RateLimitedError):
            await played(player, source, listener)
    assert listener.first_sounds == 0
    assert player.last == Played()
    assert sink.heard_frames == 0
    await sink.close()


async def test_a_source_that_fails_in_mid_speech_is_heard_as_far_as_it_came(card: SimCard) -> None:
    sink = AlsaSink("sim")
    clip = noise(SPEECH_FORMAT, 9_600)
    player = Player(sink, lead_in_s=0, tail_s=0)
    with pytest.raises(ServiceUnavailableError):
        await played(player, Source(clip, then=ServiceUnavailableError("gone")))
    assert exact(card.heard(), bytes(clip.data)) is None
    assert player.last == Played(0.4, 0.0)
    await sink.close()


async def test_no_sound_is_no_sound(tmp_path: Path) -> None:
    sink, listener = unpaced(tmp_path), Listener()
    assert await played(Player(sink, lead_in_s=1, tail_s=1), Source(), listener) == Played()
    assert listener.first_sounds == 0
    assert sink.heard_frames == 0
    await sink.close()


async def test_a_missing_card_is_told_before_the_source_is_asked(card: SimCard) -> None:
    card.order("gone")
    source = Source(noise(SPEECH_FORMAT, 100))
    with pytest.raises(DeviceMissingError):
        await played(Player(AlsaSink("sim"), lead_in_s=0, tail_s=0), source)
    assert source.given == 0


async def test_a_card_unplugged_in_mid_speech_is_told_at_once(card: SimCard) -> None:
    sink = AlsaSink("sim")
    source = Source(*[noise(SPEECH_FORMAT, 4_800)] * 50)
    player = Player(sink, lead_in_s=0, tail_s=0)
    card.order("gone at=9600")
    with pytest.raises(DeviceMissingError):
        await played(player, source)
    assert source.closed
    assert 0.3 < player.last.heard_s < 1.0
    await sink.close()


async def test_cancelling_stops_with_a_fade_and_closes_the_source(card: SimCard) -> None:
    sink = AlsaSink("sim")
    clip = noise(SPEECH_FORMAT, 48_000)
    source, listener = Source(clip), Listener()
    player = Player(sink, lead_in_s=0.01, tail_s=0.01)
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(played(player, source, listener))
        await listener.begun.wait()
        async with asyncio.timeout(30):
            while sink.heard_frames < 6_000:
                await asyncio.sleep(0.005)
        playing.cancel()
    assert playing.cancelled()
    heard = card.heard()
    assert len(heard) // 2 == sink.heard_frames < 24_000
    assert player.last.heard_s == (sink.heard_frames - 240) / 24_000
    assert exact(heard[480:-480], bytes(clip.data)[: len(heard) - 960]) is None
    assert max(map(abs, samples(heard[-20:]))) < 2_500
    assert sink.queued_s == 0.0
    await sink.close()


async def test_a_fast_source_is_held_back(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "out.wav")
    source, listener = Source(*[noise(SPEECH_FORMAT, 2_400)] * 1_000), Listener()
    player = Player(sink, lead_in_s=0, tail_s=0)
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(played(player, source, listener))
        await listener.begun.wait()
        await asyncio.sleep(0.2)
        # Two seconds in the buffer, half a second in the sink, and what was heard meanwhile.
        assert source.given < 60
        playing.cancel()
    assert source.closed
    await sink.close()


async def test_a_change_of_volume_acts_in_mid_speech_without_a_jump(tmp_path: Path) -> None:
    levels = iter([100.0, 100.0, 50.0])
    latest = functools.partial(next, levels, 50.0)
    steady = PcmChunk(SPEECH_FORMAT, b"\x00\x40" * 12_000)
    sink = unpaced(tmp_path)
    await Player(sink, lead_in_s=0, tail_s=0).play(
        Source(steady).stream(), percent=latest, on_first_sound=Listener()
    )
    heard = samples(read_wav(tmp_path / "out.wav").data)
    assert len(heard) == 12_000
    assert heard[0] == 0x4000
    assert heard[-1] == samples(amplified(steady, gain_factor(50)).data)[0]
    assert max(abs(b - a) for a, b in pairwise(heard)) < 400
    await sink.close()


async def test_a_cached_phrase_is_not_copied_on_its_way(tmp_path: Path) -> None:
    clip = noise(SPEECH_FORMAT, 24_000)

    class Spy(WavSink):
        async def write(self, chunk: PcmChunk) -> None:
            written.append(chunk.data)
            await super().write(chunk)

    written: list[bytes | memoryview] = []
    sink = Spy(tmp_path / "out.wav", paced=False)
    await played(Player(sink, lead_in_s=0, tail_s=0), Source(clip))
    assert [getattr(data, "obj", data) is clip.data for data in written] == [True] * len(written)
    # A card's buffer of 80 ms is full with the first write.
    assert len(written[0]) >= 2 * 24_000 * 0.08
    await sink.close()


async def test_one_sound_after_another_on_the_same_open_card(card: SimCard) -> None:
    sink = AlsaSink("sim")
    player = Player(sink, lead_in_s=0, tail_s=0)
    clips = [noise(SPEECH_FORMAT, 961, seed) for seed in range(4)]
    for clip in clips:
        assert await played(player, Source(clip)) == Played(961 / 24_000, 0.0)
    assert exact(card.heard(), b"".join(bytes(clip.data) for clip in clips)) is None
    assert len(card.events("open")) == 1
    await sink.close()
