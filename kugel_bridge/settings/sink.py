"""Where the sound of a zone goes, as one string: `alsa:hw:0`, `wav:/tmp/a.wav`, `null:`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class SinkKind(enum.StrEnum):
    """What takes the sound."""

    ALSA = "alsa"
    WAV = "wav"
    SNAPCAST = "snapcast"
    NULL = "null"


_ALLOWED = '"alsa:<card or PCM name>", "wav:<file>" or "null:"'


@dataclass(frozen=True, slots=True)
class SinkAddress:
    """A kind of sink, and which one of that kind."""

    kind: SinkKind
    address: str
    """Card or PCM name, file, or host; empty for `null`."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"


def parse_sink(text: Any) -> SinkAddress:
    """Read `kind:address`; only the first colon counts, ALSA names have more of them.

    Raises ValueError with the forms that are allowed.
    """
    if isinstance(text, SinkAddress):
        return text
    if not isinstance(text, str):
        raise ValueError(f"must be {_ALLOWED}")  # noqa: TRY004  pydantic wants a ValueError
    kind, _, address = text.strip().partition(":")
    if kind not in list(SinkKind):
        raise ValueError(f"must be {_ALLOWED}")
    if kind == SinkKind.NULL and address:
        raise ValueError('"null:" takes nothing after the colon')
    if kind != SinkKind.NULL and not address.strip():
        raise ValueError(f'needs something after "{kind}:"; it must be {_ALLOWED}')
    return SinkAddress(SinkKind(kind), address.strip())
