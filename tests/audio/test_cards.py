"""Cards have names; an index is refused. The texts are from real machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.audio.cards import (
    card_names,
    list_cards,
    parse_cards,
    parse_playing,
    refuse_index,
    resolved,
)
from kugel_bridge.audio.handle import capabilities
from kugel_bridge.model.errors import ConfigurationError
from tests.simcard import SimCard

CARDS = """\
 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
 1 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones
                      bcm2835 Headphones
 2 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.4
 3 [C920           ]: USB-Audio - HD Pro Webcam C920
                      HD Pro Webcam C920 at usb-0000:01:00.0-1.3, high speed
"""
PCMS = """\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
01-00: bcm2835 Headphones : bcm2835 Headphones : playback 8
02-00: USB Audio : USB Audio : playback 1 : capture 1
03-00: USB Audio : USB Audio : capture 1
"""


@pytest.fixture
def asound(tmp_path: Path) -> Path:
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "pcm").write_text(PCMS)
    return tmp_path


def test_cards_are_known_by_name_and_what_only_records_is_left_out(asound: Path) -> None:
    assert card_names(asound) == ["vc4hdmi0", "Headphones", "Device"]
    cards = list_cards(asound)
    assert [card.description for card in cards] == [
        "vc4-hdmi-0",
        "bcm2835 Headphones",
        "USB PnP Sound Device",
    ]
    assert cards[1].device == "plughw:CARD=Headphones"
    assert cards[1].can is None  # it is not in this machine


def test_a_machine_without_sound_has_no_cards(tmp_path: Path) -> None:
    assert list_cards(tmp_path) == []
    assert parse_cards("--- no soundcards ---\n") == {}


@given(st.text())
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    parse_cards(text)
    parse_playing(text)


@pytest.mark.parametrize(
    "device",
    ["hw:0", "plughw:1,0", "plughw:CARD=1", "hw:CARD=1,DEV=0", "hw:DEV=0,CARD=1", "0", "dmix:2"],
)
def test_an_index_is_refused(device: str) -> None:
    with pytest.raises(ConfigurationError, match=r"by its index.*use its name; there are: "):
        refuse_index(device)


@pytest.mark.parametrize(
    ("device", "pcm"),
    [
        ("Headphones", "plughw:CARD=Headphones"),
        ("default", "default"),
        ("plughw:CARD=Headphones", "plughw:CARD=Headphones"),
        ("hw:CARD=Device,DEV=0", "hw:CARD=Device,DEV=0"),
        ("sim48", "sim48"),
        ("Elsewhere", "Elsewhere"),
    ],
)
def test_a_name_is_a_cards_or_a_pcms(device: str, pcm: str) -> None:
    assert resolved(device, ["Headphones", "Device"]) == pcm


def test_a_card_tells_what_it_can_play(card: SimCard) -> None:
    can = capabilities("sim48")
    assert can is not None
    assert can.rates == (48_000,)
    assert can.channels == (2,)
    assert "S16_LE" in can.formats
    free = capabilities("sim")
    assert free is not None
    assert 24_000 in free.rates


def test_a_card_in_use_does_not_make_the_list_wait(card: SimCard) -> None:
    card.order("busy")
    assert capabilities("sim") is None
