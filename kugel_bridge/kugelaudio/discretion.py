"""Keeps the key out of our errors where the service quotes it, as some do when they refuse one."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

from kugel_bridge.kugelaudio.codes import RefusedError
from kugel_bridge.model.errors import BridgeError

MASK = "********"
_BEGINNING = 8
"""Characters that give a key away: a quotation may be cut off in the middle of it."""
_MORE = r"""[^\s"'&,;)}\]]*"""


class Discretion:
    """Takes one key out of errors; without a key there is nothing to take out."""

    def __init__(self, key: str) -> None:
        forms = sorted({key, quote(key, "")}, key=len, reverse=True)
        # Whole words only: a short key of one's own must not eat the middle of a word.
        patterns = [rf"(?<![^\W_]){re.escape(form)}(?![^\W_])" for form in forms]
        patterns += [re.escape(f[:_BEGINNING]) + _MORE for f in forms if len(f) >= _BEGINNING]
        self._key = re.compile("|".join(patterns)) if key else None

    def keep(self, error: BridgeError) -> None:
        """Mask the key in an error's text, and in the refusal it carries."""
        if self._key is None or not error.args:
            return
        error.args = (self._masked(str(error.args[0])), *error.args[1:])
        if isinstance(error, RefusedError) and error.refusal is not None:
            message = self._masked(error.refusal.message)
            error.refusal = dataclasses.replace(error.refusal, message=message)

    def _masked(self, text: str) -> str:
        return text if self._key is None else self._key.sub(MASK, text)
