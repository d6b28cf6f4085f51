"""When the words of a passage sound: an engine's marks, brought onto the text and the sound."""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from kugel_bridge.audio.arithmetic import audioop
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.speech.reading import Passage

BLOCK_S = 0.01
"""How exactly the end of a sound is found (s)."""
QUIET = 150
"""Strongest sample (of 32768) up to which nothing is heard: some voices have an echo."""

# Scripts without blanks between words: every sign is counted as one.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(f"[{_SIGNS}]|[^\\s{_SIGNS}]+")
_SPOKEN_SIGNS = frozenset("%&@#§*")


@dataclass(frozen=True, slots=True)
class Mark:
    """A word begins."""

    frame: int
    """Of the passage's sound."""
    at: int
    """Its first character in the passage's text."""


@dataclass(frozen=True, slots=True)
class ClauseEnd:
    """A clause has ended."""

    frame: int
    at: int
    """The character after it."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its frames, counted from the beginning of the passage's sound."""

    char_start: int
    """Half-open range in what is spoken."""
    char_end: int
    start_frame: int
    end_frame: int
    is_measured: bool
    """False where the engine ran words together, and their borders are estimates."""


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    is_word: bool = True
    """False for mere signs, which engines pass over or name."""


class Alignment:
    """Takes marks and sound in the order in which an engine makes them; gives whole words.

    A word ends where the next one begins, or earlier, where its sound does.
    """

    def __init__(self, passage: Passage) -> None:
        self._places = passage.places
        self._text = passage.text
        self._tokens = list(_by_place(passage) if passage.is_spelled else _words(passage.text))
        self._starts = [token.start for token in self._tokens]
        self._begins: dict[int, int] = {}
        """Number of a token to its first frame."""
        self._told = 0
        self._last_marked = -1
        self._last_frame = 0
        self._latest = 0
        """Where the words told so far end."""
        self._ends: deque[ClauseEnd] = deque()
        self._peaks = array("l")
        self._rest = b""
        self._format: PcmFormat | None = None
        self._frames = 0

    def note(self, news: Mark | ClauseEnd) -> None:
        """Take what the engine says about sound to come."""
        if isinstance(news, ClauseEnd):
            self._ends.append(news)
            return
        number = bisect_right(self._starts, news.at) - 1
        # Engines mark parts of a word, and pauses as a word of no length: neither begins one.
        if number > self._last_marked and news.frame >= self._last_frame:
            self._begins[number] = news.frame
            self._last_marked, self._last_frame = number, news.frame

    def hear(self, chunk: PcmChunk) -> list[Word]:
        """Take sound; the words that are complete with it."""
        self._format = chunk.format
        self._frames += chunk.frames
        self._rest += chunk.data
        block = chunk.format.frames_in(BLOCK_S) * chunk.format.frame_bytes
        whole = len(self._rest) - len(self._rest) % block
        for start in range(0, whole, block):
            piece = self._rest[start : start + block]
            self._peaks.append(audioop.max(piece, chunk.format.sample_bytes))
        self._rest = self._rest[whole:]
        found: list[Word] = []
        while self._ends and self._ends[0].frame <= self._frames:
            end = self._ends.popleft()
            found += self._up_to(end.at, end.frame)
        return found

    def finish(self) -> list[Word]:
        """The words that are left when all sound is there."""
        return self._up_to(len(self._text), self._frames)

    def _up_to(self, at: int, frame: int) -> list[Word]:
        """The words that begin before the character `at` or the frame `frame`, where they end."""
        until = self._told
        while until < len(self._tokens) and (
            self._tokens[until].start < at or self._begins.get(until, frame) < frame
        ):
            until += 1
        marked = [number for number in range(self._told, until) if number in self._begins]
        if not marked:
            return []  # they sound together with what follows
        found: list[Word] = []
        first = self._told
        for position, number in enumerate(marked):
            after = marked[position + 1] if position + 1 < len(marked) else until
            end = self._begins[after] if after < until else frame
            begin = min(max(self._begins[number], self._latest), self._frames)
            self._latest = min(max(begin, end), self._frames)
            found += self._shared(range(first, after), begin, self._latest)
            first = after
        self._told = until
        return found

    def _shared(self, numbers: range, begin: int, end: int) -> Iterator[Word]:
        """Tokens that sound in one go, each with its share of the letters."""
        end = self._sound_end(begin, end)
        # A sign that the engine passed over has no sound: "5 < 6" is two words to espeak-ng.
        tokens = [
            self._tokens[number]
            for number in numbers
            if number in self._begins or self._tokens[number].is_word
        ]
        letters = sum(token.end - token.start for token in tokens)
        passed = 0
        for token in tokens:
            start = begin + (end - begin) * passed // letters
            passed += token.end - token.start
            yield Word(
                self._places[token.start],
                self._places[token.end - 1] + 1,
                start,
                begin + (end - begin) * passed // letters,
                is_measured=len(tokens) == 1,
            )

    def _sound_end(self, begin: int, end: int) -> int:
        """Where the sound between two frames falls silent for good."""
        if self._format is None:
            return begin
        block = self._format.frames_in(BLOCK_S)
        for number in range(min(-(-end // block), len(self._peaks)) - 1, begin // block - 1, -1):
            if self._peaks[number] > QUIET:
                return max(begin, min(end, (number + 1) * block))
        return begin


def _words(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        while start < end and not _is_word_sign(text[start]):
            start += 1
        while end > start and not _is_word_sign(text[end - 1]):
            end -= 1
        if start < end:
            yield _Token(start, end, any(map(str.isalnum, text[start:end])))


def _by_place(passage: Passage) -> Iterator[_Token]:
    """The spelled signs, each with all the words it takes to name it."""
    places = passage.places
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[start]:
            yield _Token(start, end)
            start = end


def _is_word_sign(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNMS" or character in _SPOKEN_SIGNS
