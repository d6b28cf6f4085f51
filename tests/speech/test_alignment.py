from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.alignment import Alignment, ClauseEnd, Mark, Word
from kugel_bridge.speech.reading import read

PCM = PcmFormat(1_000)
"""A frame is a millisecond."""


def sound(*spans: tuple[int, int], length: int) -> PcmChunk:
    """Loud within the spans, silent elsewhere."""
    loud = {frame for start, end in spans for frame in range(start, end)}
    return PcmChunk(PCM, b"".join(b"\xff\x3f" if n in loud else b"\0\0" for n in range(length)))


def alignment(text: str) -> Alignment:
    return Alignment(read(text, "en").passages[0])


def shown(text: str, words: list[Word]) -> list[tuple[str, int, int]]:
    return [(text[w.char_start : w.char_end], w.start_frame, w.end_frame) for w in words]


def test_a_word_ends_where_the_next_begins() -> None:
    text = "one two"
    words = alignment(text)
    words.note(Mark(0, 0))
    words.note(Mark(300, 4))
    assert words.hear(sound((0, 600), length=600)) == []
    assert shown(text, words.finish()) == [("one", 0, 300), ("two", 300, 600)]


def test_a_word_ends_earlier_where_its_sound_does() -> None:
    text = "one, two."
    words = alignment(text)
    words.note(Mark(0, 0))
    words.note(Mark(300, 5))
    words.hear(sound((0, 200), (300, 500), length=900))
    assert shown(text, words.finish()) == [("one", 0, 200), ("two", 300, 500)]


def test_a_clause_is_told_when_its_sound_is_there() -> None:
    text = "one. two."
    words = alignment(text)
    words.note(Mark(0, 0))
    words.note(ClauseEnd(300, 5))
    assert words.hear(sound((0, 250), length=290)) == []
    words.note(Mark(300, 5))
    assert shown(text, words.hear(sound(length=20))) == [("one", 0, 250)]
    words.hear(sound((0, 100), length=100))
    assert shown(text, words.finish()) == [("two", 300, 410)]


def test_words_without_a_mark_share_the_sound_of_the_one_before() -> None:
    text = "end of the day"
    words = alignment(text)
    for mark in (Mark(0, 0), Mark(300, 4), Mark(800, 11)):
        words.note(mark)
    words.hear(sound((0, 1000), length=1000))
    found = words.finish()
    assert shown(text, found) == [
        ("end", 0, 300),
        ("of", 300, 500),
        ("the", 500, 800),
        ("day", 800, 1000),
    ]
    assert [w.is_measured for w in found] == [True, False, False, True]


def test_signs_without_a_mark_are_no_words() -> None:
    text = "5 < 6 ~ &"
    words = alignment(text)
    words.note(Mark(0, 0))
    words.note(Mark(300, 4))
    words.note(Mark(500, 8))
    words.hear(sound((0, 600), length=600))
    assert [word for word, *_ in shown(text, words.finish())] == ["5", "6", "&"]


def test_marks_inside_a_word_and_marks_that_go_back_are_passed_over() -> None:
    text = "3,5 km"
    words = alignment(text)
    for mark in (Mark(0, 0), Mark(100, 1), Mark(200, 2), Mark(300, 4), Mark(350, 1)):
        words.note(mark)
    words.hear(sound((0, 500), length=500))
    assert shown(text, words.finish()) == [("3,5", 0, 300), ("km", 300, 500)]


def test_an_engine_without_marks_gives_no_words() -> None:
    words = alignment("one two")
    words.hear(sound((0, 500), length=500))
    assert words.finish() == []


def test_signs_of_scripts_without_blanks_are_words() -> None:
    text = "你好"
    words = alignment(text)
    words.note(Mark(0, 0))
    words.note(Mark(100, 1))
    words.hear(sound((0, 200), length=200))
    assert shown(text, words.finish()) == [("你", 0, 100), ("好", 100, 200)]


NEWS = st.one_of(
    st.builds(Mark, st.integers(-5, 900), st.integers(0, 30)),
    st.builds(ClauseEnd, st.integers(-5, 900), st.integers(0, 40)),
    st.integers(0, 60),
)


@given(st.text("ab ,.5<你", max_size=30), st.lists(NEWS, max_size=30))
def test_whatever_an_engine_says_words_are_in_order_and_within_the_sound(
    text: str, news: list[Mark | ClauseEnd | int]
) -> None:
    words = alignment(text)
    found: list[Word] = []
    heard = 0
    for item in news:
        if isinstance(item, int):
            heard += item
            found += words.hear(sound((0, item), length=item))
        else:
            words.note(item)
    found += words.finish()
    latest = place = 0
    for word in found:
        assert latest <= word.start_frame <= word.end_frame <= heard
        assert place <= word.char_start < word.char_end <= len(text)
        latest, place = word.end_frame, word.char_end
