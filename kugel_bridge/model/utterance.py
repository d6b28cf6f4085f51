"""One text in one voice: what a speech source is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A cleaned text, and everything that changes how it sounds."""

    text: str
    """Cleaned, NFC; `<break>`, `<spell>` and `<prosody rate>` may be left in it."""
    language: str
    """Two or three letters, as the cloud wants them: `de`, not `de-DE`."""
    voice: str | None = None
    """The cloud's voice: a number as text, or a handle; None = the configured one."""
    speed: float = 1.0
    """0.8 to 1.2; 1.0 is the voice's own."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("an utterance needs a text")
