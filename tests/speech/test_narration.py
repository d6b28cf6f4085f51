from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest

from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.alignment import Mark
from kugel_bridge.speech.narration import JOIN_S, Said, Say, SilentError, narrated
from kugel_bridge.speech.reading import Passage, read

PCM = PcmFormat(1_000)
"""A frame is a millisecond."""


def sound(lead: int, loud: int, tail: int) -> PcmChunk:
    return PcmChunk(PCM, b"\0\0" * lead + b"\xff\x3f" * loud + b"\0\0" * tail)


def saying(script: Mapping[str, Sequence[Said | Exception]]) -> Say:
    """An engine that knows these passages."""

    async def say(passage: Passage) -> AsyncGenerator[Said, None]:
        for piece in script[passage.text.strip()]:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return say


async def shape(text: str, script: Mapping[str, Sequence[Said | Exception]]) -> list[int]:
    """Lengths of loud (positive) and silent (negative) stretches (ms)."""
    data = b""
    async for piece in narrated(read(text, "en"), saying(script)):
        assert isinstance(piece, PcmChunk)
        data += piece.data
    found: list[int] = []
    for start in range(0, len(data), 2):
        sign = 1 if data[start] else -1
        if found and found[-1] * sign > 0:
            found[-1] += sign
        else:
            found.append(sign)
    return found


async def test_one_passage_is_left_as_it_is() -> None:
    assert await shape("one", {"one": [sound(10, 50, 30)]}) == [-10, 50, -30]


async def test_a_break_is_all_the_silence_there_is_inside_a_sentence() -> None:
    script = {"one": [sound(10, 50, 30)], "two": [sound(20, 40, 35)]}
    assert await shape("one <break/> two", script) == [-10, 50, -200, 40, -35]


async def test_a_sentence_keeps_its_pause_before_a_break() -> None:
    script = {"one.": [sound(10, 50, 30)], "two": [sound(0, 40, 0)]}
    assert await shape("one. <break/> two", script) == [-10, 50, -230, 40]


async def test_passages_of_one_sentence_are_joined_closely() -> None:
    script = {"one": [sound(0, 50, 300)], "two": [sound(10, 40, 0)]}
    found = await shape("one <prosody rate='slow'>two</prosody>", script)
    assert found == [50, -round(JOIN_S * 1000), 40]


async def test_silence_inside_a_passage_stays() -> None:
    one = [sound(0, 50, 30), sound(20, 0, 0), sound(6, 10, 8)]
    assert await shape("one <break/> two", {"one": one, "two": [sound(0, 9, 0)]}) == [
        50,
        -56,
        10,
        -200,
        9,
    ]


async def test_breaks_at_both_ends_sound() -> None:
    assert await shape("<break/>one<break/>", {"one": [sound(0, 50, 5)]}) == [-200, 50, -205]


async def test_a_passage_without_sound_is_passed_over() -> None:
    script = {"one": [SilentError("none")], "two": [sound(0, 40, 0)]}
    assert await shape("one <break/> two", script) == [-200, 40]


@pytest.mark.parametrize("text", ["one <break/> one", "<break/>", "", "<spell></spell>"])
async def test_no_sound_at_all_is_an_error(text: str) -> None:
    with pytest.raises(SilentError):
        await shape(text, {"one": [SilentError("none")]})


async def test_a_passage_that_fails_fails_it_all() -> None:
    with pytest.raises(ServiceUnavailableError, match="broken"):
        await shape(
            "one <break/> two",
            {"one": [sound(0, 40, 0)], "two": [ServiceUnavailableError("broken")]},
        )


async def test_words_are_counted_from_the_first_sound_on() -> None:
    script = {
        "one": [Mark(0, 0), sound(0, 50, 100)],
        # The lead is cut off: what began at 20 begins at 0.
        "two": [Mark(20, 1), sound(20, 40, 0)],
    }
    words = []
    async for piece in narrated(read("one<break/> two", "en"), saying(script), with_words=True):
        if isinstance(piece, WordTimings):
            words += piece.words
    assert [(w.word, w.start_ms, w.end_ms) for w in words] == [("one", 0, 50), ("two", 250, 290)]
    assert [(w.char_start, w.char_end) for w in words] == [(0, 3), (4, 7)]


async def test_words_nobody_asked_for_are_not_told() -> None:
    script = {"one": [Mark(0, 0), sound(0, 50, 0)]}
    assert await shape("one", script) == [50]


async def test_the_engine_is_let_go_when_nobody_listens() -> None:
    closed = False

    async def say(_: Passage) -> AsyncGenerator[Said, None]:
        nonlocal closed
        try:
            while True:
                yield sound(0, 10, 0)
        finally:
            closed = True

    pieces = narrated(read("one", "en"), say)
    await anext(pieces)
    await pieces.aclose()
    assert closed
