from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.sentences import sentence_start, sentence_starts, split_at_sentences

_PIECES = """Satz. Frage? Dr.Müller z.B. am 3. Mai 3.5 Wort , ; <break/> x 。 ! <spell>A.B</spell>
</prosody> Donaudampfschifffahrt . - (x)"""
PIECES = st.sampled_from(
    [*_PIECES.split(), " ", " ", "\n", '<prosody rate="slow">', "<spell>A. B</spell>"]
)
TEXTS = st.lists(PIECES, max_size=80).map(lambda words: cleaned("".join(words), "de", {}))


def sentences(text: str) -> list[str]:
    starts = [*sentence_starts(text), len(text)]
    return [text[a:b].strip() for a, b in pairwise(starts)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Eins.", "Zwei!", "Drei?", "Vier … und fünf."],
        ["Dr. Müller kommt z.B. am 3. Mai um 3.5 Uhr.", "Gut."],
        ["Prof. Dr. h. c. Weiß usw. bleibt.", "Ende."],
        ["Mr. Smith paid $3.50 to J. Doe, e.g. twice.", "Then he left."],
        ["Überschrift", "Text darunter."],
        ['Er sagte: "Halt!"', "Dann kam er."],
        ["今日は。", "元気\uff1f", "はい。"],
        ["Die Antwort ist <spell>A. B</spell> so.", "Gut."],
        ["Das ist der 21. Tag.", "Ende."],
    ],
)
def test_sentences_are_found(expected: list[str]) -> None:
    text = (
        "".join(expected)
        if "。" in expected[0]
        else " ".join(expected).replace("Überschrift ", "Überschrift\n")
    )
    assert sentences(text) == expected


def test_a_short_text_is_one_part() -> None:
    assert split_at_sentences("Eins. Zwei.", 100) == ["Eins. Zwei."]
    assert split_at_sentences("  ", 100) == []


def test_parts_are_as_long_as_they_can_be_and_end_with_sentences() -> None:
    text = "Dies ist ein Satz von vierzig Zeichen, ja. " * 6
    parts = split_at_sentences(text.strip(), 100)
    assert parts == ["Dies ist ein Satz von vierzig Zeichen, ja. " * 1 + text[:42]] * 3


def test_a_long_sentence_is_cut_at_a_clause_then_at_a_word() -> None:
    clauses = "hier ist ein Teil vom Satz, " * 8 + "Ende."
    assert all(part.endswith((",", "Ende.")) for part in split_at_sentences(clauses, 100))
    words = "Wort " * 60 + "Ende"
    assert "".join(split_at_sentences(words, 100)).count("Wort") == 60


def test_one_endless_word_is_cut_hard() -> None:
    assert split_at_sentences("x" * 250, 100) == ["x" * 100, "x" * 100, "x" * 50]


def test_a_prosody_that_is_cut_goes_on_in_the_next_part() -> None:
    text = '<prosody rate="slow">' + "Langsam geht das hier. " * 8 + "</prosody> Fertig."
    parts = split_at_sentences(text, 120)
    assert len(parts) > 1
    for part in parts:
        assert part.count("<prosody") == part.count("</prosody>")
    assert parts[-1].endswith("Fertig.")


def test_a_limit_that_holds_no_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        split_at_sentences("x" * 300, 50)


def words_of(text: str) -> list[str]:
    return re.sub(r"<prosody[^<>]*>|</prosody>", " ", text).split()


@given(TEXTS, st.integers(100, 200))
def test_parts_fit_and_hold_every_word(text: str, limit: int) -> None:
    parts = split_at_sentences(text, limit)
    assert all(part.strip() and len(part) <= limit for part in parts)
    joined = [word for part in parts for word in words_of(part)]
    assert "".join(joined) == "".join(words_of(text))
    for part in parts:
        # Cleaning mends tags: a whole one it leaves as it is.
        assert part.count("<spell>") == part.count("</spell>")
        assert part.count("<break") == part.count("<break/>")


@given(TEXTS, st.floats(0, 1))
def test_a_start_lies_before_the_place_it_is_asked_for(text: str, fraction: float) -> None:
    start = sentence_start(text, fraction)
    assert start in sentence_starts(text)


@given(TEXTS, st.floats(0, 1), st.floats(0, 1))
def test_later_places_have_later_starts(text: str, one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert sentence_start(text, early) <= sentence_start(text, late)


def test_the_sentence_that_was_cut_is_found() -> None:
    text = "Erster Satz hier. Zweiter Satz hier. Dritter Satz hier."
    assert sentence_start(text, 0.0) == 0
    assert text[sentence_start(text, 0.5) :].startswith("Zweiter")
    assert text[sentence_start(text, 0.99) :].startswith("Dritter")
    assert text[sentence_start(text, 1.0) :].startswith("Dritter")


def test_tags_do_not_count_as_speech() -> None:
    text = "Eins hier. " + '<break time="300ms"/>' * 10 + "Zwei hier."
    assert text[sentence_start(text, 0.8) :].endswith("Zwei hier.")
    assert sentence_start(text, 0.2) == 0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["." * 60_000, "." * 59_000 + "a. b", "a" + "\n " * 100_000])
def test_a_long_run_of_marks_takes_no_time_to_speak_of(text: str) -> None:
    assert sentence_start(text, 0.5) == 0
