from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.gateway import textbuffer
from kugel_bridge.gateway.textbuffer import LEAST_CHARACTERS, Portion, TextBuffer
from kugel_bridge.speech.clean import cleaned

STORY = (
    'Once. Upon "a time!" <spell>A.B. C</spell>, he\nsaid: 3.5 km? <prosody rate="slow">Dr. No. '
)
TAGS = ["<spell>A. B。C</spell>", '<break time="1s"/>', '<prosody rate="slow">', "</prosody>"]
SOUP = st.sampled_from(["One", "two", "Dr", "3", "A", *'.?!。…”")', "  ", "\n", "- ", ". ", *TAGS])


def chunks(*pieces: str, room: int = 10_000) -> list[str]:
    """What comes out when the pieces go in, and then the end."""
    return [portion.text for portion in portions(*pieces, room=room) if portion.text]


def portions(*pieces: str, room: int = 10_000) -> list[Portion]:
    """The same, and what it stands for."""
    buffer = TextBuffer(room)
    out = [portion for piece in pieces for portion in buffer.add(piece)]
    return [*out, *([last] if (last := buffer.take(final=True)) else [])]


def added(buffer: TextBuffer, text: str) -> list[str]:
    """What comes out when a piece goes in."""
    return [portion.text for portion in buffer.add(text)]


def taken(buffer: TextBuffer, *, final: bool) -> str:
    """What is left."""
    portion = buffer.take(final=final)
    return "" if portion is None else portion.text


def test_a_sentence_is_handed_on_once_the_next_one_begins() -> None:
    buffer = TextBuffer(1_000)
    assert added(buffer, "Hello there. ") == []
    assert added(buffer, "How") == ["Hello there."]
    assert buffer.waiting == 3


def test_a_piece_may_end_inside_a_word() -> None:
    assert chunks("Hel", "lo wor", "ld. By", "e.") == ["Hello world.", "Bye."]


def test_a_point_that_ends_no_sentence_does_not_part_it() -> None:
    assert chunks("Dr. ", "No lives at 3. ", "Lane. ", "So.") == ["Dr. No lives at 3. Lane.", "So."]


def test_one_piece_may_hold_many_sentences() -> None:
    assert chunks("One. Two! Three? Four") == ["One.", "Two!", "Three?", "Four"]


def test_an_open_spell_is_held_back_until_it_is_closed() -> None:
    buffer = TextBuffer(1_000)
    assert added(buffer, "Your code. It is <spell>A. B. C") == ["Your code."]
    assert taken(buffer, final=False) == "It is"
    assert taken(buffer, final=False) == ""
    assert added(buffer, "</spell>. Bye") == ["<spell>A. B. C</spell>."]


def test_a_spell_that_is_never_closed_ends_with_the_text() -> None:
    assert chunks("Code <spell>AB") == ["Code <spell>AB</spell>"]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_tag_that_is_cut_anywhere_stays_whole(cut: int) -> None:
    tag = '<break time="300ms"/>'
    buffer = TextBuffer(1_000)
    assert added(buffer, "Wait" + tag[:cut]) == []
    assert taken(buffer, final=False) == "Wait"
    buffer.add(tag[cut:] + "here.")
    assert taken(buffer, final=False) == tag + "here."


@pytest.mark.parametrize("text", ["1 < 2", "I <3 you", "a <b, and"])
def test_a_sign_that_begins_no_tag_holds_nothing_back(text: str) -> None:
    buffer = TextBuffer(1_000)
    buffer.add(text)
    assert taken(buffer, final=False) == text


def test_a_prosody_goes_on_in_the_next_chunk_and_ends_with_the_text() -> None:
    assert chunks('<prosody rate="slow">One. ', "Two.</prosody> Three.") == [
        '<prosody rate="slow">One.</prosody>',
        '<prosody rate="slow">Two.</prosody> Three.',
    ]


def test_nothing_of_one_text_reaches_the_next() -> None:
    buffer = TextBuffer(1_000)
    buffer.add('<prosody rate="slow">One')
    buffer.take(final=True)
    buffer.add("Two")
    assert taken(buffer, final=True) == "Two"
    buffer.add('<prosody rate="slow">Three. Four')
    buffer.clear()
    assert (buffer.waiting, taken(buffer, final=True)) == (0, "")


@pytest.mark.parametrize("text", ["", "  \n", "...", "---", "<spell></spell>", "<b>", "?!"])
def test_what_cannot_be_spoken_is_no_chunk(text: str) -> None:
    assert chunks(text) == []


def test_a_mark_or_a_pause_alone_waits_for_the_words_behind_it() -> None:
    buffer = TextBuffer(1_000)
    assert added(buffer, "<break/> ... Well") == []
    assert taken(buffer, final=True) == "<break/> ... Well"


