"""`devices` on a machine without a sound card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kugel_bridge.audio.cards import Card
from kugel_bridge.audio.handle import Capabilities
from kugel_bridge.cli import devices
from tests.cli.conftest import Command

CARDS = [
    Card("Device", "USB Audio", Capabilities((44100, 48000), (1, 2), ("S16_LE",))),
    Card("Headphones", "bcm2835", None),
]


def test_cards_are_listed_as_sinks(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cards", lambda: CARDS)
    said = command("devices")
    assert said.code == 0
    assert said.out.splitlines() == [
        "sink             formats  channels  rates (Hz)   card",
        "alsa:Device      S16_LE   1,2       44100,48000  USB Audio",
        "alsa:Headphones  in use   -         -            bcm2835",
    ]


def test_cards_as_json(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cards", lambda: CARDS)
    listed = json.loads(command("devices", "--json").out)
    assert [card["name"] for card in listed] == ["Device", "Headphones"]
    assert listed[0]["can"]["rates"] == [44100, 48000]


def test_without_a_card_the_answer_is_no(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cards", list)
    said = command("devices")
    assert (said.code, said.out) == (1, "")
    assert "no sound card" in said.err


def test_a_listed_sink_is_one_the_configuration_takes(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "list_cards", lambda: CARDS)
    sink = command("devices").out.splitlines()[1].split()[0]
    file = tmp_path / "c.toml"
    file.write_text(f'[zones.a]\nsink = "{sink}"\n')
    assert command("config", "check", "--config", str(file)).code == 0
