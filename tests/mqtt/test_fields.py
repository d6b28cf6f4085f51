"""Values of fields in all their spellings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.announcement import Volume
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt import fields
from kugel_bridge.mqtt.fields import (
    Fields,
    chime_of,
    flag_of,
    language_of,
    moment_of,
    number_of,
    speed_of,
    text_of,
    volume_of,
    word_of,
)


@pytest.mark.parametrize(
    ("literal", "volume"),
    [
        ("0", Volume(0)),
        ("1", Volume(1)),
        ("35", Volume(35)),
        ("100", Volume(100)),
        ("0.0", Volume(0)),
        ("0.5", Volume(50)),
        ("0.29", Volume(29)),
        ("1.0", Volume(100)),
        ("1.5", Volume(1.5)),
        ("35.5", Volume(35.5)),
        ('"35"', Volume(35)),
        ('"35 %"', Volume(35)),
        ('"0.5"', Volume(50)),
        ('"1"', Volume(1)),
        ('"1.0"', Volume(100)),
        ('"+10"', Volume(10, relative=True)),
        ('"-5"', Volume(-5, relative=True)),
        ('"+10%"', Volume(10, relative=True)),
    ],
)
def test_a_volume_is_read_by_how_it_is_written(literal: str, volume: Volume) -> None:
    assert volume_of("volume", json.loads(literal)) == volume


@pytest.mark.parametrize(
    "literal",
    ["true", "false", "-5", "101", "1e9", '"loud"', '""', '"+101"', "[]", "{}", '"1,5"', '"+-5"'],
)
def test_an_impossible_volume_is_refused_with_the_rule(literal: str) -> None:
    with pytest.raises(RejectedError, match=r"volume.*1 is 1 %, 1\.0 is 100 %"):
        volume_of("volume", json.loads(literal))


def test_a_siren_sends_fractions_only() -> None:
    assert volume_of("volume_level", 1, fraction=True) == Volume(100)
    assert volume_of("volume_level", 0.4, fraction=True) == Volume(40)
    with pytest.raises(RejectedError):
        volume_of("volume_level", 40, fraction=True)


@pytest.mark.parametrize("word", [True, 1, "ON", "on", " On ", "true", "TRUE", "1", "yes"])
def test_words_for_on(word: Any) -> None:
    assert flag_of("muted", word) is True


@pytest.mark.parametrize("word", [False, 0, "OFF", "off", "false", "0", "no"])
def test_words_for_off(word: Any) -> None:
    assert flag_of("muted", word) is False


@pytest.mark.parametrize("word", [2, 1.0, "", "maybe", [], {}])
def test_other_words_are_no_switch(word: Any) -> None:
    with pytest.raises(RejectedError, match="true or false"):
        flag_of("muted", word)


@pytest.mark.parametrize(
    ("locale", "code"),
    [("de", "de"), ("de-DE", "de"), ("de_DE", "de"), ("EN-us", "en"), ("yue", "yue"),
     ("de_DE.UTF-8", "de")],
)  # fmt: skip
def test_of_a_locale_the_language_is_kept(locale: str, code: str) -> None:
    assert language_of("language", locale) == code


@pytest.mark.parametrize("locale", ["", "german", "d", 5, "d1", None])
def test_what_is_no_language_is_refused(locale: Any) -> None:
    with pytest.raises(RejectedError, match="language"):
        language_of("language", locale)


@pytest.mark.parametrize(
    ("value", "chime"),
    [
        (True, True),
        (False, False),
        ("on", True),
        ("none", False),
        ("", False),
        ("Gong", "gong"),
        ("/media/chimes/Ding Dong.mp3", "ding-dong"),
        ("media-source://local/bell.wav", "bell"),
    ],
)
def test_a_chime_is_wished_or_named(value: Any, chime: bool | str) -> None:
    assert chime_of("chime", value) == chime


@pytest.mark.parametrize("value", [5, [], "../..", "/", "glöckchen"])
def test_a_chime_without_a_usable_name_is_refused(value: Any) -> None:
    with pytest.raises(RejectedError, match="chime"):
        chime_of("chime", value)


@pytest.mark.parametrize(
    ("value", "moment_s"),
    [
        ("2001-09-09T01:46:40Z", 1e9),
        ("2001-09-09T03:46:40+02:00", 1e9),
        ("2001-09-09 01:46:40.500+00:00", 1e9 + 0.5),
        (1_000_000_000, 1e9),
        ("1000000000", 1e9),
    ],
)
def test_a_moment_is_a_time_with_zone_or_seconds(value: Any, moment_s: float) -> None:
    assert moment_of("not_before", value) == moment_s


def test_a_time_without_a_zone_is_refused_with_the_remedy() -> None:
    with pytest.raises(RejectedError, match="add the time zone"):
        moment_of("not_before", "2030-01-31T18:00:00")


@pytest.mark.parametrize("value", [True, 5, -1, 1.7e12, "tomorrow", [], "99999-01-01T00:00:00Z"])
def test_what_is_no_moment_is_refused(value: Any) -> None:
    with pytest.raises(RejectedError):
        moment_of("not_before", value)


def test_the_speed_is_brought_to_what_the_service_can_do() -> None:
    assert speed_of("speed", 1.1) == 1.1
    assert speed_of("speed", 2) == 1.2
    assert speed_of("tts_speed", 50, percent=True) == 0.8
    assert speed_of("tts_speed", 110, percent=True) == pytest.approx(1.1)
    with pytest.raises(RejectedError):
        speed_of("speed", 0)


def test_the_first_spelling_counts_and_the_others_are_named() -> None:
    found = Fields({"msg": "b", "text": "a", "x": 1, "y": None}, {"text": ("text", "msg")})
    assert found.take("text") == ("text", "a")
    assert found.ignored == ("msg", "x")


def test_null_is_absent() -> None:
    found = Fields({"text": None, "msg": "b"}, {"text": ("text", "msg")})
    assert found.take("text") == ("msg", "b")


def test_unknown_names_are_cut_to_what_can_be_sent_back() -> None:
    found = Fields({"\ud800" + "x" * 200: 1} | {f"n{i}": 1 for i in range(50)}, {})
    assert len(found.ignored) == fields.MAX_IGNORED
    assert all(len(name) <= 60 for name in found.ignored)
    "".join(found.ignored).encode()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.sampled_from(
        [chime_of, flag_of, language_of, moment_of, speed_of, text_of, volume_of, word_of]
    ),
    JSON_VALUES | st.text(alphabet="0123456789+-.%eE :TZ"),
)
def test_any_value_is_taken_or_refused_in_words_that_can_be_sent(convert: Any, value: Any) -> None:
    try:
        convert("field", value)
    except RejectedError as error:
        assert str(error).startswith("field: ")
        str(error).encode()


@given(JSON_VALUES)
def test_numbers_are_finite_and_in_range(value: Any) -> None:
    try:
        number = number_of("field", value, -5, 5)
    except RejectedError:
        return
    assert -5 <= number <= 5
