"""Keeps secrets out of the log: known values, and whatever looks like one."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "********"
_SHORT = 6
"""Shorter secrets are masked as whole words only: "abc" must not eat the middle of a word."""

# "api_key=x", "'token': 'x'", "Authorization: Bearer x", "X-API-Key: x", also inside reprs.
# A comma parts a name from its value only where the name is in quotes; else it is a list of names.
_NAMED = re.compile(
    r"""(?P<name>\b(?:x-)?(?:api[_-]?key|(?:access_|auth_)?token|password|authorization)\b)
        (?P<between>["']?\s*[:=]\s*(?:b?["'])?|["']\s*,\s*(?:b?["'])?)
        (?P<scheme>(?:bearer|basic)\s+)?
        (?P<secret>[^\s"'&,;)}\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_BEARER = re.compile(r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)


class SecretFilter(logging.Filter):
    """Masks secrets in a record's message, arguments and traceback.

    It belongs on handlers: a filter on a logger does not see what loggers below it say.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._known: re.Pattern[str] | None = None
        self._values: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these values from now on, too."""
        values = {*self._values, *filter(None, secrets)}
        # The longest first, for one may hold another.
        spelt = {form for value in values for form in _spellings(value)}
        patterns = [_pattern(form) for form in sorted(spelt, key=len, reverse=True)]
        self._values = tuple(values)
        self._known = re.compile("|".join(patterns)) if patterns else None

    def masked(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _NAMED.sub(_without_secret, text)
        return _BEARER.sub(rf"\g<1>{MASK}", text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record in place; it is always let through."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  a wrong log call must not end the caller
            message = f"{record.msg} (not formatted: {type(error).__name__})"
        record.msg, record.args = self.masked(message), None
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters use exc_text where it is set, and never format the traceback again.
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        if record.exc_text:
            record.exc_text = self.masked(record.exc_text)
        if record.stack_info:
            record.stack_info = self.masked(record.stack_info)
        return True


def _spellings(value: str) -> Iterator[str]:
    """As it is written, in a URL, in JSON, and as Python shows a text and its bytes."""
    yield value
    yield quote(value, "")
    yield quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield repr(value.encode(errors="surrogateescape"))[2:-1]


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    return rf"(?<!\w){escaped}(?!\w)" if len(value) < _SHORT else escaped


def _without_secret(found: re.Match[str]) -> str:
    return f"{found['name']}{found['between']}{found['scheme'] or ''}{MASK}"
