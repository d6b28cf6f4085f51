"""Text as people and templates write it, made fit to be spoken."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from kugel_bridge.speech.markdown import without_markdown
from kugel_bridge.speech.markup import mended, pieces

MAX_PASSES = 8
"""What one pass uncovers (a tag in an entity, a link in a link) the next one takes away.

Bounded, because a hostile text could hide one thing in another thousands of times.
"""
LONG_TEXT = 10_000
"""Characters from which on two passes must do: the rest would only keep the event loop busy."""

_PLAIN = re.compile(r"[^\W_](?:[^\W_]|[.,;:!?%'\"()/+°€\u2013-]| (?! ))*(?<! )(?<!-)")
"""One line that no rule below would touch."""
_PLAIN_END = "\u2000"
"""From here on there are signs that count as letters and are pictures."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG_IN_HIDING = 0xF0000
"""First of the private characters that stand for tags while the text between is cleaned."""
_HIDDEN = re.compile("[\U000f0000-\U000fffff]")
_PICTURE = (
    "[\u2600-\u27bf\u2b00-\u2bff\u25a0-\u25ff\u2500-\u259f\u231a\u231b\u2328\u23cf\u23e9-\u23f3"
    "\u23f8-\u23fa\u20e3\ufe00-\ufe0f\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_EMOJI = re.compile(f"{_PICTURE}+")
# A run of blanks or pictures is tried from its beginning alone: from each of them it would be
# tried for as long as there are more, and a template that writes kilobytes of them would stop us.
_EMOJI_BEFORE_MARK = re.compile(
    f"(?:(?<![ \\t])[ \\t]++|(?<!{_PICTURE})){_PICTURE}++(?=\\s*(?:[.,;:!?…]|$))", re.MULTILINE
)
_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_JOINER = re.compile("(?<![^\\W\\d_])[\u200c\u200d]|[\u200c\u200d](?![^\\W\\d_])")
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" ?\n[\n ]*")
_BLANK_BEFORE_MARK = re.compile(r"(?<! ) +(?=[.,](?:\s|$))")
_WITH_CONTENT = ("script", "style")
_SIGNS_SPOKEN = frozenset("%&+=@#§°")


def cleaned(text: str, language: str, words: Mapping[str, str]) -> str:
    """The text as it is spoken: NFC, without markdown, emoji, entities and foreign tags.

    `words` is the user's list for `language`: what is written, and what is to be said instead. It
    is applied to whole words; an entry in small letters fits any case, another one exactly.
    A newline that is left is the pause of a paragraph. Empty if nothing of it can be spoken.
    Cleaning a cleaned text changes nothing, unless one entry of `words` rewrites another's result.
    """
    if not _is_plain(text):
        text = _settled(text)
    if words and text:
        said = _pass(text, _word_list(language, tuple(words.items())))
        text = said if said == text or _is_plain(said) else _settled(said)
    return text if _is_spoken(text) else ""


def _is_plain(text: str) -> bool:
    return (
        bool(_PLAIN.fullmatch(text))
        and max(text) < _PLAIN_END
        and unicodedata.is_normalized("NFC", text)
    )


def _settled(text: str) -> str:
    for _ in range(MAX_PASSES if len(text) < LONG_TEXT else 2):
        before, text = text, _pass(text, None)
        if text == before:
            break
    return text


