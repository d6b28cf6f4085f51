"""alsa-lib's words turned into ours, where the simulated card cannot say them."""

from __future__ import annotations

import os
from typing import Any

import alsaaudio
import pytest

from kugel_bridge.audio.handle import AlsaHandle, number_of
from kugel_bridge.model.errors import DeviceError, DeviceMissingError
from kugel_bridge.model.pcm import PcmFormat


class KernelPcm:
    """A PCM as pyalsaaudio gives it for a kernel card."""

    def __init__(self, **facts: Any) -> None:
        self.facts = {
            "format": alsaaudio.PCM_FORMAT_S32_LE,
            "format_name": "S32_LE",
            "rate": 48_000,
            "channels": 2,
            "period_size": 960,
            "buffer_size": 3_840,
            "card_no": 1,
            "can_pause": False,
            **facts,
        }
        self.now = alsaaudio.PCM_STATE_RUNNING
        self.room = 0
        self.calls: list[str] = []

    def info(self) -> dict[str, Any]:
        return self.facts

    def state(self) -> int:
        return self.now

    def avail(self) -> int:
        return self.room

    def drain(self) -> int:
        raise alsaaudio.ALSAAudioError("Resource temporarily unavailable [hw]")

    def pause(self, enable: int) -> None:
        self.calls.append("pause")

    def drop(self) -> None:
        self.calls.append("drop")

    def close(self) -> None:
        self.calls.append("close")


def test_what_the_card_gave_is_what_counts() -> None:
    handle = AlsaHandle("Device", KernelPcm())
    assert handle.format == PcmFormat(48_000, 2, 4)
    assert (handle.period_frames, handle.buffer_frames) == (960, 3_840)
    assert handle.whole_periods


def test_a_sample_format_we_cannot_make_is_refused_and_the_card_closed() -> None:
    pcm = KernelPcm(format=alsaaudio.PCM_FORMAT_FLOAT_LE, format_name="FLOAT_LE")
    with pytest.raises(DeviceError, match=r"Device plays FLOAT_LE only.*plughw"):
        AlsaHandle("Device", pcm)
    assert pcm.calls == ["close"]


def test_a_kernel_cards_end_shows_in_its_state_alone() -> None:
    pcm = KernelPcm()
    handle = AlsaHandle("Device", pcm)
    assert not handle.drained()
    pcm.now = alsaaudio.PCM_STATE_SETUP
    assert handle.drained()


def test_a_card_that_cannot_pause_is_not_asked_to() -> None:
    pcm = KernelPcm()
    AlsaHandle("Device", pcm).hold()
    assert pcm.calls == []


def test_closing_drops_first() -> None:
    pcm = KernelPcm()
    AlsaHandle("Device", pcm).close()
    assert pcm.calls == ["drop", "close"]


@pytest.mark.parametrize(
    ("state", "room"), [(alsaaudio.PCM_STATE_DISCONNECTED, 100), (alsaaudio.PCM_STATE_RUNNING, -19)]
)
def test_an_unplugged_card_is_missing_whether_state_or_room_tells(state: int, room: int) -> None:
    pcm = KernelPcm()
    pcm.now, pcm.room = state, room
    with pytest.raises(DeviceMissingError):
        AlsaHandle("Device", pcm).avail()


@pytest.mark.parametrize("number", [2, 5, 16, 19, 32, 86, 111])
def test_the_number_behind_a_text_is_found(number: int) -> None:
    text = f"{os.strerror(number)} [plughw:CARD=Odd [name]]"
    assert number_of(alsaaudio.ALSAAudioError(text.replace(" [name]", ""))) == number


def test_a_text_without_a_number_is_none() -> None:
    assert number_of(alsaaudio.ALSAAudioError("PCM device is closed")) == 0
