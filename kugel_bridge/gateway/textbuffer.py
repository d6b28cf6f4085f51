"""Text that comes in pieces, handed on in sentences.

Source: API reference, "/ws/tts/stream" and "Markup in text". A piece may end anywhere, in a word
or in a tag; what is not certainly whole yet waits for the next piece.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.reading import wordless_pause_s
from kugel_bridge.speech.sentences import (
    decided_end,
    left_open,
    sentence_starts,
    split_at_sentences,
)

LEAST_CHARACTERS = 100
"""A shorter limit counts as this: a part has to hold a tag, its end and a word."""

_SPELL_ENDS = re.compile(r"<(/?)spell\b[^<>]*>", re.IGNORECASE)
_UNFINISHED = re.compile(r"<(/?[A-Za-z]*+)([^<>]*+)\Z")
_TAGS = ("break", "spell", "prosody", "/spell", "/prosody")
_MARKS_ALONE = re.compile(r"[\s.,;:!?…'\"()\[\]*_/|<>~`^{}\\-]*+")
"""Not one of these signs has a name, and no rule makes a word of them."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of a text, fit to be spoken on its own."""

    text: str
    """With the tags again that were open before it; empty if it makes no sound."""
    characters: int
    """How many that came in it stands for; those of all portions are all."""


class TextBuffer:
    """Collects the text of one turn or context; at most `max_characters` stay in it."""

    def __init__(self, max_characters: int) -> None:
        self._limit = max(LEAST_CHARACTERS, max_characters)
        self._held = ""
        # Each stretch is looked at once, however small the pieces are that it comes in.
        self._silent = 0
        """Up to here nothing of what is held can be spoken."""
        self._read = 0
        """Up to here it is known where sentences begin; no tag is open there."""
        self._opened = ""
        """The prosody tag that was open at the last cut; the next chunk begins with it again."""
        self._owed = 0
        """Characters that came in and are in no portion yet."""

    @property
    def waiting(self) -> int:
        """How many characters are held."""
        return len(self._held)

    def add(self, text: str) -> list[Portion]:
        """Take in a piece; the sentences that are certainly whole now come back.

        The end of a sentence is certain once the next one has begun. A `<spell>` or a tag that is
        still open holds back what comes from it on, as long as there is room.
        """
        self._held += text
        self._owed += len(text)
        portions = []
        begin, safe = 0, self._safe_end()
        for start in sentence_starts(self._held, self._read)[1:]:
            if start > safe:
                break
            if is_spoken(self._held[self._silent : start]):
                chunk = self._chunk(self._held[begin:start])
                portions.append(self._portion(chunk, start - begin))
                begin = start
            self._silent = start
        self._read = max(self._silent, decided_end(self._held[:safe]))
        if begin:
            self._held = self._held[begin:]
            self._silent, self._read = self._silent - begin, self._read - begin
        *parts, last = self._overflow() or [""]
        portions += [self._portion(part, len(part)) for part in parts]
        # Cut parts are bare of blanks, which came in too.
        return [*portions, self._portion(last, self._owed - self.waiting)] if last else portions

    def take(self, *, final: bool) -> Portion | None:
        """What is left, if it can be spoken or asks for a pause; at the end (`final`) all of it.

        At the end an open `<spell>` is closed. Before it, when the text is only stale, an open one
        stays, and so does an unfinished tag.
        """
        end = len(self._held) if final else self._safe_end()
        head, rest = self._held[:end], self._held[end:]
        if not is_spoken(head[self._silent :]):
            # A pause or a mark alone waits for the words that it belongs to.
            if not final:
                self._silent = end
                return None
            chunk = head.strip() if wordless_pause_s(head) else ""
        else:
            chunk = self._chunk(head + ("</spell>" if _open_spell(head) is not None else ""))
        self._hold(rest)
        portion = self._portion(chunk, self._owed if final else len(head))
        if final:
            self.clear()
        return portion if portion.text or portion.characters else None

    def clear(self) -> None:
        """Forget everything."""
        self._hold("")
        self._opened, self._owed = "", 0

    def _hold(self, text: str) -> None:
        self._held, self._silent, self._read = text, 0, 0

    def _portion(self, chunk: str, characters: int) -> Portion:
        # What is held may begin with a tag that did not come in, but stands there again.
        characters = min(max(0, characters), self._owed)
        self._owed -= characters
        return Portion(chunk, characters)

    def _chunk(self, text: str) -> str:
        """The text as it is spoken on its own: a prosody goes on in it, and ends with it."""
        opened, self._opened = self._opened, left_open(text, self._opened)
        return opened + text.strip() + ("</prosody>" if self._opened else "")

    def _overflow(self) -> list[str]:
        """What has to go because there is no room for it, cut where it hurts least."""
        if len(self._held) <= self._limit:
            return []
        safe = self._safe_end()
        # An open tag alone may fill the buffer: then it is cut like words.
        end = safe if is_spoken(self._held[:safe]) else len(self._held)
        parts = split_at_sentences(self._opened + self._held[:end], self._limit)
        if rest := self._held[end:]:
            self._opened = left_open(self._held[:end], self._opened)
            self._hold(rest)
            parts += self._overflow()
        elif parts:
            # The last part begins with the prosody that was open at its cut. Parts are bare of
            # blanks, but the word that comes next may need the one in front of it.
            blank = self._held[-1:] if self._held[-1:].isspace() else ""
            self._opened = ""
            self._hold(parts.pop() + blank)
            if len(self._held) > self._limit:
                parts.append(self._chunk(self._held))
                self._hold("")
        else:
            self._hold("")
        return [part for part in parts if is_spoken(part)]

    def _safe_end(self) -> int:
        """Where the first tag begins that the next piece may complete."""
        spell = _open_spell(self._held, self._read)
        if spell is not None:
            return spell
        tail = _UNFINISHED.match(self._held, max(0, self._held.rfind("<")))
        if tail is None:
            return len(self._held)
        name, rest = tail[1].lower(), tail[2]
        may_be_tag = name in _TAGS if rest else any(tag.startswith(name) for tag in _TAGS)
        return tail.start() if may_be_tag else len(self._held)


def is_spoken(text: str) -> bool:
    """Whether there is a word, a number or a sign in it that has a name."""
    return _MARKS_ALONE.fullmatch(text) is None and bool(cleaned(text, "", {}))


def _open_spell(text: str, since: int = 0) -> int | None:
    """Where the `<spell>` begins that has no end yet."""
    begin = None
    for tag in _SPELL_ENDS.finditer(text, since):
        begin = None if tag[1] else tag.start() if begin is None else begin
    return begin
