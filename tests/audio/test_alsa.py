"""The ALSA sink on a simulated card: every frame is right, every fault is survived."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from kugel_bridge.audio.alsa import AlsaSink
from kugel_bridge.model.errors import (
    ConfigurationError,
    DeviceBusyError,
    DeviceError,
    DeviceMissingError,
)
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmChunk, PcmFormat
from kugel_bridge.model.status import AudioStatus
from tests.audiocheck import exact, noise, samples
from tests.open_files import open_files
from tests.simcard import SimCard

STALL_S = 0.3


@asynccontextmanager
async def opened(device: str = "sim", **options: float) -> AsyncIterator[AlsaSink]:
    sink = AlsaSink(device, stall_timeout_s=STALL_S, **options)  # type: ignore[arg-type]
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that the card does; the test's own time limit ends it."""
    while not happened():
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("frames", [1, 479, 480, 961, 24_001])
@pytest.mark.parametrize("device", ["sim", "default"])
async def test_what_was_written_is_heard_to_the_last_frame(
    card: SimCard, device: str, frames: int
) -> None:
    clip = noise(SPEECH_FORMAT, frames)
    async with opened(device) as sink:
        await sink.write(clip)
        await sink.drain()
        assert exact(card.heard(), bytes(clip.data)) is None
        assert sink.heard_frames == frames
        assert sink.queued_s == 0.0
    # A single frame is over (40 us) before anybody can say that it was the last.
    assert frames == 1 or not card.events("xrun")


async def test_many_small_chunks_are_one_sound(card: SimCard) -> None:
    clip = noise(SPEECH_FORMAT, 9_999)
    async with opened() as sink:
        for at in range(0, len(clip.data), 1_000):
            await sink.write(PcmChunk(SPEECH_FORMAT, memoryview(clip.data)[at : at + 1_000]))
        await sink.drain()
    assert exact(card.heard(), bytes(clip.data)) is None


async def test_the_card_says_what_it_plays(card: SimCard) -> None:
    sink = AlsaSink("sim48")
    assert sink.format == SPEECH_FORMAT
    await sink.open()
    assert sink.format == PcmFormat(48_000, 2)
    clip = noise(sink.format, 961)
    await sink.write(clip)
    await sink.drain()
    await sink.close()
    assert exact(card.heard(), bytes(clip.data)) is None
    with pytest.raises(DeviceError, match="not open"):
        await sink.write(clip)


async def test_alsas_own_converter_loses_no_tail(card: SimCard) -> None:
    async with opened("plugsim48") as sink:
        assert sink.format == SPEECH_FORMAT
        await sink.write(noise(SPEECH_FORMAT, 961))
        await sink.drain()
    assert len(card.heard()) == 2 * 961 * 4


async def test_a_chunk_in_another_format_is_refused(card: SimCard) -> None:
    async with opened() as sink:
        with pytest.raises(ValueError, match="for a sink in"):
            await sink.write(noise(PcmFormat(8_000), 10))


async def test_writing_goes_no_further_ahead_than_half_a_second(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 24_000))
        assert 0.0 < sink.queued_s <= 0.5
        assert sink.heard_frames >= 12_000


async def test_open_twice_is_open_once(card: SimCard) -> None:
    async with opened() as sink:
        await sink.open()
    assert len(card.events("open")) == 1


async def test_an_idle_card_wakes_nobody(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 2_400))
        await sink.drain()
        # The thread may still be on its way to its bed.
        await asyncio.sleep(0.05)
        before = sink.wake_ups
        await asyncio.sleep(0.3)
        assert sink.wake_ups == before
    assert not card.events("xrun")


async def test_it_speaks_again_after_a_pause(card: SimCard) -> None:
    first, second = noise(SPEECH_FORMAT, 961, 1), noise(SPEECH_FORMAT, 700, 2)
    async with opened() as sink:
        for clip in (first, second):
            await sink.write(clip)
            await sink.drain()
        assert sink.heard_frames == 1_661
    assert exact(card.heard(), bytes(first.data) + bytes(second.data)) is None
    assert len(card.events("open")) == 1


async def test_drain_without_sound_returns(card: SimCard) -> None:
    async with opened() as sink:
        await sink.drain()


# --- stopping -----------------------------------------------------------------------------


def tone(frames: int) -> PcmChunk:
    wave = (round(12_000 * math.sin(2 * math.pi * 200 * n / 24_000)) for n in range(frames))
    return PcmChunk(SPEECH_FORMAT, array("h", wave).tobytes())


