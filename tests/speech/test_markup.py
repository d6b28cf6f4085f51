from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.markup import mended, pause_s, pieces, rate_of, snapped_pause_s

_PARTS = "<break/> <break </spell> <spell> <prosody </prosody> <b> </b> a < > /> time='1s'"
_PIECES = st.sampled_from([*_PARTS.split(), " ", "\n", "<prosody rate='slow'>"])
TAGGED = st.lists(_PIECES, max_size=30).map("".join)


@given(TAGGED)
def test_mending_twice_is_mending_once(text: str) -> None:
    # One pass may bring two halves of a tag together; cleaning goes on until nothing changes.
    for _ in range(8):
        text = mended(text)
    assert mended(text) == text


@given(TAGGED)
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(piece for piece, _ in pieces(text)) == text


@given(TAGGED)
def test_tags_are_in_pairs(text: str) -> None:
    text = mended(text)
    for name in ("spell", "prosody"):
        assert text.count(f"<{name}>") + text.count(f"<{name} ") >= text.count(f"</{name}>")


@pytest.mark.parametrize(
    ("tag", "asked", "waited"),
    [
        ('<break time="10ms"/>', 0.01, 0.2),
        ('<break time="299ms"/>', 0.299, 0.2),
        ('<break time="300ms"/>', 0.3, 0.4),
        ('<break time="0.449s"/>', 0.449, 0.4),
        ('<break time="450ms"/>', 0.45, 0.5),
        ('<break time="1.5s"/>', 1.5, 0.5),
        ("<break/>", 0.2, 0.2),
        ('<break strength="x-weak"/>', 0.2, 0.2),
        ('<break strength="medium"/>', 0.2, 0.2),
        ('<break strength="strong"/>', 0.5, 0.5),
        ('<break strength="none"/>', 0.0, 0.0),
    ],
)
def test_a_break_asks_for_any_length_and_has_one_of_three(
    tag: str, asked: float, waited: float
) -> None:
    assert (pause_s(tag), snapped_pause_s(tag)) == (asked, waited)


@pytest.mark.parametrize(
    ("rate", "speed"), [("x-slow", 0.8), ("medium", 1.0), ("fast", 1.2), ("1.1", 1.1), ("90%", 0.9)]
)
def test_a_prosody_has_a_speed(rate: str, speed: float) -> None:
    assert rate_of(mended(f'<prosody rate="{rate}">a</prosody>').partition(">")[0] + ">") == speed