def _pass(text: str, say: Callable[[str], str] | None) -> str:
    text = _known_characters(text)
    if "&" in text:
        text = _known_characters(_ENTITY.sub(lambda m: html.unescape(m[0]), text))
    for name in _WITH_CONTENT:
        text = _without_spans(text, f"<{name}", f"</{name}")
    text = re.sub(r"<[!?][^<>]*>", " ", _without_spans(text, "<!--", "-->"))
    shown: list[str] = []
    visible: list[str] = []
    for piece, is_tag in pieces(mended(text)):
        if is_tag and len(shown) < 0xFFFF:  # the private plane ends there
            visible.append(chr(_TAG_IN_HIDING + len(shown)))
            shown.append(_BLANKS.sub(" ", piece.replace("\n", " ")))
        else:
            visible.append(piece)
    text = _EMOJI.sub(_nothing_or_blank, _EMOJI_BEFORE_MARK.sub("", "".join(visible)))
    text = without_markdown(text)
    if say is not None:
        text = say(text)
    text = _BLANK_LINES.sub("\n", _BLANKS.sub(" ", text))
    text = _BLANK_BEFORE_MARK.sub("", text).strip()
    text = _HIDDEN.sub(lambda m: shown[ord(m[0]) - _TAG_IN_HIDING], text)
    return unicodedata.normalize("NFC", text)


def _known_characters(text: str) -> str:
    """Without what no voice can say: controls, surrogates, private and unassigned characters."""
    text = _NEWLINES.sub("\n", text)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    text = _JOINER.sub("", text)
    kept = [c for c in text if c in "\n\t\u200c\u200d" or unicodedata.category(c)[0] != "C"]
    return unicodedata.normalize("NFC", "".join(kept).replace("\ufffd", ""))


def _without_spans(text: str, opening: str, closing: str) -> str:
    """Without everything from `opening` to `closing`; in one go over the text."""
    small = text.lower() if len(text.lower()) == len(text) else text
    out, position = [], 0
    while (start := small.find(opening, position)) >= 0:
        end = small.find(closing, start + len(opening))
        if end < 0:
            break
        out.append(text[position:start])
        position = end + len(closing)
        if not closing.endswith(">"):
            position = small.find(">", position) + 1 or len(text)
    return "".join([*out, text[position:]])


def _nothing_or_blank(match: re.Match[str]) -> str:
    """A picture between two words parts them; a keycap's digit stays alone."""
    start, end = match.span()
    before, after = match.string[max(0, start - 1) : start], match.string[end : end + 1]
    return " " if before.isalpha() and after.isalnum() else ""


def _is_spoken(text: str) -> bool:
    for piece, is_tag in pieces(text):
        heard = piece if not is_tag else piece[piece.find(">") + 1 : piece.rfind("</")]
        for character in heard:
            if character in _SIGNS_SPOKEN or unicodedata.category(character)[0] in "LN":
                return True
            if unicodedata.category(character) in ("Sc", "So"):
                return True
    return False


@lru_cache(maxsize=64)
def _word_list(language: str, words: tuple[tuple[str, str], ...]) -> Callable[[str], str]:
    """Replaces every word of the list in one go, so that no result is replaced again."""
    exact = {unicodedata.normalize("NFC", k.strip()): v for k, v in words if k.strip()}
    small = {k: v for k, v in exact.items() if k == k.lower()}
    spared = [v for k, v in exact.items() if re.search(_bounded(k), v, re.IGNORECASE) and v != k]
    parts = [re.escape(v) for v in sorted(spared, key=len, reverse=True)]
    alternatives = [_bounded(k) for k in sorted(exact, key=len, reverse=True)]
    if not alternatives:
        return lambda text: text
    # What an entry made of its own word ("TV" -> "TV set") is passed over, not rewritten again.
    spare = f"(?P<spare>{'|'.join(parts)})|" if parts else ""
    pattern = re.compile(f"{spare}(?:{'|'.join(alternatives)})", re.IGNORECASE)

    def said(match: re.Match[str]) -> str:
        word = match[0]
        if match.groupdict().get("spare") is not None:
            return word
        if word in exact:
            return exact[word]
        replacement = small.get(word.lower())
        if replacement is None:
            return word
        return replacement[:1].upper() + replacement[1:] if word[:1].isupper() else replacement

    return lambda text: pattern.sub(said, text)


def _bounded(word: str) -> str:
    """A pattern for the word, with borders where it begins or ends with a letter or digit."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.match(r"\w", word[-1]) else ""
    return before + re.escape(word) + after
