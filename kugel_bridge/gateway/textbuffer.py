"""Text that comes in pieces, handed on in sentences.

Source: API reference, "/ws/tts/stream" and "Markup in text". A piece may end anywhere, in a word
or in a tag; what is not certainly whole yet waits for the next piece.
"""

from __future__ import annotations

import re

from kugel_bridge.speech.clean import cleaned
from kugel_bridge.speech.sentences import left_open, sentence_starts, split_at_sentences

LEAST_CHARACTERS = 100
"""A shorter limit counts as this: a part has to hold a tag, its end and a word."""

_SPELL_ENDS = re.compile(r"<(/?)spell\b[^<>]*>", re.IGNORECASE)
_UNFINISHED = re.compile(r"<(/?[A-Za-z]*)([^<>]*)$")
_TAGS = ("break", "spell", "prosody", "/spell", "/prosody")


class TextBuffer:
    """Collects the text of one turn or context; at most `max_characters` stay in it."""

    def __init__(self, max_characters: int) -> None:
        self._limit = max(LEAST_CHARACTERS, max_characters)
        self._held = ""
        self._opened = ""
        """The prosody tag that was open at the last cut; the next chunk begins with it again."""

    @property
    def waiting(self) -> int:
        """How many characters are held."""
        return len(self._held)

    def add(self, text: str) -> list[str]:
        """Take in a piece; the sentences that are certainly whole now come back.

        The end of a sentence is certain once the next one has begun. A `<spell>` or a tag that is
        still open holds back what comes from it on, as long as there is room.
        """
        self._held += text
        chunks = []
        begin, safe = 0, self._safe_end()
        for start in sentence_starts(self._held)[1:]:
            if start <= safe and is_spoken(self._held[begin:start]):
                chunks.append(self._chunk(self._held[begin:start]))
                begin = start
        self._held = self._held[begin:]
        return chunks + self._overflow()

    def take(self, *, final: bool) -> str:
        """Everything that is left; empty if nothing of it can be spoken.

        At the end (`final`) an open `<spell>` is closed. Before it, when the text is only stale,
        an open one stays, and so does an unfinished tag.
        """
        end = len(self._held) if final else self._safe_end()
        head, rest = self._held[:end], self._held[end:]
        if not is_spoken(head):
            # A pause or a mark alone waits for the words that it belongs to.
            if final:
                self.clear()
            return ""
        chunk = self._chunk(head + ("</spell>" if _open_spell(head) is not None else ""))
        self._held = rest
        if final:
            self.clear()
        return chunk

    def clear(self) -> None:
        """Forget everything."""
        self._held = self._opened = ""

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
            self._opened, self._held = left_open(self._held[:end], self._opened), rest
            parts += self._overflow()
        elif parts:
            # The last part begins with the prosody that was open at its cut. Parts are bare of
            # blanks, but the word that comes next may need the one in front of it.
            blank = self._held[-1:] if self._held[-1:].isspace() else ""
            self._opened, self._held = "", parts.pop() + blank
            if len(self._held) > self._limit:
                parts.append(self._chunk(self._held))
                self._held = ""
        else:
            self._held = ""
        return [part for part in parts if is_spoken(part)]

    def _safe_end(self) -> int:
        """Where the first tag begins that the next piece may complete."""
        spell = _open_spell(self._held)
        if spell is not None:
            return spell
        tail = _UNFINISHED.search(self._held)
        if tail is None:
            return len(self._held)
        name, rest = tail[1].lower(), tail[2]
        may_be_tag = name in _TAGS if rest else any(tag.startswith(name) for tag in _TAGS)
        return tail.start() if may_be_tag else len(self._held)


def is_spoken(text: str) -> bool:
    """Whether there is a word, a number or a sign in it that has a name."""
    return bool(cleaned(text, "", {}))


def _open_spell(text: str) -> int | None:
    """Where the `<spell>` begins that has no end yet."""
    begin = None
    for tag in _SPELL_ENDS.finditer(text):
        begin = None if tag[1] else tag.start() if begin is None else begin
    return begin
