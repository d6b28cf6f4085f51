from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.gateway.textbuffer import LEAST_CHARACTERS, TextBuffer

STORY = (
    'Once. Upon "a time!" <spell>A.B. C</spell>, he\nsaid: 3.5 km? <prosody rate="slow">Dr. No. '
)


def chunks(*pieces: str, room: int = 10_000) -> list[str]:
    """What comes out when the pieces go in, and then the end."""
    buffer = TextBuffer(room)
    out = [chunk for piece in pieces for chunk in buffer.add(piece)]
    return [*out, *([last] if (last := buffer.take(final=True)) else [])]


def test_a_sentence_is_handed_on_once_the_next_one_begins() -> None:
    buffer = TextBuffer(1_000)
    assert buffer.add("Hello there. ") == []
    assert buffer.add("How") == ["Hello there."]
    assert buffer.waiting == 3


def test_a_piece_may_end_inside_a_word() -> None:
    assert chunks("Hel", "lo wor", "ld. By", "e.") == ["Hello world.", "Bye."]


def test_a_point_that_ends_no_sentence_does_not_part_it() -> None:
    assert chunks("Dr. ", "No lives at 3. ", "Lane. ", "So.") == ["Dr. No lives at 3. Lane.", "So."]


def test_one_piece_may_hold_many_sentences() -> None:
    assert chunks("One. Two! Three? Four") == ["One.", "Two!", "Three?", "Four"]


def test_an_open_spell_is_held_back_until_it_is_closed() -> None:
    buffer = TextBuffer(1_000)
    assert buffer.add("Your code. It is <spell>A. B. C") == ["Your code."]
    assert buffer.take(final=False) == "It is"
    assert buffer.take(final=False) == ""
    assert buffer.add("</spell>. Bye") == ["<spell>A. B. C</spell>."]


def test_a_spell_that_is_never_closed_ends_with_the_text() -> None:
    assert chunks("Code <spell>AB") == ["Code <spell>AB</spell>"]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_tag_that_is_cut_anywhere_stays_whole(cut: int) -> None:
    tag = '<break time="300ms"/>'
    buffer = TextBuffer(1_000)
    assert buffer.add("Wait" + tag[:cut]) == []
    assert buffer.take(final=False) == "Wait"
    buffer.add(tag[cut:] + "here.")
    assert buffer.take(final=False) == tag + "here."


@pytest.mark.parametrize("text", ["1 < 2", "I <3 you", "a <b, and"])
def test_a_sign_that_begins_no_tag_holds_nothing_back(text: str) -> None:
    buffer = TextBuffer(1_000)
    buffer.add(text)
    assert buffer.take(final=False) == text


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
    assert buffer.take(final=True) == "Two"
    buffer.add('<prosody rate="slow">Three. Four')
    buffer.clear()
    assert (buffer.waiting, buffer.take(final=True)) == (0, "")


@pytest.mark.parametrize("text", ["", "  \n", "...", "---", '<break time="1s"/>', "?!"])
def test_what_cannot_be_spoken_is_no_chunk(text: str) -> None:
    assert chunks(text) == []


def test_a_mark_or_a_pause_alone_waits_for_the_words_behind_it() -> None:
    buffer = TextBuffer(1_000)
    assert buffer.add("<break/> ... Well") == []
    assert buffer.take(final=True) == "<break/> ... Well"


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
        assert all(chunk.strip() for chunk in buffer.add(piece))
        assert buffer.waiting <= LEAST_CHARACTERS
        if number % 3 == 2:
            buffer.take(final=False)
    buffer.take(final=True)
    assert buffer.waiting == 0
