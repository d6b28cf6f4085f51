from __future__ import annotations

import pytest

from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.cloud import CloudSource
from tests.speech.sounds import ScriptedClient, heard, noise, utterance


@pytest.mark.parametrize(
    ("configured", "wanted", "sent"),
    [
        ("42", None, 42),
        (42, None, 42),
        ("kugel-anna", None, "kugel-anna"),
        ("42", "7", 7),
        (42, " anna ", "anna"),
        (None, None, None),
        ("", None, None),
        ("²", None, "²"),
    ],
)
def test_a_voice_is_a_number_or_a_handle(
    configured: str | int | None, wanted: str | None, sent: str | int | None
) -> None:
    source = CloudSource(ScriptedClient(), voice=configured, model="kugel-3.5")
    said = Utterance(text="Hallo", language="de", voice=wanted)
    assert source.request(said).voice_id == sent


@pytest.mark.parametrize(("wanted", "sent"), [(1.0, 1.0), (0.9, 0.9), (3.0, 1.2)])
def test_the_speed_is_the_utterance_s_own_within_what_the_service_takes(
    wanted: float, sent: float
) -> None:
    source = CloudSource(ScriptedClient(), voice=1, model="kugel-3.5")
    assert source.request(Utterance(text="x", language="de", speed=wanted)).speed == sent


def test_tags_cut_in_two_are_mended() -> None:
    source = CloudSource(ScriptedClient(), voice=1, model="kugel-3.5")
    assert source.request(utterance("sehr</prosody> gut")).text == "sehr gut"


def test_the_key_holds_what_is_sent() -> None:
    def key(source: CloudSource, text: str = "Hallo") -> str:
        return source.key(utterance(text)).digest

    source = CloudSource(ScriptedClient(), voice=1, model="kugel-3.5")
    others = [
        CloudSource(ScriptedClient(), voice=2, model="kugel-3.5"),
        CloudSource(ScriptedClient(), voice=1, model="kugel-3"),
        CloudSource(ScriptedClient(), voice=1, model="kugel-3.5", origin="http://127.0.0.1:8780"),
    ]
    assert len({key(s) for s in [source, *others]} | {key(source, "Welt")}) == 5
    assert key(source) == key(CloudSource(ScriptedClient(), voice="1", model="kugel-3.5"))


async def test_it_says_what_the_client_gives_and_when_not_to_ask() -> None:
    client = ScriptedClient(noise(1))
    source = CloudSource(client, voice=1, model="kugel-3.5")
    assert await heard(source.stream(utterance())) == noise(1).data
    assert client.requests == [source.request(utterance())]
    assert source.unavailable is None
    client.available = ServiceUnavailableError("away")
    assert source.unavailable is client.available


def test_phrases_of_caches_that_are_there_already_keep_their_names() -> None:
    source = CloudSource(ScriptedClient(), voice=1071, model="kugel-3.5")
    digest = source.key(Utterance(text="Es klingelt.", language="de")).digest
    assert digest == "0b7c2c5bffbf723c40d4494ffa3b25a273358fa621d3e3dd33f6c1cb84684190"