def test_a_pause_at_the_end_is_not_lost() -> None:
    assert chunks("Hello. ", '<break time="1s"/>', " <break/> ") == [
        "Hello.",
        '<break time="1s"/> <break/>',
    ]
    assert chunks("<break/>...") == ["<break/>..."]


def test_a_portion_stands_for_what_came_in_and_not_for_tags_that_are_repeated() -> None:
    text = ' <prosody rate="slow">One. Two. </prosody> Three.  😀'
    assert [(part.text, part.characters) for part in portions(text)] == [
        ('<prosody rate="slow">One.</prosody>', 27),
        ('<prosody rate="slow">Two.</prosody>', 5),
        ('<prosody rate="slow"></prosody> Three.', 19),
        ("", 1),
    ]


@given(
    st.lists(st.text("ab. ,!\n😀", max_size=60) | st.sampled_from(["<break/>", "<spell>A. B"])),
    st.integers(100, 130),
)
def test_the_characters_of_all_portions_are_those_that_came_in(
    pieces: list[str], room: int
) -> None:
    pieces = ['<prosody rate="slow">', *pieces]
    assert sum(portion.characters for portion in portions(*pieces, room=room)) == sum(
        map(len, pieces)
    )


def test_more_than_there_is_room_for_is_cut_between_words() -> None:
    parts = chunks(*["word "] * 100, room=LEAST_CHARACTERS)
    assert " ".join(parts) == " ".join(["word"] * 100)
    assert all(len(part) <= LEAST_CHARACTERS for part in parts)


def test_a_spell_without_end_does_not_fill_the_memory() -> None:
    buffer = TextBuffer(LEAST_CHARACTERS)
    for _ in range(50):
        buffer.add("<spell>" + "A" * 50)
        assert buffer.waiting <= LEAST_CHARACTERS


@given(st.integers(1, 4), st.lists(st.integers(0, 400)))
def test_every_word_comes_out_in_its_order_wherever_it_is_cut(times: int, cuts: list[int]) -> None:
    def letters(text: str) -> str:
        return "".join(re.findall(r"\w", re.sub(r"<[^<>]*>", "", text)))

    story = STORY * times
    ends = [0, *sorted(cut for cut in cuts if cut < len(story)), len(story)]
    out = chunks(*[story[begin:end] for begin, end in pairwise(ends)])
    assert letters("".join(out)) == letters(story)
    assert "".join(out).count("<spell>A.B. C</spell>") == times


@given(
    st.lists(st.text() | st.sampled_from(["<spell>", "</spell>", "<break", "<prosody rate='1'>"]))
)
def test_any_pieces_leave_no_more_than_there_is_room_for(pieces: list[str]) -> None:
    buffer = TextBuffer(LEAST_CHARACTERS)
    for number, piece in enumerate(pieces):
        assert all(portion.text.strip() for portion in buffer.add(piece))
        assert buffer.waiting <= LEAST_CHARACTERS
        if number % 3 == 2:
            buffer.take(final=False)
    buffer.take(final=True)
    assert buffer.waiting == 0


@given(st.lists(SOUP, max_size=40), st.lists(st.integers(0, 200)))
def test_sentences_are_the_same_wherever_the_text_was_cut(soup: list[str], cuts: list[int]) -> None:
    text = "".join(soup)
    ends = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    assert chunks(*[text[begin:end] for begin, end in pairwise(ends)]) == chunks(text)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all that is looked at closely."""
    lengths: list[int] = []

    def watched(text: str, language: str, words: Mapping[str, str]) -> str:
        lengths.append(len(text))
        return cleaned(text, language, words)

    monkeypatch.setattr(textbuffer, "cleaned", watched)
    return lengths


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("unit", ["?\n", ". ", "<break/>. ", "😀. ", "Dr. ", "Yes. ", "<b>. "])
def test_each_stretch_of_a_text_is_looked_at_once(
    unit: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = watch(monkeypatch)
    text = (unit * 10_000)[:10_000]
    chunks(*[text[begin : begin + size] for begin in range(0, len(text), size)])
    assert sum(looked_at) <= len(text)


def test_what_was_stale_and_silent_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = watch(monkeypatch)
    buffer = TextBuffer(10_000)
    for _ in range(100):
        assert added(buffer, "<break/>") == []
        assert taken(buffer, final=False) == ""
    assert sum(looked_at) == buffer.waiting


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["?\n", ". ", "<break/>. ", "<", "<a", "a", "<spell>", "<break "])
def test_a_long_text_takes_no_time_to_speak_of(unit: str) -> None:
    chunks("<" + (unit * 100_000)[:100_000], ">", room=10**6)
