"""How espeak-ng calls languages, paces and texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from kugel_bridge.speech.reading import Passage

FALLBACK = "en"
"""There in every espeak-ng."""
WORDS_PER_MINUTE = 160
"""A little below espeak-ng's own 175: it is easier to follow across a room."""
_MIN_WPM, _MAX_WPM = 80, 300

_VOICES = {
    "en": "en-us",
    "zh": "cmn",
    "no": "nb",
    "fr": "fr-fr",
    "fil": "tl",
    "iw": "he",
}
"""Only where it is not the language's own code."""
_LETTERS = re.compile(r"(?<![^\s,])[^\s,](?: [^\s,](?![^\s,]))*(?![^\s,])")
"""Signs that stand alone, blanks between them."""
_VOICE = re.compile(r"(?P<language>[A-Za-z][A-Za-z0-9-]{0,39})?(?P<variant>\+[A-Za-z0-9_-]{1,39})?")


@dataclass(frozen=True, slots=True)
class EspeakInput:
    """What to hand to espeak-ng."""

    text: str
    is_ssml: bool
    places: Sequence[int]
    """For each character its place in the passage's text."""


def is_voice(name: str) -> bool:
    """Whether it looks like a voice of espeak-ng, `de+f4`, or a variant, `+f4`."""
    return bool(name) and _VOICE.fullmatch(name) is not None


def voice_for(language: str, wish: str | None) -> str:
    """The espeak-ng voice for a language code, after the wish of the configuration.

    A wish for another language only lends its variant; one that is no voice name is ignored.
    """
    found = _VOICE.fullmatch(wish or "")
    base = _VOICES.get(language.lower(), language.lower())
    if not _VOICE.fullmatch(base) or not base:
        base = FALLBACK
    if found is None:
        return base
    wanted, variant = found["language"], found["variant"] or ""
    if wanted and wanted.lower().split("-")[0] in (base.split("-")[0], language.lower()):
        base = wanted
    return base + variant


def words_per_minute(speed: float) -> int:
    """The pace for a speed, where 1.0 is usual."""
    return int(min(_MAX_WPM, max(_MIN_WPM, WORDS_PER_MINUTE * speed)))


def input_for(passage: Passage) -> EspeakInput:
    """The passage in espeak-ng's own terms.

    Only spelled letters need markup there: `a` alone is a word in many languages. Numbers and
    abbreviations are always read as the voice's language reads them; espeak-ng has no switch.
    """
    text = passage.text.replace("[[", "[ ")  # they would begin phonemes
    if not passage.is_spelled:
        return EspeakInput(text, is_ssml=False, places=range(len(text)))
    out: list[str] = []
    places: list[int] = []

    def add(piece: str, at: int) -> None:
        out.append(piece)
        places.extend([at] * len(piece))

    end = 0
    for match in [*_LETTERS.finditer(text), None]:
        start, stop = match.span() if match else (len(text), len(text))
        for at in range(end, start):
            add(escape(text[at]), at)
        if match:
            add('<say-as interpret-as="characters">', start)
            for at in range(start, stop):
                add(escape(text[at]), at)
            add("</say-as>", stop - 1)
        end = stop
    return EspeakInput("".join(out), is_ssml=True, places=places)
