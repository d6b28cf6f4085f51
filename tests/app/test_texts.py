from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kugel_bridge.app.texts import phrases_in, phrases_of, utterances_of
from kugel_bridge.model.errors import RejectedError, StorageError
from kugel_bridge.settings.tree import Settings
from tests.broker import Mosquitto
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import living, settings_for


def test_a_text_is_cleaned_as_an_announcement_is() -> None:
    settings = Settings.model_validate({"words": {"de": {"WLAN": "We-Lan"}}})
    (utterance,) = utterances_of(settings, "**WLAN** \u2705 geht", language="de", voice="anna")
    assert (utterance.text, utterance.language, utterance.voice) == ("We-Lan geht", "de", "anna")
    (utterance,) = utterances_of(settings, "Hello")
    assert (utterance.language, utterance.voice) == (settings.cloud.language, None)


def test_a_long_text_is_cut_at_sentences() -> None:
    text = "This is one of very many sentences. " * 100
    found = utterances_of(Settings(), text)
    assert len(found) > 1
    assert " ".join(part.text for part in found) == text.strip()


def test_nothing_left_to_say_is_refused() -> None:
    with pytest.raises(RejectedError, match="nothing is left"):
        utterances_of(Settings(), "***")


def test_phrases_are_lines_without_comments() -> None:
    text = "\ufeff# greetings\r\nGood morning\r\n\r\n  Good night  \n#no\nNumber #1\n"
    assert phrases_in(text) == ["Good morning", "Good night", "Number #1"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        phrases_of(tmp_path / "nope")
    (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(StorageError, match="UTF-8"):
        phrases_of(tmp_path / "latin")


async def test_a_line_of_the_warm_file_without_words_does_not_stop_the_bridge(
    tmp_path: Path,
) -> None:
    (tmp_path / "phrases.txt").write_text("# comment\n***\nGood night\n")
    engine = ScriptedEngine([hum(1.0)])
    cache = {"warm": str(tmp_path / "phrases.txt")}
    with Mosquitto(tmp_path / "broker") as broker:
        async with serving(engine) as gateway:
            settings = settings_for(tmp_path, broker.port, gateway=gateway.url, cache=cache)
            async with living(settings), asyncio.timeout(20):
                await engine.over.wait()
    assert [asked[0] for asked in engine.asked] == ["Good night"]
