"""Parts made out of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from kugel_bridge.app import parts
from kugel_bridge.audio.alsa import AlsaSink
from kugel_bridge.audio.null import NullSink
from kugel_bridge.audio.wav import WavSink
from kugel_bridge.model.announcement import Priority
from kugel_bridge.model.errors import ConfigurationError, RejectedError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.settings.sink import parse_sink
from kugel_bridge.settings.tree import Settings
from tests.speech.test_wyoming import speaking


def settings(**sections: object) -> Settings:
    return Settings.model_validate(sections)


@pytest.mark.parametrize(
    ("address", "kind"),
    [("alsa:default", AlsaSink), ("wav:/tmp/x.wav", WavSink), ("null:", NullSink)],
)
def test_a_sink_is_made_from_its_address(address: str, kind: type) -> None:
    assert isinstance(parts.sink_for(parse_sink(address)), kind)


def test_without_key_and_address_there_is_no_cloud() -> None:
    assert parts.cloud_client(settings()) is None
    assert parts.cloud_source(settings(), None) is None
    with pytest.raises(ConfigurationError, match=r"cloud\.api_key"):
        parts.catalogue(settings())


def test_an_address_of_its_own_is_enough_for_a_cloud_and_has_phrases_of_its_own() -> None:
    own = settings(cloud={"base_url": "http://127.0.0.1:9"})
    hosted = settings(cloud={"api_key": "ka_x"})
    sources = [parts.cloud_source(s, parts.cloud_client(s)) for s in (own, hosted)]
    assert all(sources)
    utterance = Utterance(text="Hello", language="en")
    digests = {source.key(utterance).digest for source in sources if source is not None}
    assert len(digests) == 2


def test_the_local_engine_can_be_switched_off() -> None:
    assert parts.local_rung(settings(local={"engine": "none"})) is None
    assert parts.local_rung(settings()) is not None


def test_a_cache_of_no_size_is_none(tmp_path: Path) -> None:
    assert parts.phrase_cache(settings(cache={"max_mb": 0})) is None
    assert parts.phrase_cache(settings(cache={"dir": str(tmp_path)})) is not None


def test_texts_are_cleaned_with_the_word_list_of_their_language() -> None:
    words = {"de": {"kWh": "Kilowattstunden"}, "en": {"kWh": "kilowatt hours"}}
    clean = parts.cleaner(settings(words=words))
    assert clean("**5 kWh**", "de") == "5 Kilowattstunden"
    assert clean("5 kWh", None) == "5 kilowatt hours"


def test_a_phrase_needs_its_variables() -> None:
    fill = parts.phrase_texts(settings(phrases={"door": {"text": "{who} is here"}}))
    assert fill("door", {"who": "Mia"}).text == "Mia is here"
    with pytest.raises(RejectedError, match=r"vars\.who"):
        fill("door", {})
    with pytest.raises(RejectedError, match="door"):
        fill("window", {})


def test_alerts_are_cleaned_and_found_by_language() -> None:
    book = parts.alert_book(
        settings(alerts={"smoke": {"text": {"en": "*Smoke!*", "de": "Rauch!"}}})
    )
    assert book.words_or_sound("smoke", "de") == "Rauch!"
    assert book.words_or_sound("smoke", "fr") == "Smoke!"
    with pytest.raises(RejectedError, match="smoke"):
        book.words_or_sound("fire", "en")


def test_every_level_has_its_rule() -> None:
    rules = parts.level_rules(settings(priority={"high": {"ttl_s": 7}}))
    assert set(rules) == set(Priority)
    assert rules[Priority.HIGH].ttl_s == 7
    assert rules[Priority.CRITICAL].first_sound_s < rules[Priority.LOW].first_sound_s


async def test_the_bridge_speaks_through_a_wyoming_server() -> None:
    async with speaking() as uri:
        local = {"engine": "wyoming", "wyoming_uri": uri}
        source = parts.local_rung(Settings.model_validate({"local": local}))
        assert source is not None
        chunks = [c async for c in source.stream(Utterance(text="Hallo", language="de"))]
    assert sum(chunk.frames for chunk in chunks) == 500
