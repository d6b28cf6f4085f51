"""How espeak-ng calls languages, paces and texts."""

from __future__ import annotations

import re

from kugel_bridge.speech.clean import plain

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
_VOICE = re.compile(r"(?P<language>[A-Za-z][A-Za-z0-9-]{0,39})?(?P<variant>\+[A-Za-z0-9_-]{1,39})?")


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


def speakable(text: str) -> str:
    """The text without markup, and without the two brackets that begin phonemes."""
    text = plain(text)
    while "[[" in text:
        text = text.replace("[[", "[ [")
    return text + "\n"
