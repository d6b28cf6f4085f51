from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.reading import Reading, is_speakable, read

_PARTS = "<break/> <spell> </spell> <prosody </prosody> <b> </b> a < > /> B, é. \n 你 @-_ [[ 1"
TAGGED = st.lists(
    st.sampled_from([*_PARTS.split(" "), " ", "<prosody rate='slow'>", '<spell group="2">']),
    max_size=30,
).map("".join)


def told(reading: Reading) -> list[tuple[str, float | None, float]]:
    return [(p.text, p.rate, p.pause_s) for p in reading.passages]


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        ("Es klingelt.", [("Es klingelt.", None, 0)]),
        ("Halt <break time='1s'/> jetzt", [("Halt ", None, 0.5), (" jetzt", None, 0)]),
        ("a<break/><break/>b", [("a", None, 0.4), ("b", None, 0)]),
        ("<break/>a", [("", None, 0.2), ("a", None, 0)]),
        (
            "a <prosody rate='fast'>b<break/>c</prosody> d",
            [("a ", None, 0), ("b", 1.2, 0.2), ("c", 1.2, 0), (" d", None, 0)],
        ),
        ("a <b>b</b> <audio src='x'/>c", [("a b c", None, 0)]),
        ("5 < 6 & a<b und c>d <kaputt", [("5 < 6 & a<b und c>d <kaputt", None, 0)]),
        ("<<b>break/>a", [("", None, 0.2), ("a", None, 0)]),
        ("Titel\nText", [("Titel. Text", None, 0)]),
        ("Titel!\n\nText", [("Titel! Text", None, 0)]),
        ("a\0b\ud800c\x07", [("a b c ", None, 0)]),
    ],
)
def test_a_text_is_taken_apart(text: str, passages: list[tuple[str, float | None, float]]) -> None:
    assert told(read(text, "en")) == passages


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("<spell>AB</spell>", "en", "a b"),
        ("<spell>a@b.c-d_e</spell>", "en", "a at b dot c dash d underscore e"),
        ("<spell>a@b.c-d_e</spell>", "de", "a ät b Punkt c Strich d Unterstrich e"),
        ("<spell>a-b</spell>", "ja", "a - b"),
        ("<spell>AB 12</spell>", "de", "a b, 1 2"),
        ("<spell>  A,, B </spell>", "de", "a, b"),
        ('<spell group="2">AB123</spell>', "de", "a b, 1 2, 3"),
        ("<spell>AB", "de", "a b"),
        ("<say-as interpret-as='characters'>AB</say-as>", "de", "a b"),
    ],
)
def test_spelled_text_is_letters_and_names_of_signs(text: str, language: str, said: str) -> None:
    (passage,) = read(text, language).passages
    assert passage.is_spelled
    assert passage.text == said


def test_a_mark_after_spelled_letters_ends_the_sentence() -> None:
    spelled = read("<spell>AB</spell>.", "de").passages
    assert [(p.is_spelled, p.is_ended) for p in spelled] == [(True, True)]
    assert read("<spell>AB</spell>. Und", "de").passages[0].is_ended
    assert not read("<spell>AB</spell> und", "de").passages[0].is_ended


def test_an_engine_without_a_pace_reads_over_a_change_of_it() -> None:
    text = "a <prosody rate='slow'>b</prosody> c"
    assert told(read(text, "en", has_pace=False)) == [("a b c", None, 0)]


@pytest.mark.parametrize("text", ["", " ", "<break/>", "...", "<b></b>", "<spell>"])
def test_nothing_to_say_is_nothing_to_say(text: str) -> None:
    assert not any(is_speakable(passage.text) for passage in read(text, "en").passages)


@given(TAGGED | st.text(max_size=50))
def test_every_character_knows_its_place(text: str) -> None:
    reading = read(text, "de")
    for passage in reading.passages:
        assert len(passage.places) == len(passage.text)
        assert list(passage.places) == sorted(passage.places)
        if not passage.is_spelled:
            for sign, place in zip(passage.text, passage.places, strict=True):
                assert sign == reading.spoken[place] or reading.spoken[place].isspace()


@given(TAGGED | st.text(max_size=50))
def test_no_known_tag_is_left(text: str) -> None:
    for passage in read(text, "de").passages:
        assert not re.search(r"<break\s*/>|</?spell>|</prosody>", passage.text)
        passage.text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "<spell>" * 1_400,
        "<" * 10_000,
        "<<b>" * 2_500,
        "a\n" * 5_000,
        "<spell group='1'>" + "a" * 9_000,
    ],
    ids=lambda text: text[:8],
)
@pytest.mark.timeout(10)
def test_hostile_text_takes_no_time_to_speak_of(text: str) -> None:
    read(text, "de")
