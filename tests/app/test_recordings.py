"""Recordings of alerts: read ahead, again when they failed, and never waited for long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kugel_bridge.app.recordings import Recordings
from kugel_bridge.audio.wav import wav_bytes
from kugel_bridge.speech.alerts import Alert, AlertBook
from tests.speech.sounds import noise


class HangingBook(AlertBook):
    """Its disk hangs until the event."""

    def __init__(self, file: Path) -> None:
        super().__init__({"fire": Alert({}, file)})
        self.healed = threading.Event()
        self.loads = 0

    def load(self) -> None:
        self.loads += 1
        self.healed.wait(30)
        super().load()


async def test_it_tells_once_what_cannot_be_played_and_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = tmp_path / "siren.wav"
    book = AlertBook({"fire": Alert({}, file), "water": Alert({"": "Water!"})})
    recordings = Recordings(book, wait_s=30)
    for _ in range(2):
        await recordings.read()
    assert caplog.text.count("alert 'fire' cannot be played, a tone takes its place") == 1
    assert recordings.problem.startswith(f"alert 'fire' cannot be played: cannot read {file}")
    file.write_bytes(wav_bytes(noise(0.2)))
    await recordings.read()
    assert recordings.problem == ""
    assert "alert 'fire' can be played again" in caplog.text
    assert book.words_or_sound("fire", "en") == noise(0.2)


async def test_a_disk_that_hangs_is_not_waited_for_and_not_asked_twice(tmp_path: Path) -> None:
    file = tmp_path / "siren.wav"
    file.write_bytes(wav_bytes(noise(0.2)))
    book = HangingBook(file)
    recordings = Recordings(book, wait_s=0.01)
    for _ in range(3):
        await recordings.read()
    assert "is not read yet" in recordings.problem
    assert book.loads == 1
    book.healed.set()
    assert recordings._reading is not None
    recordings._reading.join(30)
    assert recordings.problem == ""