async def test_stop_fades_out_from_where_the_card_was_and_counts_right(card: SimCard) -> None:
    clip = tone(24_000)
    async with opened() as sink:
        writing = asyncio.ensure_future(sink.write(clip))
        await until(lambda: sink.heard_frames > 6_000)
        writing.cancel()
        asked = time.monotonic()
        await sink.stop()
        took_s = time.monotonic() - asked
        heard = card.heard()
        assert sink.heard_frames == len(heard) // 2
        assert sink.queued_s == 0.0
        # A generous bound against a buffer that plays out: the target is 50 ms.
        assert took_s < 0.2
        fade = 240
        body = heard[: -2 * fade]
        assert exact(body, bytes(clip.data)[: len(body)]) is None
        wanted = samples(bytes(clip.data)[len(body) : len(heard)])
        ratios = [h / w for h, w in zip(samples(heard[len(body) :]), wanted, strict=True) if w]
        assert ratios[0] > 0.9
        assert abs(samples(heard)[-1]) < 300
        assert all(b <= a + 0.05 for a, b in pairwise(ratios))
        # Still usable, at once.
        again = noise(SPEECH_FORMAT, 961)
        await sink.write(again)
        await sink.drain()
        assert exact(card.heard()[len(heard) :], bytes(again.data)) is None


async def test_stop_while_the_end_plays_out(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 1_900))
        draining = asyncio.ensure_future(sink.drain())
        await until(lambda: bool(card.events("drain")))
        await sink.stop()
        async with asyncio.timeout(30):
            await draining
        # A card that is told to finish cannot be held still: it moves on while it is asked.
        assert abs(sink.heard_frames - len(card.heard()) // 2) <= 480
        assert sink.heard_frames < 1_900


async def test_stop_when_nothing_plays(card: SimCard) -> None:
    async with opened() as sink:
        await sink.stop()
    await sink.stop()
    assert card.heard() == b""


async def test_close_is_quick_and_drops_the_rest(card: SimCard) -> None:
    async with opened() as sink:
        writing = asyncio.ensure_future(sink.write(noise(SPEECH_FORMAT, 48_000)))
        await until(lambda: sink.heard_frames > 500)
        await sink.close()
        with contextlib.suppress(DeviceError, asyncio.CancelledError):
            writing.cancel()
            await writing
        assert sink.heard_frames == len(card.heard()) // 2 < 24_000
        await sink.close()


# --- what cards do ------------------------------------------------------------------------


async def test_an_underrun_is_counted_and_nothing_written_is_lost(card: SimCard) -> None:
    first, second = noise(SPEECH_FORMAT, 961, 1), noise(SPEECH_FORMAT, 5_000, 2)
    async with opened() as sink:
        await sink.write(first)
        await until(lambda: sink.underruns == 1)  # the source is late, nobody said it was over
        await sink.write(second)
        await sink.drain()
        assert sink.heard_frames == 5_961
    assert exact(card.heard(), bytes(first.data) + bytes(second.data)) is None


async def test_an_underrun_in_mid_sound_loses_only_what_the_card_threw_away(card: SimCard) -> None:
    clip = noise(SPEECH_FORMAT, 24_000)
    card.order("xrun at=4800")
    async with opened() as sink:
        await sink.write(clip)
        await sink.drain()
        assert sink.underruns == 1
        heard = card.heard()
        assert heard.endswith(bytes(clip.data)[-20_000:])
        assert exact(heard[:9_600], bytes(clip.data)[:9_600]) is None
        # The card's buffer (80 ms) is gone; how much of it was heard is known by the clock only.
        lost = 24_000 - len(heard) // 2
        assert 0 < lost <= 1_920
        assert abs(sink.heard_frames - len(heard) // 2) <= 1_920
    assert card.interruptions()


async def test_a_suspended_card_goes_on(card: SimCard) -> None:
    clip = noise(SPEECH_FORMAT, 24_000)
    card.order("suspend at=4800")
    async with opened() as sink:
        await sink.write(clip)
        await sink.drain()
    assert card.wait_fired()
    assert card.heard().endswith(bytes(clip.data)[-20_000:])


async def written_and_drained(sink: AlsaSink, seconds: float = 1.0) -> None:
    await sink.write(noise(sink.format, round(seconds * sink.format.rate)))
    await sink.drain()


async def test_an_unplugged_card_is_missing_until_it_is_back(card: SimCard) -> None:
    async with opened() as sink:
        playing = asyncio.ensure_future(written_and_drained(sink))
        await until(lambda: sink.heard_frames > 4_000)
        card.order("gone")
        with pytest.raises(DeviceMissingError, match="sound card sim is not there: plug it in"):
            await playing
        assert sink.status is AudioStatus.MISSING
        with pytest.raises(DeviceMissingError):
            await sink.open()
        with pytest.raises(DeviceMissingError):
            await sink.write(noise(SPEECH_FORMAT, 1))
        card.heal()
        await sink.open()
        assert sink.status is AudioStatus.OK
        before = len(card.heard())
        await written_and_drained(sink, 0.05)
        assert len(card.heard()) - before == 2 * 1_200


async def test_a_card_unplugged_while_its_end_plays_is_noticed(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 1_900))
        draining = asyncio.ensure_future(sink.drain())
        await until(lambda: bool(card.events("drain")))
        card.order("gone")
        with pytest.raises(DeviceMissingError):
            await draining


async def test_a_card_replugged_while_idle_is_opened_again_without_a_word(card: SimCard) -> None:
    async with opened() as sink:
        await written_and_drained(sink, 0.02)
        card.order("error 19")  # the old handle is dead; a new open works
        clip = noise(SPEECH_FORMAT, 961)
        await sink.write(clip)
        await sink.drain()
        assert card.heard().endswith(bytes(clip.data))
    assert len(card.events("open")) == 2


async def test_a_card_that_is_gone_while_idle_is_noticed_by_the_first_write(card: SimCard) -> None:
    async with opened() as sink:
        await written_and_drained(sink, 0.02)
        card.order("gone")
        with pytest.raises(DeviceMissingError):
            await sink.write(noise(SPEECH_FORMAT, 100))


async def test_an_input_output_error_closes_the_card_and_open_cures_it(card: SimCard) -> None:
    async with opened() as sink:
        card.order("error 5 at=4000")
        with pytest.raises(DeviceError, match=r"failed \(Input/output error\)") as caught:
            await written_and_drained(sink)
        assert type(caught.value) is DeviceError
        await sink.open()
        await written_and_drained(sink, 0.02)


async def test_a_stalled_card_is_given_up_and_a_healed_one_opened_again(card: SimCard) -> None:
    async with opened() as sink:
        card.order("stall at=4000")
        with pytest.raises(DeviceError, match="has stood still"):
            await written_and_drained(sink)
        card.heal()
        await sink.open()
        await written_and_drained(sink, 0.02)


async def test_a_card_that_stalls_while_its_end_plays_is_given_up(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 1_900))
        draining = asyncio.ensure_future(sink.drain())
        await until(lambda: bool(card.events("drain")))
        card.order("stall")
        with pytest.raises(DeviceError, match="has stood still"):
            await draining


