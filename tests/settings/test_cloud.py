"""Which server is asked, with which key."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from kugel_bridge.settings.cloud import HOSTS, Cloud


@pytest.mark.parametrize(
    ("key", "region", "sent"),
    [
        ("ka_x", "default", "ka_x"),
        ("eu-ka_x", "eu", "ka_x"),
        ("us-ka_x", "default", "ka_x"),
        ("global-ka_x", "default", "ka_x"),
        (" ka_x\n", "default", "ka_x"),
    ],
)
def test_the_key_s_prefix_chooses_the_region_and_is_cut_off(
    key: str, region: str, sent: str
) -> None:
    cloud = Cloud(api_key=SecretStr(key))
    assert cloud.effective_base_url == HOSTS[region]
    assert cloud.effective_key == sent


def test_a_given_region_wins_over_the_prefix() -> None:
    assert Cloud(api_key=SecretStr("eu-k"), region="default").effective_base_url == HOSTS["default"]
    assert Cloud(api_key=SecretStr("k"), region="eu").effective_base_url == HOSTS["eu"]


def test_a_base_url_wins_over_all_and_the_prefix_is_still_cut_off() -> None:
    cloud = Cloud(api_key=SecretStr("eu-k"), region="eu", base_url="http://127.0.0.1:8780/v/")
    assert cloud.effective_base_url == "http://127.0.0.1:8780/v"
    assert cloud.effective_key == "k"


def test_without_key_and_server_the_cloud_is_off() -> None:
    assert not Cloud().enabled
    assert not Cloud(api_key=SecretStr(" ")).enabled
    assert Cloud(api_key=SecretStr("k")).enabled
    assert Cloud(base_url="http://127.0.0.1:1").enabled


@pytest.mark.parametrize(("given", "voice"), [(1071, "1071"), ("1071", "1071"), ("sam", "sam")])
def test_a_voice_is_a_number_or_a_handle(given: int | str, voice: str) -> None:
    assert Cloud(voice_id=given).voice == voice


def test_a_locale_is_cut_to_its_language() -> None:
    assert Cloud(language="de-DE").language == "de"
    assert Cloud(language="pt_BR").language == "pt"


@pytest.mark.parametrize("key", ["a b", "schlüssel", "a\nb"])
def test_a_key_that_cannot_travel_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="must not contain") as caught:
        Cloud(api_key=SecretStr(key))
    assert key not in str(caught.value)
