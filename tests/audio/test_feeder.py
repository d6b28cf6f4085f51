"""The card's thread on a scripted card: what the simulated one cannot show."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from kugel_bridge.audio.alsa import AlsaSink
from kugel_bridge.audio.handle import PcmHandle
from kugel_bridge.model.errors import DeviceError
from kugel_bridge.model.pcm import SPEECH_FORMAT, PcmBytes, PcmFormat
from tests.audiocheck import exact, noise

PERIOD = 480


class KernelCard:
    """Plays whole periods by the clock, old sound if it must, and never says that it is done."""

    def __init__(self) -> None:
        self.format: PcmFormat = SPEECH_FORMAT
        self.period_frames = PERIOD
        self.buffer_frames = 4 * PERIOD
        self.whole_periods = True
        self.written = b""
        self.closed = False
        self.dropped_at: list[int] = []
        self._started_at_s: float | None = None
        self._run_from = 0

    @property
    def run_frames(self) -> int:
        return len(self.written) // 2 - self._run_from

    def _played(self) -> int:
        if self._started_at_s is None:
            return 0
        return int((time.monotonic() - self._started_at_s) * self.format.rate)

    def avail(self) -> int:
        if self._played() > self.run_frames:
            return -32
        return self.buffer_frames - (self.run_frames - self._played())

    def write(self, data: PcmBytes) -> int:
        frames = min(len(data) // 2, self.avail())
        if self._started_at_s is None:
            self._started_at_s = time.monotonic()
        self.written += bytes(data)[: 2 * frames]
        return frames

    def drained(self) -> bool:
        return False

    def hold(self) -> None:
        pass

    def drop(self) -> None:
        self.dropped_at.append(self._played())
        self._started_at_s = None
        self._run_from = len(self.written) // 2

    def close(self) -> None:
        self.closed = True


class SinkOn(AlsaSink):
    """An ALSA sink on the cards given, one for each time it opens."""

    def __init__(self, *cards: PcmHandle) -> None:
        super().__init__("scripted", stall_timeout_s=0.1)
        self._cards: Iterator[PcmHandle] = iter(cards)

    def _handle(self) -> PcmHandle:
        return next(self._cards)


@pytest.mark.parametrize("frames", [479, 480, 961, 5_000])
async def test_a_kernel_card_ends_in_silence_not_in_old_sound(frames: int) -> None:
    card = KernelCard()
    sink = SinkOn(card)
    await sink.open()
    for round_ in (1, 2):
        clip = noise(SPEECH_FORMAT, frames)
        before = len(card.written)
        await sink.write(clip)
        await sink.drain()
        heard = card.written[before:]
        assert exact(heard[: 2 * frames], bytes(clip.data)) is None
        silence = heard[2 * frames :]
        assert not any(silence)
        assert len(silence) >= 2 * PERIOD
        assert len(heard) % (2 * PERIOD) == 0
        # It ends when the sound was heard, not the silence, and counts the sound alone.
        assert sink.heard_frames == round_ * frames
    await sink.close()
    assert card.closed


async def test_stopping_a_kernel_card_fades_into_silence() -> None:
    card = KernelCard()
    sink = SinkOn(card)
    await sink.open()
    await sink.write(noise(SPEECH_FORMAT, 4_000))
    await sink.stop()
    assert not any(card.written[-2 * PERIOD :])
    assert sink.heard_frames < 4_000
    await sink.close()


class StuckCard(KernelCard):
    """A driver that never comes back from a write."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = threading.Event()

    def write(self, data: PcmBytes) -> int:
        self.freed.wait(30)
        return super().write(data)


async def test_a_driver_that_hangs_costs_one_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kugel_bridge.audio.alsa._GRACE_S", 0.2)
    stuck, good = StuckCard(), KernelCard()
    sink = SinkOn(stuck, good)
    await sink.open()
    clip = noise(SPEECH_FORMAT, 961)
    with pytest.raises(DeviceError, match="the driver of sound card scripted has not answered"):
        await sink.write(clip)
    await sink.open()
    await sink.write(clip)
    await sink.drain()
    assert sink.heard_frames == 961
    assert good.written.startswith(bytes(clip.data))
    await sink.close()
    # The abandoned thread lets go of its card as soon as it can.
    stuck.freed.set()
    async with asyncio.timeout(30):
        while not stuck.closed:
            await asyncio.sleep(0.005)


class BuggyCard(KernelCard):
    """Raises what no card should."""

    def write(self, data: PcmBytes) -> int:
        raise KeyError("a bug")


async def test_a_bug_in_the_thread_is_told_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    good = KernelCard()
    sink = SinkOn(BuggyCard(), BuggyCard(), good)
    await sink.open()
    with pytest.raises(DeviceError, match="a bug"):
        await sink.write(noise(SPEECH_FORMAT, 10))
    assert "unexpected error" in caplog.text
    await sink.close()


class TiredCard(KernelCard):
    """Runs dry at every write."""

    def write(self, data: PcmBytes) -> int:
        return -32


async def test_a_card_that_never_gets_going_is_given_up() -> None:
    sink = SinkOn(TiredCard(), TiredCard())
    await sink.open()
    with pytest.raises(DeviceError, match="does not get going"):
        await sink.write(noise(SPEECH_FORMAT, 10))
    await sink.close()


async def test_a_card_that_comes_back_different_is_opened_anew() -> None:
    class Dead(KernelCard):
        def write(self, data: PcmBytes) -> int:
            raise DeviceError("dead")

    other = KernelCard()
    other.format = PcmFormat(48_000, 2)
    third = KernelCard()
    sink = SinkOn(Dead(), other, third)
    await sink.open()
    with pytest.raises(DeviceError, match="another format"):
        await sink.write(noise(SPEECH_FORMAT, 10))
    assert other.closed
    await sink.open()
    await sink.write(noise(SPEECH_FORMAT, 10))
    await sink.close()
