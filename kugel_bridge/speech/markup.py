"""The three tags the cloud understands: found, mended, and taken apart.

`<break>`, `<spell>` and `<prosody rate>` are all that is interpreted (API reference, "Markup in
text"); any other tag would be read aloud or have no defined meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MIN_RATE = 0.8
MAX_RATE = 1.2
MAX_DEPTH = 64
"""Tags open at once; a text with more is an attack, and what is deeper is dropped."""

TAG = re.compile(r"<(/?)\s*+([A-Za-z][\w:.-]*+)([^<>]*+)>")
"""Anything that looks like a tag: slash, name, the rest."""
_KEPT = re.compile(
    r"<break[^<>]*/>|<spell[^<>]*>[^<>]*</spell>|<prosody[^<>]*>|</prosody>", re.IGNORECASE
)
_ATTRIBUTE = re.compile(
    r"""(?<![A-Za-z:-])([A-Za-z:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'/>]+))"""
)
_TIME = re.compile(r"(\d{1,6}(?:[.,]\d{1,3})?)\s*(ms|s)?", re.IGNORECASE)
_PARTS = "br p div li ul ol tr table h1 h2 h3 h4 h5 h6 paragraph sentence"
_NEW_LINE = frozenset(_PARTS.split())
_STRENGTHS = frozenset(("none", "x-weak", "weak", "medium", "strong", "x-strong"))
_RATES = {"x-slow": "slow", "x-fast": "fast", "slow": "slow", "medium": "medium", "fast": "fast"}
_SPELLED = frozenset(("characters", "spell-out", "spell", "verbatim"))


@dataclass(slots=True)
class _Open:
    """A tag waiting for its end."""

    name: str
    at: int
    text: str
    """Empty for one that is dropped, and whose end is dropped with it."""


def mended(text: str) -> str:
    """The text with whole, canonical tags of the three kinds, and without any other.

    What is not closed, closed only, crossed, empty or nested in its like is dropped; its words
    stay. Tags that part paragraphs elsewhere become a newline.
    """
    pieces: list[str] = []
    waiting: list[_Open] = []
    end = 0
    for match in TAG.finditer(text):
        if _is_arithmetic(text, match):
            continue
        pieces.append(text[end : match.start()])
        end = match.end()
        closes, name, rest = bool(match[1]), match[2].lower(), match[3]
        if name in ("say-as", "spell"):
            name = "spell"
        if name not in ("break", "spell", "prosody"):
            pieces.append("\n" if name in _NEW_LINE else "")
        elif name == "break":
            spelling = any(o.name == "spell" and o.text for o in waiting)
            pieces.append("" if closes or spelling else _break(rest))
        elif closes:
            pieces.append(_closed(name, pieces, waiting))
        elif len(waiting) < MAX_DEPTH:
            nested = any(o.name in (name, "spell") and o.text for o in waiting)
            opening = "" if nested else _opening(name, match[2].lower(), rest)
            waiting.append(_Open(name, len(pieces), opening))
            pieces.append("")
    pieces.append(text[end:])
    return "".join(pieces)


def pieces(text: str, since: int = 0) -> Iterator[tuple[str, bool]]:
    """The text in order: words (False), and whole tags, a spelled piece with its ends (True)."""
    end = since
    for match in _KEPT.finditer(text, since):
        if match.start() > end:
            yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def attributes(tag: str) -> dict[str, str]:
    """The attributes of one tag, names in small letters."""
    return {m[1].lower(): m[2] or m[3] or m[4] or "" for m in _ATTRIBUTE.finditer(tag)}


def pause_s(tag: str) -> float:
    """How long a canonical `<break>` asks to wait (s)."""
    values = attributes(tag)
    if found := _TIME.fullmatch(values.get("time", "")):
        return float(found[1]) / (1000 if found[2] == "ms" else 1)
    return {"none": 0.0, "strong": 0.5, "x-strong": 0.5}.get(values.get("strength", ""), 0.2)


def snapped_pause_s(tag: str) -> float:
    """How long a canonical `<break>` waits as the API has it (s): 0.2, 0.4 or 0.5; 0 = none.

    The nearest of the three, the longer one between two (API reference, "Markup in text").
    """
    wanted_s = pause_s(tag)
    if wanted_s == 0.0 and "time" not in attributes(tag):
        return 0.0
    return 0.2 if wanted_s < 0.3 else 0.4 if wanted_s < 0.45 else 0.5


def rate_of(tag: str) -> float | None:
    """The speed that a `<prosody>` asks for, 0.8 to 1.2; None if it asks for none."""
    rate = _rate(attributes(tag).get("rate", ""))
    named = {"slow": MIN_RATE, "medium": 1.0, "fast": MAX_RATE}
    return named.get(rate) or (float(rate) if rate else None)


def _is_arithmetic(text: str, match: re.Match[str]) -> bool:
    """Whether it is no tag but a comparison: `a<b and c>d`."""
    rest = match[3].strip(" /")
    before = text[match.start() - 1 : match.start()]
    return bool(rest) and "=" not in rest and match[3][:1].isspace() and before.isalnum()


def _closed(name: str, pieces: list[str], waiting: list[_Open]) -> str:
    """The end tag to write, having written the matching beginning; nothing if there is none."""
    for depth in range(len(waiting) - 1, -1, -1):
        opened = waiting[depth]
        if opened.name != name:
            continue
        # What was opened inside and is still open is crossed: it stays unwritten.
        del waiting[depth:]
        inside = "".join(pieces[opened.at + 1 :])
        if not opened.text or not inside.strip():
            return ""
        if name == "spell":
            pieces[opened.at + 1 :] = [inside.replace("<", " ").replace(">", " ")]
        pieces[opened.at] = opened.text
        return f"</{name}>"
    return ""


def _opening(name: str, written: str, rest: str) -> str:
    values = attributes(rest)
    if name == "prosody":
        rate = _rate(values.get("rate", ""))
        return f'<prosody rate="{rate}">' if rate else ""
    if written == "say-as":
        return "<spell>" if values.get("interpret-as", "").lower() in _SPELLED else ""
    group = values.get("group", "")
    return f'<spell group="{int(group)}">' if re.fullmatch(r"[1-9]", group) else "<spell>"


def _rate(value: str) -> str:
    value = value.strip().lower()
    if value in _RATES:
        return _RATES[value]
    if found := re.fullmatch(r"(\d{1,4}(?:\.\d{1,4})?)(%?)", value, re.ASCII):
        rate = float(found[1]) / (100 if found[2] else 1)
        return f"{min(MAX_RATE, max(MIN_RATE, rate)):.4g}"
    return ""


def _break(rest: str) -> str:
    values = attributes(rest)
    if found := _TIME.fullmatch(values.get("time", "").strip()):
        number = float(found[1].replace(",", "."))
        unit = (found[2] or ("s" if number < 10 else "ms")).lower()  # nobody waits 10 ms
        return f'<break time="{number:g}{unit}"/>'
    strength = values.get("strength", "").strip().lower()
    return f'<break strength="{strength}"/>' if strength in _STRENGTHS else "<break/>"
