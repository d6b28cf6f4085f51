"""The seam behind the gateway: whoever makes the sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import SpeechRequest, Usage
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind

Piece = PcmChunk | WordTimings | Usage
"""Mono 16 bit sound, the words of sound given before, or (as the last piece) what it cost."""


@dataclass(slots=True)
class Spoken:
    """A text being spoken: its first sound is already there."""

    source: SourceKind
    pieces: AsyncGenerator[Piece, None]
    """To be closed, also unread; closing it ends the work. Raises a BridgeError where it breaks
    off. Without a Usage in it the sound cost nothing."""
    reason: str = ""
    """Why no better source spoke; empty if this is the best."""


class Engine(Protocol):
    """Has voices, and speaks with them; several texts may be spoken at the same time."""

    async def voices(self) -> Sequence[Voice]:
        """What it can speak with; ids are positive and stay the same between versions.

        Raises a BridgeError while the catalogue cannot be had.
        """

    async def voice(self, ident: int | str) -> Voice | None:
        """The voice with that number (also as text) or handle."""

    async def speak(self, request: SpeechRequest, voice: Voice, language: str) -> Spoken:
        """Begin to speak; returns with the first sound, raises a BridgeError if there is none.

        `language` is the request's or, where it names none, the voice's. `request.delivery` and
        `request.voice_id` are not the engine's business.
        """
