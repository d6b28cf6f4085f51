from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.speech.markup import mended, pause_s, pieces

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
    ("tag", "seconds"),
    [
        ('<break time="300ms"/>', 0.3),
        ('<break time="1.5s"/>', 1.5),
        ("<break/>", 0.2),
        ('<break strength="strong"/>', 0.5),
        ('<break strength="none"/>', 0.0),
    ],
)
def test_a_break_has_a_length(tag: str, seconds: float) -> None:
    assert pause_s(tag) == seconds
