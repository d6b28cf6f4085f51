"""The seam behind the gateway: whoever makes the sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.model.pcm import PcmChunk


class Engine(Protocol):
    """Has voices, and speaks with them."""

    def voices(self) -> Sequence[Voice]:
        """What it can speak with; ids are positive and stay the same between versions."""

    def stream(
        self, text: str, voice: Voice, language: str, speed: float
    ) -> AsyncGenerator[PcmChunk, None]:
        """Yield mono 16 bit sound as it is made; raise a BridgeError if there is none.

        `language` is two or three letters, `speed` 0.8 to 1.2. Closing the generator ends the
        work. Several streams may run at the same time.
        """
