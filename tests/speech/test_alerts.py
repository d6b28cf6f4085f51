"""Stored alerts: words by language, recordings, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kugel_bridge.audio.wav import wav_bytes
from kugel_bridge.model.errors import RejectedError, StorageError
from kugel_bridge.speech.alerts import Alert, AlertBook
from tests.speech.sounds import noise

SIREN = noise(0.2)


@pytest.fixture
def siren(tmp_path: Path) -> Path:
    path = tmp_path / "siren.wav"
    path.write_bytes(wav_bytes(SIREN))
    return path


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"de": "Feuer!", "en": "Fire!"}, "Fire!"),
        ({"de": "Feuer!", "": "Alarm!"}, "Alarm!"),
        ({"de": "Feuer!", "fr": "Au feu !"}, "Feuer!"),
    ],
)
def test_its_words_come_in_the_language_or_in_the_next_best(
    texts: dict[str, str], said: str
) -> None:
    assert AlertBook({"fire": Alert(texts)}).words_or_sound("fire", "en") == said


def loaded(alerts: dict[str, Alert]) -> AlertBook:
    book = AlertBook(alerts)
    book.load()
    return book


def test_a_recording_wins_over_words_and_is_read_once(siren: Path) -> None:
    book = loaded({"fire": Alert({"": "Fire!"}, siren)})
    assert book.words_or_sound("fire", "en") == SIREN
    siren.unlink()
    book.load()
    assert book.words_or_sound("fire", "en") == SIREN
    assert book.problems == {}


@pytest.mark.parametrize("content", [None, b"", b"no sound at all", wav_bytes(noise(0.0))])
def test_without_its_recording_the_words_are_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "siren.wav"
    if content is not None:
        path.write_bytes(content)
    book = loaded({"fire": Alert({"": "Fire!"}, path), "water": Alert({}, path)})
    assert book.words_or_sound("fire", "en") == "Fire!"
    with pytest.raises(StorageError, match=r"'water' cannot be played: .*siren"):
        book.words_or_sound("water", "en")
    assert list(book.problems) == ["fire", "water"]


def test_a_recording_that_was_put_there_later_is_found(tmp_path: Path) -> None:
    path = tmp_path / "siren.wav"
    book = loaded({"fire": Alert({}, path)})
    assert len(book.problems) == 1
    path.write_bytes(wav_bytes(SIREN))
    book.load()
    assert book.words_or_sound("fire", "en") == SIREN


def test_what_was_not_read_yet_is_a_problem_and_not_read_in_passing(siren: Path) -> None:
    book = AlertBook({"fire": Alert({}, siren)})
    assert "not read yet" in book.problems["fire"]
    with pytest.raises(StorageError, match="not read yet"):
        book.words_or_sound("fire", "en")


def test_its_words_are_known_without_its_recording(tmp_path: Path) -> None:
    book = AlertBook({"fire": Alert({"": "Fire!"}), "siren": Alert({}, tmp_path / "none.wav")})
    assert (book.text_of("fire", "en"), book.text_of("siren", "en")) == ("Fire!", None)


@pytest.mark.parametrize(
    ("alerts", "known"), [({}, "none are configured"), ({"fire": Alert({"": "Fire!"})}, "fire")]
)
def test_an_unknown_one_is_rejected_with_those_there_are(
    alerts: dict[str, Alert], known: str
) -> None:
    with pytest.raises(RejectedError, match=f"no alert 'flood'; there are: {known}"):
        AlertBook(alerts).words_or_sound("flood", "en")


def test_it_lists_what_is_spoken(siren: Path) -> None:
    book = AlertBook({"fire": Alert({"de": "Feuer!"}), "siren": Alert({}, siren)})
    assert book.names == ["fire", "siren"]
    assert list(book.texts("de")) == [("fire", "Feuer!")]
