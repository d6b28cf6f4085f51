"""One field of a request made a typed value, or refused in words a person understands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kugel_bridge.audio.chime import CHIMES
from kugel_bridge.model.announcement import Volume
from kugel_bridge.model.errors import RejectedError

MAX_WORD_CHARACTERS = 256
"""Longest id, tag, voice or name."""
SPEEDS = (0.8, 1.2)
"""The slowest and the fastest the service speaks (KugelAudio API, "Generate speech")."""
MAX_IGNORED = 16
"""So many unknown fields are named; more would only make the answer long."""
_SHOWN_CHARACTERS = 60
_CHIMES = f"give true, false or one of {', '.join(CHIMES)}"

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_CHIME = re.compile(r"[a-z0-9_-]{1,64}")
_SWITCH_WORDS: Mapping[str, bool] = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}


class Fields:
    """The fields of one JSON object, read by our names in any of their spellings.

    A field that is null counts as absent: templates write null for what they do not know.
    """

    def __init__(self, raw: Mapping[str, Any], spellings: Mapping[str, tuple[str, ...]]) -> None:
        self._raw, self._spellings = raw, spellings
        self._used: set[str] = set()

    def peek(self, name: str) -> tuple[str, Any] | None:
        """Like `take`, without counting the field as understood."""
        if not self._raw:
            return None  # a plain text has no fields, and two dozen are asked for
        for spelling in self._spellings[name]:
            if (value := self._raw.get(spelling)) is not None:
                return spelling, value
        return None

    def take(self, name: str) -> tuple[str, Any] | None:
        """The caller's spelling and the value; None if the field is absent."""
        found = self.peek(name)
        if found is not None:
            self._used.add(found[0])
        return found

    @property
    def ignored(self) -> tuple[str, ...]:
        """What nobody took, as it was spelt."""
        names = [name for name, v in self._raw.items() if v is not None and name not in self._used]
        return tuple(
            name.encode("utf-8", "replace").decode()[:_SHOWN_CHARACTERS]
            for name in names[:MAX_IGNORED]
        )


def wrong(field: str, value: object, remedy: str) -> RejectedError:
    """The error for a field with an impossible value."""
    shown = repr(value) if isinstance(value, str) else str(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    # A lone surrogate could not be sent back.
    shown = shown.encode("utf-8", "replace").decode()
    return RejectedError(f"{field}: {shown} is not possible; {remedy}")


def text_of(field: str, value: object) -> str:
    """Any text that can be written as UTF-8 and holds no NUL."""
    if not isinstance(value, str):
        raise wrong(field, value, "give a text in quotes")
    if "\x00" in value:
        raise RejectedError(f"{field}: holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RejectedError(f"{field}: holds half a character (a lone surrogate)") from error
    return value


def word_of(field: str, value: object) -> str:
    """A short text on one line: an id, a tag, a voice; whole numbers are taken as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = text_of(field, value).strip()
    if not text or len(text) > MAX_WORD_CHARACTERS or any(c < " " for c in text):
        raise wrong(field, value, f"give 1 to {MAX_WORD_CHARACTERS} characters on one line")
    return text


def number_of(field: str, value: object, low: float, high: float, what: str = "a number") -> float:
    """A finite number from `low` to `high`, also as a text that holds one."""
    number = _plain_number(value)
    if number is None or not low <= number <= high:
        raise wrong(field, value, f"give {what} from {low:.12g} to {high:.12g}")
    return number


def flag_of(field: str, value: object) -> bool:
    """true or false, also as ON and OFF, 1 and 0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        known = _SWITCH_WORDS.get(str(value).strip().lower())
        if known is not None:
            return known
    raise wrong(field, value, "give true or false")


def language_of(field: str, value: object) -> str:
    """Two or three letters: the first part of a locale as `de-DE` or `de_DE`."""
    if isinstance(value, str):
        code = re.split(r"[-_.]", value.strip(), maxsplit=1)[0].lower()
        if _LANGUAGE.fullmatch(code):
            return code
    raise wrong(field, value, 'give a language code as "en" or "de"')


def speed_of(field: str, value: object, *, percent: bool = False) -> float:
    """How fast, 1.0 being normal; what the service cannot do becomes the nearest it can."""
    unit = 100 if percent else 1
    factor = number_of(field, value, 0.1 * unit, 10 * unit) / unit
    return min(SPEEDS[1], max(SPEEDS[0], factor))


def volume_of(field: str, value: object, *, fraction: bool = False) -> Volume:
    """How loud. An integer or a number above 1 is percent, 0.0 to 1.0 with a point a fraction.

    A text with a sign is a difference in percent. `fraction` is for callers that always send
    0…1, as Home Assistant's sirens do.
    """
    remedy = (
        "give a percentage from 0 to 100, a fraction from 0.0 to 1.0 "
        '(1 is 1 %, 1.0 is 100 %), or a difference as "+10"'
    )
    number = _plain_number(value)
    if number is None:
        raise wrong(field, value, remedy)
    if isinstance(value, str):
        literal = value.strip().removesuffix("%").strip()
        if literal[:1] in ("+", "-"):
            if abs(number) > 100:
                raise wrong(field, value, remedy)
            return Volume(number, relative=True)
        with_point = "." in literal and not value.strip().endswith("%")
    else:
        with_point = isinstance(value, float)
    if fraction or (with_point and 0.0 <= number <= 1.0):
        number = round(number * 100, 6)  # 0.29 is 29 %, not 28.999999999999996 %
    if not 0 <= number <= 100:
        raise wrong(field, value, remedy)
    return Volume(number)


def chime_of(field: str, value: object) -> bool | str:
    """Whether to chime, or which chime; of a path or address only the file's name counts."""
    try:
        return flag_of(field, value)
    except RejectedError:
        if not isinstance(value, str):
            raise wrong(field, value, _CHIMES) from None
    text = value.strip().lower()
    if text in ("", "none"):
        return False
    stem = re.split(r"[/\\]", text)[-1].rsplit(".", 1)[0].replace(" ", "-")
    if not _CHIME.fullmatch(stem):
        raise wrong(field, value, _CHIMES)
    return stem


def moment_of(field: str, value: object) -> float:
    """Seconds since 1970 of a time with zone (ISO 8601), or of such a number."""
    number = _plain_number(value)
    if number is not None:
        if 1e8 <= number < 1e11:
            return number
        raise wrong(field, value, "give seconds (not milliseconds) since 1970")
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
            if moment.tzinfo is None:
                raise wrong(field, value, "add the time zone, as in 2030-01-31T18:00:00+01:00")
            return moment.timestamp()
        except (ValueError, OverflowError):
            pass
    raise wrong(field, value, "give a time as 2030-01-31T18:00:00+01:00, or seconds since 1970")


def _plain_number(value: object) -> float | None:
    """A finite number, also from a text as "10", "+5" or "35 %"; None for anything else."""
    if isinstance(value, bool):
        return None  # to Python, true is the number 1
    if isinstance(value, str):
        literal = value.strip().removesuffix("%").strip()
        if len(literal) > 32 or not _NUMBER.fullmatch(literal):
            return None
        value = float(literal)
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None