async def test_stopping_a_stalled_card_does_not_hang(card: SimCard) -> None:
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 4_000))
        card.order("stall")
        async with asyncio.timeout(2):
            await sink.stop()


async def test_a_slow_card_is_not_taken_for_a_stalled_one(card: SimCard) -> None:
    card.order("speed 50")
    async with opened() as sink:
        await sink.write(noise(SPEECH_FORMAT, 9_600))
        await sink.drain()
        assert sink.heard_frames == 9_600
    assert not card.events("xrun")


async def test_a_busy_card_is_busy_and_works_once_it_is_free(card: SimCard) -> None:
    card.order("busy")
    sink = AlsaSink("sim")
    with pytest.raises(DeviceBusyError, match="sim is in use by another program"):
        await sink.open()
    assert sink.status is AudioStatus.BUSY
    card.heal()
    await sink.open()
    assert sink.status is AudioStatus.OK
    await sink.close()


async def test_a_card_that_comes_late_is_found(card: SimCard) -> None:
    card.order("gone")
    sink = AlsaSink("sim")
    for _ in range(3):
        with pytest.raises(DeviceMissingError):
            await sink.open()
    card.heal()
    await sink.open()
    await written_and_drained(sink, 0.01)
    await sink.close()
    assert len(card.heard()) == 480


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (13, DeviceError, "group `audio`"),
        (111, DeviceMissingError, "sound server"),
        (22, DeviceError, "refuses the format"),
        (12, DeviceError, "Cannot allocate memory"),
    ],
)
async def test_a_refusal_says_what_to_do(
    card: SimCard, number: int, kind: type[DeviceError], words: str
) -> None:
    card.order(f"refuse {number}")
    with pytest.raises(kind, match=words):
        await AlsaSink("sim").open()


async def test_an_unknown_name_is_missing_and_prints_nothing(
    card: SimCard, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = AlsaSink("Headphones")
    with pytest.raises(DeviceMissingError, match="Headphones is not there"):
        await sink.open()
    await sink.close()
    assert capfd.readouterr().err == ""


def test_an_index_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ConfigurationError, match="by its index"):
        AlsaSink("hw:0")


async def test_two_sinks_cannot_share_one_card(card: SimCard) -> None:
    async with opened():
        with pytest.raises(DeviceBusyError):
            await AlsaSink("sim").open()


async def test_no_descriptor_and_no_thread_is_left_behind(card: SimCard) -> None:
    async def once() -> None:
        async with opened() as sink:
            await sink.write(noise(SPEECH_FORMAT, 10))
            await sink.drain()

    await once()
    files, threads = open_files(), set(threading.enumerate())
    for _ in range(20):
        await once()
    assert open_files() <= files
    assert set(threading.enumerate()) <= threads


Action = Callable[[AlsaSink], Awaitable[None]]


@pytest.mark.parametrize(
    "action",
    [AlsaSink.drain, AlsaSink.stop, AlsaSink.close],
    ids=["drain", "stop", "close"],
)
async def test_before_open_there_is_nothing_to_do(action: Action) -> None:
    await action(AlsaSink("sim"))
